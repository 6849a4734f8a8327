"""The settings of Hidden Positives, and those that follow from the data's size where they are left open.

The published numbers were chosen for three sizes of data, and no rule gives all of them; docs/choosing-classes.md has
the table. The rules here give them where they agree with each other, and stay sane for fifty images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from geohp.methods.settings import Bounds, MethodSettings, Settings, TrainingSize

LOWEST_TEMPERATURE = 1 / 64
"""exp(1 / tau), summed over any number of rows, stays within float32: no maximum has to be subtracted."""
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

Open = Annotated[int | None, Bounds(ge=1, auto=True)]


@dataclass(frozen=True, kw_only=True)
class LearningRates(Settings):
    """AdamW for the head, Adam for the rest; the published values."""

    head: Annotated[float, Bounds(gt=0)] = 5e-4
    projection: Annotated[float, Bounds(gt=0)] = 5e-4
    linear_probe: Annotated[float, Bounds(gt=0)] = 1e-3
    cluster_probe: Annotated[float, Bounds(gt=0)] = 5e-3
    weight_decay: Annotated[float, Bounds(ge=0)] = 0.1


@dataclass(frozen=True, kw_only=True)
class HPSettings(MethodSettings):
    """Hidden Positives (CVPR 2023); symbols of the paper in brackets."""

    name: Literal["hp"] = "hp"
    code_channels: Annotated[int, Bounds(ge=2)] = 256
    """Width of the codes (D)."""
    temperature: Annotated[float, Bounds(ge=LOWEST_TEMPERATURE)] = 0.4
    """Softmax temperature of the contrastive loss (tau)."""
    consistency_weight: Annotated[float, Bounds(ge=0)] = 0.0
    """Weight of the photometric consistency term (alpha); 0 skips the augmented view altogether."""
    keep_rate: Annotated[float, Bounds(ge=0, le=1)] = 1.0
    """Share of non-positives that stay in the denominator (rho)."""
    pool_size: Open = None
    """Rows of each reference pool (R); ``auto`` goes by the number of images."""
    ema_momentum: Annotated[float, Bounds(ge=0, lt=1)] = 0.999
    """Momentum of the averaged head (m)."""
    warmup_steps: Annotated[int | None, Bounds(ge=0, auto=True)] = None
    """Steps before task-specific positives come in; their weight (lambda) then grows linearly to 1. ``auto`` goes by
    the number of steps."""
    renew_interval: Open = None
    """Steps of an epoch between refills of the task-specific pool; ``auto`` goes by the steps of an epoch."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1
    """Share of channels dropped, per image."""
    task_agnostic_positives: bool = True
    """Positives of a patch are those with similar features (GHP). Without these and task-specific ones nothing is
    discovered: a patch's only positive is itself in an augmented view (naive contrast)."""
    task_specific_positives: bool = True
    """So are those with similar codes of the averaged head (GHP), weighted by lambda; alone they count from the first
    step on, since nothing else does."""
    symmetric_positives: bool = True
    """Two patches are positives of each other where either finds the other; false: a patch's are those it finds."""
    local_positives: bool = True
    """The loss is that of the codes and that of codes mixed with adjacent patches' (LHP); false: of the codes alone."""
    reweight: bool = True
    """Weight each anchor by how many positives it found."""
    refit_probe: bool = True
    """Settle the clusters by k-means on the trained codes; false keeps the published gradient-trained probe."""
    learning_rates: LearningRates = LearningRates()
    clip_norm: Annotated[float, Bounds(gt=0)] = 10.0
    """Largest gradient norm of the head."""

    @property
    def discovers(self) -> bool:
        """Whether there are global hidden positives."""
        return self.task_agnostic_positives or self.task_specific_positives

    @property
    def left_out(self) -> tuple[str, ...]:
        """Which kinds of positives there are not, in words."""
        switches = {
            "task-agnostic positives": self.task_agnostic_positives,
            "task-specific positives": self.task_specific_positives,
            "symmetric positives": self.symmetric_positives or not self.discovers,
            "local positives": self.local_positives,
        }
        return tuple(kind for kind, there in switches.items() if not there)

    def resolve(self, size: TrainingSize) -> tuple[HPSettings, list[str]]:
        """Open numbers by the rules of this module; a pool with more rows than there are images shrinks."""
        pool, notes = _pool_size(self.pool_size, size.images)
        warmup, of_warmup = _warmup_steps(self.warmup_steps, size.total_steps)
        interval, of_interval = _renew_interval(self.renew_interval, size.steps)
        resolved = replace(self, pool_size=pool, warmup_steps=warmup, renew_interval=interval)
        if self.left_out:
            notes = [f"without {', '.join(self.left_out)}", *notes]
        if not self.discovers:
            return resolved, [notes[0], "each patch is contrasted with itself in an augmented view alone"]
        if not self.task_specific_positives:
            return resolved, notes
        notes += [*(of_warmup if self.task_agnostic_positives else []), *of_interval]
        if size.steps < 2 <= size.images and size.batch_size > 1:
            notes.append(
                f"an epoch of {size.images} images in batches of {size.batch_size * size.devices} is a single step, so "
                "that the task-specific pool is never refilled; a train.batch_size of "
                f"{max(1, size.images // (8 * size.devices))} would make it eight"
            )
        return resolved, notes


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


def _pool_size(pool: int | None, images: int) -> tuple[int, list[str]]:
    """The rows of a pool, and what has been decided."""
    if pool is None:
        pool = pool_size_for(images)
        rows = f"reference pools of {_counted(pool, 'patch', 'patches')}"
        return pool, [f"{rows}, one an image, from {_counted(images, 'image')}"]
    if pool <= images:
        return pool, []
    return images, [
        f"reference pools of {_counted(images, 'patch', 'patches')} instead of method.pool_size = {pool}: "
        f"each row is a patch of another image, and there are {images}"
    ]


def _warmup_steps(warmup: int | None, total: int) -> tuple[int, list[str]]:
    """The steps of warm-up, and what has been decided."""
    if warmup is None:
        warmup = warmup_for(total)
        return warmup, [f"warm-up of {_counted(warmup, 'step')} of {total}"]
    if warmup < total:
        return warmup, []
    return warmup, [
        f"method.warmup_steps = {warmup} is all of the {_counted(total, 'step')}: task-specific positives never "
        f"count; {warmup_for(total)} would be usual"
    ]


def _renew_interval(interval: int | None, steps: int) -> tuple[int, list[str]]:
    """The steps between refills, and what has been decided."""
    if interval is None:
        interval = renew_interval_for(steps)
        return interval, [f"task-specific pool refilled every {_counted(interval, 'step')} of an epoch's {steps}"]
    if not interval >= steps > 1:
        return interval, []
    return interval, [
        f"method.renew_interval = {interval} is beyond an epoch's {_counted(steps, 'step')}: the task-specific "
        f"pool is never refilled; {renew_interval_for(steps)} would be usual"
    ]


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _counted(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
