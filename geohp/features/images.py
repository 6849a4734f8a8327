"""How training reads its images: in an order that depends on seed and epoch alone, and past the few unreadable ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate, get_worker_info

from geohp.data.augment import Augmentation, seeded
from geohp.data.base import ImageSet, Item
from geohp.errors import DataError, SceneError

UNREADABLE: Final = "unreadable"
"""Key of what could not be read: the reason by the number of the image."""

_TOLERATED = 0.01
_SHOWN = 3


class EpochOrder(Sampler[int]):
    """Positions of an epoch in random order, each as ``epoch * length + position``: so that who reads knows the epoch.

    An order depends on the seed and the number of the epoch alone. Epochs count by themselves; :meth:`set_epoch`, which
    Lightning calls, says which is next.

    Args:
        length: how many positions there are.
        seed: of all orders.
        rank, replicas: of several processes, each goes through its own equal share; what is left over is left out.

    Attributes:
        epoch: which one comes next.
        start: positions of the next epoch to pass over: those that an interrupted training has seen.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, replicas: int = 1) -> None:
        self.length, self.seed = length, seed
        self.rank, self.replicas = rank, replicas
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.replicas

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        self.epoch += 1
        order = shuffled(self.length, self.seed, epoch)
        share = order[self.rank : len(self) * self.replicas : self.replicas][self.start :]
        self.start = 0
        return iter((share + epoch * self.length).tolist())


class FixedSampler(Sampler[int]):
    """Whatever positions were set last: one loader, and its processes, serve many small samples."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)


def shuffled(length: int, seed: int, number: int) -> Tensor:
    """Random order number ``number`` of 0 to ``length`` - 1 (int64)."""
    return torch.randperm(length, generator=seeded(seed, number))


class SkipUnreadable(ImageSet):
    """Images, each that cannot be read replaced by the next that can; its item says so under :data:`UNREADABLE`.

    Args:
        images: any set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.channels, self.labelled = images.channels, images.labelled

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        failed: dict[int, str] = {}
        for number in range(index, index + len(self)):
            try:
                item = self.images[number % len(self)]
            except (DataError, SceneError) as error:
                failed[number % len(self)] = str(error)
                if len(failed) > _TOLERATED * len(self):
                    raise too_many(self, failed) from error
                continue
            return {**item, UNREADABLE: failed} if failed else item
        raise too_many(self, failed)

    def name(self, index: int) -> str:
        """As the images have it."""
        return self.images.name(index)

    def files(self) -> Sequence[str]:
        """As the images have it."""
        return self.images.files()

    def identity(self) -> str:
        """As the images have it."""
        return self.images.identity()

    def close(self) -> None:
        """Close the images."""
        self.images.close()

    def __getattr__(self, name: str) -> Any:
        # What one kind of images knows beyond others (pixel sizes, places) stays within reach.
        if name == "images":
            raise AttributeError(name)
        return getattr(self.images, name)


def too_many(images: ImageSet, failed: Mapping[int, str]) -> DataError:
    """What to tell where more than one in a hundred cannot be read."""
    reasons = [f"{images.name(number)} ({reason.split('; ')[0]})" for number, reason in failed.items()]
    return DataError(
        f"{len(failed)} of {len(images)} images cannot be read, more than {_TOLERATED:.0%}: "
        f"{', '.join(reasons[:_SHOWN])}{', ...' if len(failed) > _SHOWN else ''}; repair them or leave them out"
    )


class UnreadableLog:
    """Which images could not be read.

    Args:
        images: named in messages.

    Attributes:
        failed: the reason by number.
    """

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self.failed: dict[int, str] = {}

    def note(self, failed: Mapping[int, str]) -> list[str]:
        """Remember, and give a sentence for each that is new.

        Raises:
            DataError: when they are more than one in a hundred.
        """
        new = {number: reason for number, reason in failed.items() if number not in self.failed}
        self.failed.update(new)
        if len(self.failed) > _TOLERATED * len(self._images):
            raise too_many(self._images, self.failed)
        return [f"{self._images.name(number)}: left out of training ({reason})" for number, reason in new.items()]


class IndexedImages(Dataset[Item]):
    """Images at positions of an epoch, augmented where asked for, with their numbers as ``index``.

    Args:
        images: all there are.
        usable: (n,) int64, the numbers of those that positions mean.
        augmentation: ``None`` for images as they are.
    """

    def __init__(self, images: ImageSet, usable: Tensor, augmentation: Augmentation | None = None) -> None:
        self.images, self.usable, self.augmentation = images, usable, augmentation

    def __len__(self) -> int:
        return len(self.usable)

    def __getitem__(self, place: int) -> Item:
        epoch, position = divmod(place, len(self.usable))
        index = int(self.usable[position])
        item = self.images[index]
        if self.augmentation is not None:
            item = self.augmentation(item, epoch, index)
        return {**item, "index": index}


def collate(items: Sequence[Item]) -> dict[str, Any]:
    """IndexedImages as a batch; what could not be read is gathered under :data:`UNREADABLE`, where there is any."""
    failed: dict[int, str] = {}
    for item in items:
        failed.update(item.get(UNREADABLE, {}))
    batch: dict[str, Any] = default_collate([{k: v for k, v in item.items() if k != UNREADABLE} for item in items])
    return {**batch, UNREADABLE: failed} if failed else batch


def begin_worker(_: int) -> None:
    """In a reading process: files opened by the process it was forked from are shared with it, so open them anew."""
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, IndexedImages):
        info.dataset.images.close()
