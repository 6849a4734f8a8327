"""Confusion counted over a set of images; a count that was stopped goes on, and ends at the same numbers."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores
from geohp.evaluation.predict import PredictionMode
from geohp.files.atomic import atomic_write
from geohp.progress import Progress, no_progress

_SAVED_EVERY = 20
"""Batches between two writes of the counts: they are small, but a disk may be far away."""


class ConfusionCounts:
    """What has been counted so far: pixels by cluster and class for every mode, and of how many images.

    Args:
        classes: number of classes of the labels.
        clusters: number of clusters of the cluster probe.
        modes: of the predictions to count.

    Attributes:
        images: how many images have been counted.
    """

    def __init__(self, classes: int, clusters: int, modes: Sequence[PredictionMode]) -> None:
        self.images = 0
        # A training of several processes scores in one of them; to sum over all would wait for the others forever.
        self._metrics = {
            mode: SegmentationMetrics(classes, matching="identity", sync_on_compute=False)
            if mode.probe == "linear"
            else SegmentationMetrics(classes, clusters, sync_on_compute=False)
            for mode in modes
        }

    def add(self, labels: Mapping[PredictionMode, Tensor], masks: Tensor) -> None:
        """Count a batch: labels (B, H, W) of every mode against masks (B, H, W)."""
        for mode, metrics in self._metrics.items():
            metrics.update(labels[mode].cpu(), masks)
        self.images += len(masks)

    def scores(self) -> dict[PredictionMode, SegmentationScores]:
        """Accuracy, mean IoU and the rest of every mode, over everything counted."""
        return {mode: metrics.compute() for mode, metrics in self._metrics.items()}

    def save(self, path: Path) -> None:
        """Write the counts whole or not at all."""
        arrays: dict[str, Any] = {str(mode): metrics.confusion.numpy() for mode, metrics in self._metrics.items()}
        with atomic_write(path) as draft, draft.open("wb") as file:
            np.savez(file, **arrays, images=np.int64(self.images))

    def load(self, path: Path) -> None:
        """Go on from counts that :meth:`save` wrote; damaged or other ones are passed over."""
        try:
            with np.load(path, allow_pickle=False) as file:
                images = int(file["images"])
                saved = {mode: torch.from_numpy(file[str(mode)]) for mode in self._metrics}
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile):
            return
        if all(saved[mode].shape == metrics.confusion.shape for mode, metrics in self._metrics.items()):
            self.images = images
            for mode, metrics in self._metrics.items():
                metrics.update(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))  # no longer new
                metrics.confusion.copy_(saved[mode])


def count_confusion(
    coded: CodedImages,
    classes: int,
    *,
    counts_file: Path | None = None,
    stage: str = "evaluating",
    progress: Progress = no_progress,
) -> ConfusionCounts:
    """Count all images, which have masks of so many classes, that have not been counted yet.

    ``counts_file`` holds an unfinished count, to go on from; the caller removes it. Images done are reported under
    ``stage``.
    """
    counts = ConfusionCounts(classes, coded.predictor.probe.classes, coded.predictor.modes)
    if counts_file is not None:
        counts.load(counts_file)
    for number, (labels, masks) in enumerate(coded.predictions(counts.images), start=1):
        counts.add(labels, masks)
        if counts_file is not None and (number % _SAVED_EVERY == 0 or counts.images == len(coded)):
            counts.save(counts_file)
        progress(stage, counts.images, len(coded))
    return counts
