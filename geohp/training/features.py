"""Training images as frozen features: computed once and kept in memory where they fit, anew each epoch otherwise.

The backbone is frozen and the images are not augmented at random, so their features and affinities never change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from geohp.backbones.base import Backbone, PatchFeatures

logger = logging.getLogger(__name__)

ImageSet = Dataset[dict[str, Any]]
"""Items ``{"image": (bands, H, W) float32 in [0, 1]}``, and ``"label"`` (H, W) where there are labels."""


class FeatureSource:
    """Images seen through a frozen backbone.

    Args:
        images: the training images, all of one size.
        backbone: fitted, on its device.
        batch_size: images a step.
        workers: processes that read images.
        seed: of all shuffling.
        keep_images: batches carry the images also where features are cached (for augmented views).
    """

    def __init__(
        self,
        images: ImageSet,
        backbone: Backbone,
        *,
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
        keep_images: bool = False,
    ) -> None:
        self.images, self.backbone = images, backbone
        self.batch_size, self.workers = batch_size, workers
        self.keep_images = keep_images
        self._cached: PatchFeatures | None = None
        self._generator = Generator().manual_seed(seed)
        self._pool_generator = Generator().manual_seed(seed + 1)
        self._mean, self._std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))

    def __len__(self) -> int:
        return len(cast(Any, self.images))

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        return next((b.device for b in (*self.backbone.parameters(), *self.backbone.buffers())), torch.device("cpu"))

    def cache(self, limit_bytes: float, progress: Callable[[int, int], None] | None = None) -> bool:
        """Compute all features now, if they need no more than ``limit_bytes``; tells whether they are cached."""
        first = self.features(cast(Any, self.images)[0]["image"][None])
        sizes = [t.numel() * t.element_size() for t in (first.features, first.affinities) if t is not None]
        needed = sum(sizes) * len(self)
        if needed > limit_bytes:
            logger.info("features need %.1f GiB, more than cache_gib: computed anew every epoch", needed / 2**30)
            return False
        assert first.affinities is not None
        features = torch.empty(len(self), *first.features.shape[1:])
        affinities = torch.empty(len(self), *first.affinities.shape[1:])
        done = 0
        for batch in self._loader(self.images, shuffle=False):
            patches = self.features(batch["image"])
            assert patches.affinities is not None
            stop = done + len(patches.features)
            features[done:stop] = patches.features.cpu()
            affinities[done:stop] = patches.affinities.cpu()
            done = stop
            if progress:
                progress(done, len(self))
        self._cached = PatchFeatures(features, affinities)
        return True

    def features(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features of images (B, bands, H, W) in [0, 1], on the backbone's device."""
        normalised = (images - self._mean.to(images.device)) / self._std.to(images.device)
        return cast(PatchFeatures, self.backbone(normalised.to(self.device), affinities=affinities))

    def normalised(self, count: int) -> Iterator[Tensor]:
        """Normalised batches (B, bands, H, W) of up to ``count`` shuffled images: what a backbone is fitted on."""
        for batch in self._loader(self._some(count), shuffle=False):
            yield ((batch["image"] - self._mean) / self._std).to(self.device)

    def batches(self) -> DataLoader[Any]:
        """One epoch in random order: dicts with ``image`` or ``features`` and ``affinities``, and ``label`` if any."""
        dataset = self.images if self._cached is None else _CachedItems(self.images, self._cached, self.keep_images)
        return self._loader(dataset, shuffle=True, drop_last=len(self) >= self.batch_size)

    def patches(self, batch: dict[str, Tensor]) -> PatchFeatures:
        """The features of a batch of :meth:`batches`, cached or computed now."""
        if "features" in batch:
            return PatchFeatures(batch["features"].to(self.device), batch["affinities"].to(self.device))
        return self.features(batch["image"])

    def sample(self, count: int) -> Iterator[Tensor]:
        """Feature maps (B, C, h, w) of up to ``count`` images, freshly shuffled."""
        if self._cached is not None:
            order = self._order(count)
            for part in torch.split(order, self.batch_size):
                yield self._cached.features[part].to(self.device)
            return
        for batch in self._loader(self._some(count), shuffle=False):
            yield self.features(batch["image"], affinities=False).features

    def _order(self, count: int) -> Tensor:
        return torch.randperm(len(self), generator=self._pool_generator)[:count]

    def _some(self, count: int) -> Dataset[dict[str, Any]]:
        return Subset(self.images, self._order(count).tolist())

    def _loader(self, dataset: Dataset[dict[str, Any]], *, shuffle: bool, drop_last: bool = False) -> DataLoader[Any]:
        # What is cached is in this process already: more of them would only copy it.
        workers = 0 if isinstance(dataset, _CachedItems) and not self.keep_images else self.workers
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=workers,
            generator=self._generator if shuffle else None,
        )


class _CachedItems(Dataset[dict[str, Any]]):
    """The images' features by index, and the images themselves where asked for."""

    def __init__(self, images: ImageSet, cached: PatchFeatures, keep_images: bool) -> None:
        self.images, self.cached, self.keep_images = images, cached, keep_images

    def __len__(self) -> int:
        return len(self.cached.features)

    def __getitem__(self, index: int) -> dict[str, Any]:
        assert self.cached.affinities is not None
        item = dict(self.images[index]) if self.keep_images else {}
        item.update(features=self.cached.features[index], affinities=self.cached.affinities[index])
        return item
