"""Settings that follow from the data's size: epochs, pools, warm-up and refills where a configuration leaves them open.

The published settings were chosen for three sizes of data, and no rule gives all of them; docs/choosing-classes.md has
the table. The rules here give them where they agree with each other, and stay sane for fifty images.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from geohp.config.experiment import Config, HPConfig

_STEPS = 700
"""Steps a training should have: Potsdam-3 has 710."""
_EPOCHS = (3, 50)
_POOL = (1024, 2048)
"""Rows of a pool between which the published settings lie."""
_IMAGES_A_ROW = 4
"""Images there must be for each row of a pool before it grows beyond the lower bound."""
_LONGEST_WARMUP = 1000
_WARMUP_SHARE = 7
"""One step in so many is warm-up."""
_RENEWALS = 40
"""Refills of the task-specific pool an epoch, as far as the interval stays within its bounds."""
_INTERVAL = (20, 100)


def resolve(config: Config, images: int, *, devices: int = 1) -> tuple[Config, list[str]]:
    """The configuration with every ``auto`` turned into a number, and what has been decided.

    Args:
        config: as written; numbers in it stay as they are, but for a pool with more rows than there are images.
        images: that are trained on.
        devices: that share them, each taking ``train.batch_size`` a step.

    Returns:
        The configuration to train with, and one line for each number that was derived, changed, or has no effect.
    """
    method, said = config.method, list[str]()
    batch = config.train.batch_size * devices
    # Images that fill no batch are left out, unless there is no whole batch at all.
    steps = max(1, images // batch)
    epochs = _given(config.train, "epochs")
    if epochs is None:
        epochs = epochs_for(steps)
        if isinstance(method, HPConfig):
            said.append(f"{epochs} epochs of {_counted(steps, 'step')} ({images} images in batches of {batch})")
    train = config.train.model_copy(update={"epochs": epochs})
    if isinstance(method, HPConfig):
        method = method.model_copy(update=_of_hp(method, images, steps, epochs, said))
        if steps < 2 <= images and config.train.batch_size > 1:
            said.append(
                f"an epoch of {images} images in batches of {batch} is a single step, so that the task-specific pool "
                f"is never refilled; a train.batch_size of {max(1, images // (8 * devices))} would make it eight"
            )
    return config.model_copy(update={"train": train, "method": method}), said


def epochs_for(steps: int) -> int:
    """As many epochs of so many steps as make about 700 steps: at least 3, at most 50."""
    return _within(round(_STEPS / steps), *_EPOCHS)


def pool_size_for(images: int) -> int:
    """Rows of a reference pool: one of every image up to 1024, and 2048 from 8192 images on."""
    grown = 1 << max(0, (images // _IMAGES_A_ROW).bit_length() - 1)  # a power of two
    return min(images, _within(grown, *_POOL))


def warmup_for(total_steps: int) -> int:
    """Steps of warm-up: a seventh of all, at most 1000, to two significant digits."""
    share = min(total_steps // _WARMUP_SHARE, _LONGEST_WARMUP)
    unit = int(10 ** max(0, len(str(share)) - 2))
    return share // unit * unit


def renew_interval_for(steps: int) -> int:
    """Steps between refills: a fortieth of an epoch in tens, 20 to 100, but half an epoch where that is less."""
    return max(1, min(_within(10 * round(steps / _RENEWALS / 10), *_INTERVAL), steps // 2))


def _of_hp(method: HPConfig, images: int, steps: int, epochs: int, said: list[str]) -> dict[str, Any]:
    """The open settings of HP; tells of them."""
    pool, warmup, interval = method.pool_size, method.warmup_steps, method.renew_interval
    total = steps * epochs
    if pool is None:
        pool = pool_size_for(images)
        said.append(f"reference pools of {_counted(pool, 'patch', 'patches')}, one an image, from {images} images")
    elif pool > images:
        said.append(
            f"reference pools of {_counted(images, 'patch', 'patches')} instead of method.pool_size = {pool}: "
            f"each row is a patch of another image, and there are {images}"
        )
        pool = images
    if warmup is None:
        warmup = warmup_for(total)
        said.append(f"warm-up of {_counted(warmup, 'step')} of {total}")
    elif warmup >= total:
        said.append(
            f"method.warmup_steps = {warmup} is all of the {_counted(total, 'step')}: task-specific positives never "
            f"count; {warmup_for(total)} would be usual"
        )
    if interval is None:
        interval = renew_interval_for(steps)
        said.append(f"task-specific pool refilled every {_counted(interval, 'step')} of an epoch's {steps}")
    elif interval >= steps > 1:
        said.append(
            f"method.renew_interval = {interval} is beyond an epoch's {_counted(steps, 'step')}: the task-specific "
            f"pool is never refilled; {renew_interval_for(steps)} would be usual"
        )
    return {"pool_size": pool, "warmup_steps": warmup, "renew_interval": interval}


def _given(section: BaseModel, key: str) -> int | None:
    """A number, or ``None`` where it was left open."""
    value: int | None = getattr(section, key)
    return value


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _counted(number: int, what: str, several: str | None = None) -> str:
    return f"{number} {what if number == 1 else several or what + 's'}"
