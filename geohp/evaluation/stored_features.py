"""What backbones make of labelled images: encoded once, and read by every model, seed and probe that comes after."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geohp.backbones.base import Backbone
from geohp.data.base import ImageSet, ImageSetView, Item
from geohp.errors import DataError
from geohp.evaluation.predict import in_whole_patches
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
from geohp.progress import Progress, no_progress
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles


class SeenImages(ImageSetView):
    """Images as a backbone sees them, with their labels as they are.

    Args:
        images: any set.
        patch_px: side of the backbone's patches; images are resized to whole ones.
        mirrored: left and right change places; labels are left out, since they would be others.
    """

    kind = "geohp.evaluation.SeenImages"

    def __init__(self, images: ImageSet, patch_px: int, *, mirrored: bool = False) -> None:
        super().__init__(images)
        self.patch_px, self.mirrored = patch_px, mirrored
        self.labelled, self.segmented = images.labelled and not mirrored, False

    def __getitem__(self, index: int) -> Item:
        item = self.images[index]
        image = in_whole_patches(item["image"][None], self.patch_px)[0]
        if self.mirrored:
            return {"image": image.flip(2)}
        return {"image": image, "mask": item["mask"]}

    def identity(self) -> str:
        """Of the images, and how they are seen."""
        return hashlib.sha256(f"{self.images.identity()} {self.patch_px} {self.mirrored}".encode()).hexdigest()


@dataclass(frozen=True)
class StoredFeatures:
    """Features of labelled images, kept on disk.

    Attributes:
        plain: of the images as they are, with their labels.
        mirrored: of their mirror images; ``None`` where nobody asks for them.
    """

    plain: FeatureSampler
    mirrored: FeatureSampler | None = None


@dataclass(frozen=True)
class StoredCodes:
    """What a head makes of stored features.

    Attributes:
        features: of the images.
        head: features (B, C, h, w) to codes (B, D, h, w), on their device.
    """

    features: StoredFeatures
    head: nn.Module

    @torch.no_grad()
    def codes(self, numbers: Tensor) -> Tensor:
        """Codes (B, D, h, w) float32 of images by their numbers (B,) int64, averaged over both views."""
        codes = self._codes(self.features.plain, numbers)
        if self.features.mirrored is None:
            return codes
        return (codes + self._codes(self.features.mirrored, numbers).flip(3)) / 2

    def labels(self, numbers: Tensor) -> Tensor:
        """Their labels (B, H, W) int64, 255 where unknown."""
        return self.features.plain.labels(numbers)

    def _codes(self, sampler: FeatureSampler, numbers: Tensor) -> Tensor:
        # All images can be read, so that their places are their numbers.
        codes: Tensor = self.head(torch.cat(list(sampler.maps(numbers)))).float()
        return codes


def store_features(
    images: ImageSet,
    backbone: Backbone,
    options: CacheOptions,
    *,
    mirrored: bool = False,
    batch_size: int = 16,
    workers: int = 0,
    unchanged: UnchangedFiles = NOTHING_TO_WATCH,
    progress: Progress = no_progress,
) -> StoredFeatures | None:
    """Features of labelled images, of an earlier evaluation or computed now.

    Args:
        images: with labels.
        backbone: fitted, on its device.
        options: where features may be kept.
        mirrored: those of the mirror images, too.
        batch_size: images at a time.
        workers: processes that read images.
        unchanged: tells whether their files are still what they were, before features of theirs are kept.
        progress: of the images encoded.

    Returns:
        ``None`` where they are not to be kept, there is no room for them, or an image cannot be read: whoever reads
        the images themselves then says which.

    Raises:
        ChangedError: images have changed meanwhile.
    """
    samplers = []
    for mirror in (False, True) if mirrored else (False,):
        seen = SeenImages(images, backbone.patch_size, mirrored=mirror)
        # As those that are not kept: exact.
        sampler = FeatureSampler(
            seen,
            backbone,
            batch_size=batch_size,
            workers=workers,
            affinities=False,
            exact=True,
            unchanged=unchanged,
        )
        try:
            kept = sampler.cache(options, progress)
        except DataError:
            return None
        if not kept or len(sampler) < len(images):
            return None
        samplers.append(sampler)
    return StoredFeatures(*samplers)
