"""Training images as frozen features: computed once and kept where there is room, anew each epoch otherwise.

The backbone is frozen and the images are not augmented at random, so their features and affinities never change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from geohp.backbones.base import Backbone, PatchFeatures
from geohp.backbones.weights import fingerprint
from geohp.data.augment import Augmentation
from geohp.data.base import ImageSet, reader_options
from geohp.errors import DataError
from geohp.features.filling import Filling, Mode
from geohp.features.images import (
    UNREADABLE,
    EpochOrder,
    FixedSampler,
    IndexedImages,
    SkipUnreadable,
    UnreadableLog,
    begin_worker,
    collate,
    shuffled,
)
from geohp.features.stores import Layout, Store, Tensors
from geohp.version import __version__

logger = logging.getLogger(__name__)

_READABLE = "readable"
_LOT = 4
"""Images that a CPU computes at once."""
_KEPT_AS = {"float32": torch.float32, "float16": torch.float16}


class FeatureSampler:
    """Images seen through a frozen backbone.

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

    Attributes:
        images: the images; an unreadable one is replaced by the next.
        place: where features are, in words; ``None`` where they are computed anew every epoch.
        unreadable: reasons by the number of the image, as far as met.
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
    ) -> None:
        self.images = images if isinstance(images, SkipUnreadable) else SkipUnreadable(images)
        self.backbone = backbone
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.keep_images, self.augmentation = keep_images, augmentation
        self._lot = min(batch_size, _LOT)
        self._ledger = UnreadableLog(self.images)
        self._usable = torch.arange(len(images))
        self._store: Store | None = None
        self._samples = 0
        self._sampling: tuple[FixedSampler, DataLoader[Any]] | None = None
        self._mean, self._std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))

    def __len__(self) -> int:
        return len(self._usable)

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        return next((b.device for b in (*self.backbone.parameters(), *self.backbone.buffers())), torch.device("cpu"))

    @property
    def place(self) -> str | None:
        """Where features are kept, in words."""
        return None if self._store is None else self._store.place

    @property
    def unreadable(self) -> dict[int, str]:
        """Reasons by the number of the image, of those met so far."""
        return dict(self._ledger.failed)

    def cache(
        self,
        limit_bytes: float,
        progress: Callable[[int, int], None] | None = None,
        *,
        mode: Mode = "auto",
        folder: str | Path | None = None,
        dtype: str = "float32",
        announce: Callable[[str], None] = logger.info,
    ) -> bool:
        """Compute all features now, or load those of an earlier run; tells whether they are kept.

        Args:
            limit_bytes: how much memory (not a GPU's) they may take.
            progress: told of images done, and of all.
            mode: ``memory``, ``disk`` (held in memory, too, where they fit), ``auto`` (on disk only where computing
                them takes long) or ``off``.
            folder: of all caches on disk; ``None`` for :func:`geohp.features.disk.default_folder`.
            dtype: ``float32``, or ``float16``, which takes half the room.
            announce: told in sentences of sizes, places, and why features are not kept.

        Raises:
            DataError: when more than one image in a hundred cannot be read, or features are no finite numbers.
        """
        if mode == "off" or self.augmentation is not None:
            if mode != "off":
                announce("images are augmented at random: their features are computed anew every epoch")
            return False
        kept_as = _KEPT_AS[dtype]

        def compute(batch: dict[str, Any]) -> Tensors:
            return self._rows(batch, kept_as)

        first = collate([self.images[0]])
        filling = Filling(
            images=len(self.images),
            key=lambda: self._key(dtype),
            layout=Layout.of(compute(first)),
            device=self.device,
            limit_bytes=limit_bytes,
            announce=announce,
            progress=progress or (lambda *_: None),
        )
        self._store = filling.fill(
            mode,
            folder,
            seconds=lambda: _seconds(lambda: compute(first)) / (self._lot if self.device.type == "cpu" else 1),
            rows=lambda batches: map(compute, self._loader(self._items(), batches=batches)),
            batch_size=self.batch_size,
        )
        if self._store is None:
            return False
        self._sampling = None  # with its processes: samples are taken from the store now
        readable = self._store.gather(torch.arange(len(self.images)), [_READABLE])[_READABLE].cpu()
        self._note({int(i): "unreadable when features were computed" for i in (readable == 0).nonzero()[:, 0]})
        self._usable = readable.nonzero()[:, 0]
        return True

    def encode(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features of images (B, bands, H, W) in [0, 1], on the backbone's device.

        On a CPU an image's features are the same bits whatever it is computed together with. In memory, the channels
        of a patch lie side by side, as heads and losses want them.
        """
        images = images.to(self.device)
        normalised = (images - self._mean.to(self.device)) / self._std.to(self.device)
        if self.device.type != "cpu":
            return _patch_by_patch([self.backbone(normalised, affinities)], len(images))
        # Products of few rows are added up in another order than those of many: each has equally many.
        lots = list(torch.split(normalised, self._lot))
        lots[-1] = torch.cat([lots[-1], lots[-1][-1:].expand(self._lot - len(lots[-1]), -1, -1, -1)])
        return _patch_by_patch([self.backbone(lot, affinities) for lot in lots], len(images))

    def normalised(self, count: int) -> Iterator[Tensor]:
        """Normalised batches (B, bands, H, W) of up to ``count`` shuffled images: what a backbone is fitted on."""
        for batch in self._some(count):
            yield ((batch["image"] - self._mean) / self._std).to(self.device)

    def batches(self, rank: int = 0, replicas: int = 1) -> DataLoader[Any]:
        """An epoch in random order, another one every time, as batches for :meth:`patches`.

        They are dicts with ``image`` (B, bands, H, W), or with what is kept in its place, or both ``image`` and
        ``index``; and ``mask`` (B, H, W) int64 where images are labelled. The last batch is left out where it is not
        full, unless there is no other.

        Args:
            rank, replicas: of several processes, each has its own share of every epoch.
        """
        order = EpochOrder(len(self), self.seed, rank, replicas)
        drop_last = len(order) >= self.batch_size
        if self._store is None or self.keep_images:
            return self._loader(self._items(self.augmentation), order, drop_last=drop_last)
        # What is kept is in this process already: more of them would only copy it.
        return DataLoader(
            _Kept(self._store, self._usable, self.images.labelled),
            self.batch_size,
            sampler=order,
            drop_last=drop_last,
            collate_fn=_as_it_is,
            generator=Generator(),
        )

    def patches(self, batch: dict[str, Any]) -> PatchFeatures:
        """The features of a batch of :meth:`batches`, kept or computed now.

        Raises:
            DataError: when more than one image in a hundred could not be read.
        """
        self._note(batch.get(UNREADABLE, {}))
        if self._store is not None and "features" not in batch:
            batch = self._store.gather(batch["index"].cpu(), ["features", "affinities"])
        if "features" in batch:
            return PatchFeatures(self._maps(batch["features"]), batch["affinities"].to(self.device).float())
        return self.encode(batch["image"])

    def sample(self, count: int) -> Iterator[Tensor]:
        """Feature maps (B, C, h, w) of up to ``count`` images as they are, freshly shuffled."""
        if self._store is not None:
            for part in torch.split(self._draw(count), self.batch_size):
                kept = self._store.gather(self._usable[part], ["features"])
                yield self._maps(kept["features"])
            return
        for batch in self._some(count):
            yield self.encode(batch["image"], affinities=False).features

    def state(self) -> dict[str, int]:
        """What decides over coming samples, for :meth:`restore`; epochs are told by their numbers."""
        return {"samples": self._samples}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where another source was when :meth:`state` was asked."""
        self._samples = int(state["samples"])

    def _maps(self, rows: Tensor) -> Tensor:
        """Kept features (B, h, w, C) of whatever type as (B, C, h, w) float32 on the device."""
        return rows.to(self.device).float().permute(0, 3, 1, 2)

    def __getstate__(self) -> dict[str, Any]:
        # Reading processes do not travel to other processes.
        return {**self.__dict__, "_sampling": None}

    def _draw(self, count: int) -> Tensor:
        self._samples += 1
        # Not an order of an epoch: those count up from 0.
        return shuffled(len(self), self.seed, -self._samples)[:count]

    def _some(self, count: int) -> Iterator[dict[str, Any]]:
        """Batches of freshly shuffled images; reading processes stay for the next time."""
        if self._sampling is None:
            positions = FixedSampler()
            self._sampling = positions, self._loader(self._items(), positions)
        positions, loader = self._sampling
        positions.positions = self._draw(count).tolist()
        for batch in loader:
            self._note(batch.get(UNREADABLE, {}))
            yield batch

    def _items(self, augmentation: Augmentation | None = None) -> IndexedImages:
        return IndexedImages(self.images, self._usable, augmentation)

    def _rows(self, batch: dict[str, Any], kept_as: torch.dtype) -> Tensors:
        """What is kept of a batch's images."""
        failed = batch.get(UNREADABLE, {})
        self._note(failed)
        # As the trainer would compute in half precision, what is computed once need not.
        with torch.autocast(self.device.type, enabled=False):
            patches = self.encode(batch["image"])
        assert patches.affinities is not None
        rows = {
            "features": patches.features.permute(0, 2, 3, 1).to("cpu", kept_as),
            "affinities": patches.affinities.to("cpu", kept_as),
            _READABLE: torch.tensor([int(i) not in failed for i in batch.get("index", [-1])], dtype=torch.uint8),
        }
        if not torch.isfinite(rows["features"]).all():
            raise DataError(
                f"the features of backbone {self.backbone.name} are not finite numbers in {str(kept_as)[6:]}"
                + ("; set train.cache_dtype=float32" if kept_as == torch.float16 else ", check its weights")
            )
        if self.images.labelled:
            rows["mask"] = batch["mask"].to(torch.uint8)
        return rows

    def _key(self, dtype: str) -> dict[str, Any]:
        """Everything that kept features depend on."""
        backbone = self.backbone
        return {
            "geohp": __version__,
            "torch": torch.__version__,
            "images": self.images.identity(),
            "backbone": backbone.name,
            "block": backbone.block,
            "options": backbone.options(),
            "weights": fingerprint(backbone),
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "type": dtype,
            # Bits differ between them, and on a CPU training is to repeat to the last.
            "device": self.device.type,
            "at once": self._lot if self.device.type == "cpu" else None,
        }

    def _note(self, failed: dict[int, str]) -> None:
        for sentence in self._ledger.note(failed):
            logger.warning(sentence)

    def _loader(
        self,
        dataset: IndexedImages,
        sampler: Sampler[int] | None = None,
        *,
        batches: list[list[int]] | None = None,
        drop_last: bool = False,
    ) -> DataLoader[Any]:
        how: dict[str, Any] = {"batch_sampler": batches}
        if batches is None:
            how = {"batch_size": self.batch_size, "sampler": sampler, "drop_last": drop_last}
        # A loader draws its processes' seeds whenever it is gone through; from the numbers that all others are drawn
        # from, training would depend on how often that is.
        how["generator"] = Generator()
        begin = begin_worker if self.workers else None
        return DataLoader(dataset, collate_fn=collate, worker_init_fn=begin, **reader_options(self.workers), **how)


class _Kept(Dataset[dict[str, Tensor]]):
    """Kept features at positions of an epoch, a batch at a time."""

    def __init__(self, store: Store, usable: Tensor, labelled: bool) -> None:
        self._store, self._usable = store, usable
        self._names = ["features", "affinities", *(["mask"] if labelled else [])]

    def __len__(self) -> int:
        return len(self._usable)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {name: rows[0] for name, rows in self.__getitems__([place]).items()}

    def __getitems__(self, places: list[int]) -> dict[str, Tensor]:
        batch = self._store.gather(self._usable[torch.tensor(places) % len(self)], self._names)
        if "mask" in batch:
            batch["mask"] = batch["mask"].long()
        return batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _patch_by_patch(lots: list[PatchFeatures], images: int) -> PatchFeatures:
    """The features of the first so many images, (B, C, h, w) with the channels last in memory."""
    features = torch.cat([lot.features.permute(0, 2, 3, 1) for lot in lots])[:images].contiguous().permute(0, 3, 1, 2)
    affinities = [lot.affinities for lot in lots if lot.affinities is not None]
    return PatchFeatures(features, torch.cat(affinities)[:images] if affinities else None)


def _seconds(compute: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    compute()
    return time.perf_counter() - start
