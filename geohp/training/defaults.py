"""Settings that follow from the data's size: how many epochs, and what the method leaves open."""

from __future__ import annotations

import math
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
    size = TrainingSize(images, train.batch_size, train.devices, train.epochs or 1, train.max_steps)
    if train.epochs is None:
        size = replace(size, epochs=epochs_for(size.steps, train.max_steps))
        if config.method.iterative:
            notes.append(_planned(size))
    method, further = config.method.resolve(size)
    if config.method.iterative:
        train = train.model_copy(update={"epochs": size.epochs})
    else:
        notes += _without_effect(config)
        train = train.model_copy(update={"augment": []})  # which would have features computed anew for every look
    return config.model_copy(update={"train": train, "method": method}), [*notes, *further]


def epochs_for(steps: int, max_steps: int | None = None) -> int:
    """As many epochs of so many steps as make about 700 steps: at least 3, at most 50.

    Where the number of steps is given, as many as they take.
    """
    if max_steps is not None:
        return math.ceil(max_steps / steps)
    fewest, most = _EPOCHS
    return max(fewest, min(round(_STEPS / steps), most))


def _without_effect(config: Config) -> list[str]:
    """What is set for steps that there are not."""
    keys = [f"train.{key}" for key in ("epochs", "max_steps", "score_every", "augment") if getattr(config.train, key)]
    return [f"method {config.method.name} takes no steps: {', '.join(keys)} without effect"] if keys else []


def _planned(size: TrainingSize) -> str:
    """How long training takes, in words."""
    steps = "1 step" if size.steps == 1 else f"{size.steps} steps"
    batches = f"({size.images} images in batches of {size.batch_size * size.devices})"
    if size.max_steps is not None:
        return f"{size.total_steps} steps; an epoch has {size.steps} {batches}"
    return f"{size.epochs} epochs of {steps} {batches}"
