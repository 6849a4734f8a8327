"""The package's own training loop on made-up images, watched."""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.profiler import profile

from benchmarks.gpu.measurement import Measurement, activity
from benchmarks.gpu.problems import CLASSES, MadeUpImages
from benchmarks.measuring import synchronise
from geohp.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, PatchFeatures
from geohp.data.augment import Augmentation
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings
from geohp.progress import Progress, no_progress
from geohp.training.health import Health
from geohp.training.loop import run_training
from geohp.training.task import MethodTask

_ROOM_BYTES = float(1 << 40)


class Pooled(Backbone):
    """A stand-in for a transformer that costs nothing: patches averaged, and multiplied by a random matrix."""

    name, block = "pooled", -1
    in_channels, mean, std = 3, IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, patch_px: int, channels: int) -> None:
        super().__init__()
        self.patch_size, self.channels = patch_px, channels
        torch.manual_seed(0)
        self.register_buffer("matrix", torch.randn(channels, 3))

    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features, and equal affinities of all neighbours."""
        colours = nn.functional.avg_pool2d(images, self.patch_size)
        features = torch.einsum("bchw,dc->bdhw", colours, self.matrix.to(colours.dtype))
        features = features + 0.5 * torch.randn_like(features)
        weights = features.new_full((len(images), features[0, 0].numel(), 9), 0.5) if affinities else None
        return PatchFeatures(features, weights)

    def options(self) -> dict[str, Any]:
        """None."""
        return {}


class StepClock(L.Callback):
    """Times steps, watches some of them under a profiler, and some for waits of the host for the card.

    Args:
        device: ``cuda`` or ``cpu``.
        profiled: first and last step under the profiler; they are not timed.
        strict: first and last step in which waits are warned of; they end the training.

    Attributes:
        profiler: after its steps; ``None`` where there were none.
        wall: seconds that those took.
        start: seconds from its making to the first step's images; 0 before.
    """

    def __init__(
        self, device: str, *, profiled: tuple[int, int] | None = None, strict: tuple[int, int] | None = None
    ) -> None:
        self.device, self._profiled, self._strict = device, profiled, strict
        self.profiler: Any = None
        self.wall = self.start = 0.0
        self._made = time.perf_counter()
        self._marks: list[Any] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before a step."""
        self.start = self.start or time.perf_counter() - self._made
        step = pl_module.steps_done  # type: ignore[attr-defined]
        if self._strict and step == self._strict[0] and self.device != "cpu":
            torch.cuda.set_sync_debug_mode("warn")
        if self._profiled and step == self._profiled[0]:
            synchronise(self.device)
            self.profiler = profile(activities=[activity(self.device)])
            self.profiler.__enter__()
            self.wall = -time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """After a step."""
        step = pl_module.steps_done - 1  # type: ignore[attr-defined]
        if self._strict and step == self._strict[1] and self.device != "cpu":
            torch.cuda.set_sync_debug_mode("default")
            trainer.should_stop = True
        if self._profiled and step == self._profiled[1]:
            synchronise(self.device)
            self.wall += time.perf_counter()
            self.profiler.__exit__(None, None, None)
        if self.device == "cpu":
            self._marks.append(time.perf_counter())
        else:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
            self._marks.append(mark)

    def seconds(self, skip: int = 0) -> list[float]:
        """Of every step but the first ones."""
        synchronise(self.device)
        marks = self._marks[skip:]
        if self.device == "cpu":
            return [b - a for a, b in itertools.pairwise(marks)]
        return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)]


def sampler(
    m: Measurement, backbone: Backbone, count: int, *, augmented: bool = False, workers: int = 0
) -> FeatureSampler:
    """Made-up images through a backbone."""
    augmentation = Augmentation(("crop", "flip", "turn", "colour"), 0) if augmented else None
    return FeatureSampler(
        MadeUpImages(count, m.sizes.image_px),
        backbone.to(m.device).eval(),
        batch_size=m.sizes.images,
        workers=workers,
        augmentation=augmentation,
    )


def cache(features: FeatureSampler, progress: Progress = no_progress) -> None:
    """Compute all features, and keep them in memory: the card's, where there is room."""
    features.cache(CacheOptions("memory", _ROOM_BYTES), progress)


def train(m: Measurement, features: FeatureSampler, epochs: int, callbacks: Sequence[L.Callback] = ()) -> MethodTask:
    """All steps of the published method, by the loop that ``geohp train`` runs."""
    torch.manual_seed(0)
    settings = HPSettings(code_channels=m.sizes.codes, pool_size=m.sizes.pool, warmup_steps=2)
    method = HP(features.backbone.channels, CLASSES, settings, label_classes=CLASSES).to(m.device)
    method.prepare(features.sample)
    steps = epochs * len(features.batches())
    task = MethodTask(method, features, steps)
    options: Any = SimpleNamespace(
        epochs=epochs, max_steps=None, devices=1, precision="bf16" if m.on_card else "32", deterministic=False,
        loggers=(), checkpoint_minutes=60.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="geohp-gpu-") as folder:
        run_training(task, options, Path(folder), callbacks=[Health(), *callbacks])
    return task


def waits(m: Measurement, features: FeatureSampler, epochs: int, steps: tuple[int, int]) -> list[str]:
    """Where the host waits for the card in some steps of training, and how often."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(m, features, epochs, [StepClock(m.device, strict=steps)])
    places = Counter(
        f"{Path(warning.filename).parent.name}/{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if "called a synchronizing" in str(warning.message)
    )
    return [f"{place} ({count} times)" for place, count in places.most_common()]
