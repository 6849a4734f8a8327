"""Settings that follow from the data's size: how many epochs, and what the method leaves open."""

from __future__ import annotations

from dataclasses import replace

from geohp.config.experiment import Config
from geohp.methods.settings import TrainingSize

_STEPS = 700
"""Steps a training should have: Potsdam-3 has 710."""
_EPOCHS = (3, 50)


def resolve(config: Config, images: int) -> tuple[Config, list[str]]:
    """The configuration with every ``auto`` turned into a number, and what has been decided.

    Args:
        config: as written; numbers in it stay as they are, unless the method cannot use them.
        images: that are trained on.

    Returns:
        The configuration to train with, and one line for each number that was derived, changed, or has no effect.
    """
    train, notes = config.train, list[str]()
    size = TrainingSize(images, train.batch_size, train.devices, epochs=train.epochs or 1)
    if train.epochs is None:
        size = replace(size, epochs=epochs_for(size.steps))
        if config.method.iterative:
            steps = "1 step" if size.steps == 1 else f"{size.steps} steps"
            batch = size.batch_size * size.devices
            notes.append(f"{size.epochs} epochs of {steps} ({images} images in batches of {batch})")
    method, further = config.method.resolve(size)
    train = train.model_copy(update={"epochs": size.epochs})
    return config.model_copy(update={"train": train, "method": method}), [*notes, *further]


def epochs_for(steps: int) -> int:
    """As many epochs of so many steps as make about 700 steps: at least 3, at most 50."""
    fewest, most = _EPOCHS
    return max(fewest, min(round(_STEPS / steps), most))
