"""Frozen features of training images, in the order that training asks for them.

The backbone is frozen and the images are not augmented at random, so their features and affinities never change: they
are computed once and kept where there is room, anew each epoch otherwise.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from geohp.backbones.base import Backbone, PatchFeatures
from geohp.data.augment import Augmentation
from geohp.data.base import ImageSet, reader_options
from geohp.errors import DataError
from geohp.features.encoder import FrozenEncoder
from geohp.features.epochs import EpochOrder, shuffled
from geohp.features.filling import CacheOptions, FeatureJob, fill_store
from geohp.features.host_copy import HostCopy
from geohp.features.images import ImageBatch, IndexedImages, SkipUnreadable, begin_worker, collate
from geohp.features.masks import MaskProposals
from geohp.features.store import FeatureLayout, FeatureStore, Tensors
from geohp.progress import Progress, no_progress
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles
from geohp.version import __version__

logger = logging.getLogger(__name__)

_READABLE = "readable"
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class FeatureSampler:
    """Images seen through a frozen backbone: batches of epochs, and random samples.

    Orders of images depend on ``seed`` and the epoch alone, and a few unreadable images are passed over (more than one
    in a hundred is an error): so training is the same wherever features come from. On a CPU it is so to the last bit,
    as long as they are kept in float32.

    Args:
        images: the training images, all of one size.
        backbone: fitted before anything but :meth:`normalised` is called, on its device.
        batch_size: images a step.
        workers: processes that read images.
        seed: of all shuffling.
        keep_images: batches carry the images also where features are cached (for augmented views).
        augmentation: of the images of :meth:`batches`; nothing can be cached then.
        proposals: of masks, which are computed and kept with the features.
        affinities: keep those of patches, too; features that are only looked at do without.
        exact: features in float32 on a GPU, too, see :class:`~geohp.features.encoder.FrozenEncoder`.
        unchanged: tells whether the images' files are still what they were, before features of theirs are kept.

    Attributes:
        images: the images; an unreadable one is replaced by the next, and remembered.
        encode: features of images (B, bands, H, W) in [0, 1], see :class:`~geohp.features.encoder.FrozenEncoder`.
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
        augmentation: Augmentation | None = None,
        proposals: MaskProposals | None = None,
        affinities: bool = True,
        exact: bool = False,
        unchanged: UnchangedFiles = NOTHING_TO_WATCH,
    ) -> None:
        self.images = images if isinstance(images, SkipUnreadable) else SkipUnreadable(images)
        self.encode = FrozenEncoder(backbone, batch_size, exact=exact)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.keep_images, self.augmentation, self.proposals = keep_images, augmentation, proposals
        self.affinities, self._unchanged = affinities, unchanged
        self._usable = torch.arange(len(images))
        self._store: FeatureStore | None = None
        self._samples = 0
        self._sampling: tuple[list[int], DataLoader[Any]] | None = None

    def __len__(self) -> int:
        return len(self._usable)

    @property
    def backbone(self) -> Backbone:
        """What the images are seen through."""
        return self.encode.backbone

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        return self.encode.device

    @property
    def place(self) -> str | None:
        """Where features are kept, in words; ``None`` where they are computed anew every epoch."""
        return None if self._store is None else self._store.place

    def cache(self, options: CacheOptions, progress: Progress = no_progress) -> bool:
        """Compute all features now, or load those of an earlier run; tells whether they are kept.

        Sizes, places, and why features are not kept, are logged.

        Raises:
            DataError: when more than one image in a hundred cannot be read, or features are no finite numbers.
            ChangedError: images have changed meanwhile.
        """
        if options.mode == "off":
            return False
        if self.augmentation is not None:
            logger.info("images are augmented at random: their features are computed anew every epoch")
            return False
        self._store = fill_store(self._job(options.dtype), options, progress)
        if self._store is None:
            return False
        self._sampling = None  # with its processes: samples are taken from the store now
        readable = self._store.gather(torch.arange(len(self.images)), [_READABLE])[_READABLE].cpu()
        self.images.note({int(i): "unreadable when features were computed" for i in (readable == 0).nonzero()[:, 0]})
        self._usable = readable.nonzero()[:, 0]
        return True

    def normalised(self, count: int, *, shuffled: bool = True) -> Iterator[Tensor]:
        """Normalised batches (B, bands, H, W) of up to ``count`` images: what a backbone is fitted on.

        Args:
            count: at most so many.
            shuffled: drawn by the seed; otherwise spread evenly, in their order, the same whatever the seed.
        """
        every = max(1, -(-len(self) // count))
        for batch in self._read(self._draw(count) if shuffled else torch.arange(0, len(self), every)):
            yield self.encode.normalise(batch["image"])

    def batches(self, rank: int = 0, replicas: int = 1) -> DataLoader[Any]:
        """An epoch in random order, another one every time, as batches for :meth:`patches`.

        They hold images, or what is kept in their place, and the numbers of the images. The last batch is left out
        where it is not full, unless there is no other.

        Args:
            rank, replicas: of several processes, each has its own share of every epoch.
        """
        order = EpochOrder(len(self), self.seed, rank, replicas)
        drop_last = len(order) >= self.batch_size
        if self._store is None or self.keep_images:
            return self._loader(self._items(self.augmentation), order, drop_last=drop_last)
        # What is kept is in this process already: more of them would only copy it.
        return DataLoader(
            _StoredFeatures(self._store, self._usable, self._stored_names()),
            self.batch_size,
            sampler=order,
            drop_last=drop_last,
            collate_fn=_unchanged,
            generator=Generator(),
        )

    def patches(self, batch: ImageBatch) -> PatchFeatures:
        """The features of a batch of :meth:`batches`, kept or computed now.

        Raises:
            DataError: when more than one image in a hundred could not be read.
        """
        self.images.note(batch.get("unreadable", {}))
        if "features" in batch:
            return self._patches(batch["features"], batch["affinities"])
        if self._store is not None:
            return self._patches(**self._store.gather(batch["index"].cpu(), ["features", "affinities"]))
        return self.encode(batch["image"])

    def masks(self, batch: ImageBatch, patches: PatchFeatures) -> Tensor:
        """The mask proposals of a batch of :meth:`batches`, kept or computed now: (B, h, w) int64, -1 for none.

        Args:
            batch: as there.
            patches: its features, with affinities.
        """
        assert self.proposals is not None
        if "masks" in batch:
            masks = batch["masks"]
        elif self._store is not None:
            masks = self._store.gather(batch["index"].cpu(), ["masks"])["masks"]
        else:
            masks = self.proposals(batch["image"], patches, batch.get("segments"))
        return masks.to(self.device).long()

    def sample(self, count: int) -> Iterator[Tensor]:
        """Feature maps (B, C, h, w) of up to ``count`` images as they are, freshly shuffled."""
        yield from self.maps(self._draw(count))

    def maps(self, places: Tensor) -> Iterator[Tensor]:
        """Feature maps (B, C, h, w) of images as they are, by their places (int64) among those that can be read."""
        if self._store is not None:
            for part in torch.split(places, self.batch_size):
                yield self._maps(self._store.gather(self._usable[part], ["features"])["features"])
            return
        for batch in self._read(places):
            yield self.encode(batch["image"], affinities=False).features

    def labels(self, indices: Tensor) -> Tensor:
        """The labels (B, H, W) int64 of images by their numbers, where they are kept with the features."""
        assert self._store is not None
        return self._store.gather(indices, ["mask"])["mask"].long()

    def is_labelled(self, classes: int) -> bool:
        """Whether there is a pixel of these classes anywhere: as a rule the first images tell."""
        if self._store is not None:
            masks = (self.labels(part) for part in torch.split(self._usable, self.batch_size))
        else:
            masks = (self.images[int(index)]["mask"] for index in self._usable)
        return any(bool(((mask >= 0) & (mask < classes)).any()) for mask in masks)

    def places(self, indices: Tensor) -> Tensor:
        """The places, among those that can be read, of images by their numbers: ``index`` of a batch."""
        return torch.searchsorted(self._usable, indices.cpu())

    def state(self) -> dict[str, int]:
        """What decides over coming samples, for :meth:`restore`; epochs are told by their numbers."""
        return {"samples": self._samples}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where another source was when :meth:`state` was asked."""
        self._samples = int(state["samples"])

    def _patches(self, features: Tensor, affinities: Tensor) -> PatchFeatures:
        return PatchFeatures(self._maps(features), affinities.to(self.device).float())

    def _stored_names(self) -> list[str]:
        """What of the store a batch consists of."""
        further = {"mask": self.images.labelled, "masks": self.proposals is not None}
        return ["features", "affinities", *(name for name, kept in further.items() if kept)]

    def _maps(self, rows: Tensor) -> Tensor:
        """Kept features (B, h, w, C) of whatever type as (B, C, h, w) float32 on the device."""
        return rows.to(self.device).float().permute(0, 3, 1, 2)

    def __getstate__(self) -> dict[str, object]:
        # Reading processes do not travel to other processes.
        return {**self.__dict__, "_sampling": None}

    def _draw(self, count: int) -> Tensor:
        self._samples += 1
        # Not an order of an epoch: those count up from 0.
        return shuffled(len(self), self.seed, -self._samples)[:count]

    def _read(self, places: Tensor) -> Iterator[ImageBatch]:
        """Batches of images at these places; reading processes stay for the next time."""
        if self._sampling is None:
            positions: list[int] = []
            self._sampling = positions, self._loader(self._items(), positions)
        positions, loader = self._sampling
        positions[:] = places.tolist()
        for batch in loader:
            self.images.note(batch.get("unreadable", {}))
            yield batch

    def _items(self, augmentation: Augmentation | None = None) -> IndexedImages:
        return IndexedImages(self.images, self._usable, augmentation)

    def _job(self, dtype: str) -> FeatureJob:
        """What is to be computed of all images."""
        first = collate([self.images[0]])
        return FeatureJob(
            images=len(self.images),
            batch_size=self.batch_size,
            layout=FeatureLayout.of(self._rows(first, dtype)),
            device=self.device,
            key=lambda: {
                "geohp": __version__,
                "images": self.images.identity(),
                "type": dtype,
                **self.encode.identity(),
                **({} if self.proposals is None else {"masks": self.proposals.identity()}),
            },
            seconds=lambda: self._seconds(first, dtype),
            rows=lambda batches: self._all_rows(self._loader(self._items(), batches=batches), dtype),
            check=lambda images: self._unchanged.check(self.images.files_of(images)),
        )

    def _all_rows(self, batches: Iterable[ImageBatch], dtype: str) -> Iterator[Tensors]:
        """What is kept of each batch's images, once it is known to consist of numbers.

        On a GPU a batch is looked at when the next one is on its way: it goes on computing meanwhile.

        Raises:
            DataError: features are no finite numbers.
        """
        waiting: deque[tuple[Tensors, HostCopy]] = deque()
        for batch in batches:
            rows = self._rows(batch, dtype)
            waiting.append((rows, HostCopy(torch.isfinite(rows["features"]).all())))
            if len(waiting) > self._ahead:
                yield self._finite(*waiting.popleft(), dtype)
        for rows, finite in waiting:
            yield self._finite(rows, finite, dtype)

    @property
    def _ahead(self) -> int:
        """Batches on their way when the one before is looked at."""
        return int(self.device.type == "cuda")

    def _finite(self, rows: Tensors, finite: HostCopy, dtype: str) -> Tensors:
        if not finite.wait():
            raise DataError(
                f"the features of backbone {self.backbone.name} are not finite numbers in {dtype}",
                "set train.cache_dtype=float32" if dtype == "float16" else "check its weights",
            )
        return rows

    def _rows(self, batch: ImageBatch, dtype: str) -> Tensors:
        """What is kept of a batch's images."""
        failed = batch.get("unreadable", {})
        self.images.note(failed)
        patches = self.encode(batch["image"], self.affinities)
        rows = {
            "features": patches.features.permute(0, 2, 3, 1).to(_DTYPES[dtype]),
            _READABLE: torch.tensor([int(i) not in failed for i in batch.get("index", [-1])], dtype=torch.uint8),
        }
        if patches.affinities is not None and self.affinities:
            rows["affinities"] = patches.affinities.to(_DTYPES[dtype])
        if self.images.labelled:
            # To the device as they are, page-locked: whatever else is copied there makes the host wait.
            rows["mask"] = batch["mask"].to(self.device, non_blocking=True).to(torch.uint8)
        if self.proposals is not None:
            rows["masks"] = self.proposals(batch["image"], patches, batch.get("segments"))
        return rows

    def _seconds(self, batch: ImageBatch, dtype: str) -> float:
        """How long it takes to compute what is kept of an image, measured on one or, on a GPU, a batch of it."""
        at_once = self.encode.images_at_once
        if at_once is None:
            batch = collate([self.images[0]] * self.batch_size)
            list(self._all_rows([batch], dtype))  # the first time algorithms are chosen
        start = time.perf_counter()
        list(self._all_rows([batch], dtype))
        return (time.perf_counter() - start) / (at_once or self.batch_size)

    def _loader(
        self,
        dataset: IndexedImages,
        sampler: Sampler[int] | list[int] | None = None,
        *,
        batches: list[list[int]] | None = None,
        drop_last: bool = False,
    ) -> DataLoader[Any]:
        by_size: dict[str, Any] = {"batch_size": self.batch_size, "sampler": sampler, "drop_last": drop_last}
        return DataLoader(
            dataset,
            collate_fn=collate,
            worker_init_fn=begin_worker if self.workers else None,
            # A loader draws its processes' seeds whenever it is gone through; from the numbers that all others are
            # drawn from, training would depend on how often that is.
            generator=Generator(),
            pin_memory=self.device.type == "cuda",
            **reader_options(self.workers),
            **(by_size if batches is None else {"batch_sampler": batches}),
        )


class _StoredFeatures(Dataset[Tensors]):
    """Kept features at positions of an epoch, a batch at a time."""

    def __init__(self, store: FeatureStore, usable: Tensor, names: Sequence[str]) -> None:
        self._store, self._usable, self._names = store, usable, names

    def __len__(self) -> int:
        return len(self._usable)

    def __getitem__(self, place: int) -> Tensors:
        return {name: rows[0] for name, rows in self.__getitems__([place]).items()}

    def __getitems__(self, places: list[int]) -> Tensors:
        indices = self._usable[torch.tensor(places) % len(self)]
        batch = {"index": indices, **self._store.gather(indices, self._names)}
        if "mask" in batch:
            batch["mask"] = batch["mask"].long()
        return batch


def _unchanged(batch: Any) -> Any:
    return batch
