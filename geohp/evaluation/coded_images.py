"""Labelled images and their codes, a batch at a time: computed now, or stored by an earlier evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from geohp.data.base import ImageSet, Item, reader_options
from geohp.evaluation.predict import PredictionMode, Predictor
from geohp.evaluation.stored_features import StoredCodes

Prediction = tuple[Mapping[PredictionMode, Tensor], Tensor]
"""Labels (B, H, W) of every mode, and the true ones."""


@dataclass(frozen=True, kw_only=True)
class CodedImages:
    """Images of which a predictor's codes are to be scored.

    Attributes:
        images: with labels.
        predictor: gives codes, and reads labels off them.
        stored: the images' codes, where they are kept: the predictor's encoder is not asked then.
        batch_size: images at a time.
        workers: processes that read images.
    """

    images: ImageSet
    predictor: Predictor
    stored: StoredCodes | None = None
    batch_size: int = 16
    workers: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, start: int = 0) -> Iterator[Item]:
        """Images from number ``start`` on, as they are read."""
        rest = Subset(self.images, range(start, len(self)))
        yield from DataLoader(rest, batch_size=self.batch_size, **reader_options(self.workers))

    def with_codes(self, start: int = 0) -> Iterator[tuple[Item, Tensor]]:
        """The same, images on the predictor's device, with their codes (B, D, h, w)."""
        for batch in self.batches(start):
            batch["image"] = batch["image"].to(self.predictor.device)
            numbers = torch.arange(start, start := start + len(batch["image"]))
            yield batch, self.predictor.codes(batch["image"]) if self.stored is None else self.stored.codes(numbers)

    def predictions(self, start: int = 0) -> Iterator[Prediction]:
        """Of images from number ``start`` on; where codes are stored, images are read only if they are looked at."""
        if self.stored is None or self.predictor.looks_at_images:
            for batch, codes in self.with_codes(start):
                yield self.predictor.read(codes, batch["image"].shape[-2:], batch["image"]), batch["mask"]
            return
        for first in range(start, len(self), self.batch_size):
            numbers = torch.arange(first, min(first + self.batch_size, len(self)))
            masks = self.stored.labels(numbers)
            yield self.predictor.read(self.stored.codes(numbers), masks.shape[-2:]), masks
