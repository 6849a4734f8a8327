"""Counting over a whole set of images, so that a stopped count goes on where it was and ends at the same numbers."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from geohp.data.base import ImageSet
from geohp.data.loader import reader_options
from geohp.errors import OutputError
from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores
from geohp.evaluation.predict import Reader, Readout

_KEPT_EVERY = 20
"""Batches between two writes of the counts: they are small, but a disk may be far away."""


class Counting:
    """What has been counted so far: pixels by cluster and class for every readout, and of how many images.

    Args:
        classes: number of classes of the labels.
        clusters: number of clusters of the cluster probe.
        readouts: the ways of reading to count.

    Attributes:
        images: how many images have been counted.
    """

    def __init__(self, classes: int, clusters: int, readouts: Sequence[Readout]) -> None:
        self.images = 0
        self._metrics = {
            readout: SegmentationMetrics(classes, matching="identity")
            if readout.probe == "linear"
            else SegmentationMetrics(classes, clusters)
            for readout in readouts
        }

    def add(self, labels: dict[Readout, torch.Tensor], masks: torch.Tensor) -> None:
        """Count a batch: labels (B, H, W) of every readout against masks (B, H, W)."""
        for readout, metrics in self._metrics.items():
            metrics.update(labels[readout].cpu(), masks)
        self.images += len(masks)

    def scores(self, readout: Readout) -> SegmentationScores:
        """Accuracy, mean IoU and the rest over everything counted."""
        scores: SegmentationScores = self._metrics[readout].compute()
        return scores

    def save(self, path: Path) -> None:
        """Write the counts whole or not at all.

        Raises:
            OutputError: they cannot be written.
        """
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        arrays: dict[str, Any] = {str(readout): metrics.confusion.numpy() for readout, metrics in self._metrics.items()}
        try:
            with draft.open("wb") as file:
                np.savez(file, **arrays, images=np.int64(self.images))
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise OutputError(f"{path}: counts cannot be kept ({error.strerror}); free some space there") from error

    def load(self, path: Path) -> None:
        """Go on from counts that :meth:`save` wrote; damaged or other ones are passed over."""
        try:
            with np.load(path, allow_pickle=False) as file:
                images = int(file["images"])
                kept = {readout: torch.from_numpy(file[str(readout)]) for readout in self._metrics}
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return
        if all(kept[readout].shape == metrics.confusion.shape for readout, metrics in self._metrics.items()):
            self.images = images
            for readout, metrics in self._metrics.items():
                metrics.update(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))  # no longer new
                metrics.confusion.copy_(kept[readout])


def count(
    reader: Reader,
    images: ImageSet,
    counting: Counting,
    *,
    device: torch.device,
    batch_size: int = 16,
    workers: int = 0,
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Counting:
    """Count all images that have not been counted yet.

    Args:
        reader: reads labels off images.
        images: with masks.
        counting: where to count; goes on from what ``keep`` holds.
        device: where the reader computes.
        batch_size: images at a time.
        workers: processes that read images.
        keep: file for the counts of an unfinished count; left to the caller to remove.
        progress: told of the images done and their number.
    """
    if keep is not None:
        counting.load(keep)
    todo = Subset(images, range(counting.images, len(images)))
    loader = DataLoader(todo, batch_size=batch_size, **reader_options(workers))
    for number, batch in enumerate(loader, start=1):
        counting.add(reader(batch["image"].to(device)), batch["mask"])
        if keep is not None and number % _KEPT_EVERY == 0:
            counting.save(keep)
        if progress:
            progress(counting.images, len(images))
    if keep is not None and len(todo):
        counting.save(keep)
    return counting
