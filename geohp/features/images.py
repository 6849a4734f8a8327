"""How training reads its images: by positions of an epoch, and past the few that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from geohp.data.augment import Augmentation
from geohp.data.base import ImageSet, ImageSetView, Item
from geohp.errors import DataError, SceneError

logger = logging.getLogger(__name__)

UNREADABLE: Final = "unreadable"
"""Key of what could not be read: the reason by the number of the image."""

_TOLERATED = 0.01
_NAMED = 3


class ImageBatch(TypedDict, total=False):
    """Images of a step, or what is kept in their place.

    Attributes:
        image: (B, bands, H, W) float32 in [0, 1].
        mask: (B, H, W) int64, where images are labelled.
        index: (B,) int64, their numbers.
        segments: (B, H, W) int64, where images come with masks.
        features, affinities: (B, h, w, C) and (B, h * w, 9), as they are kept.
        masks: (B, h, w), proposals as they are kept.
        unreadable: why images could not be read in whose place others stand, by their numbers.
    """

    image: Tensor
    mask: Tensor
    segments: Tensor
    index: Tensor
    features: Tensor
    affinities: Tensor
    masks: Tensor
    unreadable: dict[int, str]


class SkipUnreadable(ImageSetView):
    """Images, each that cannot be read replaced by the next that can; its item says so under :data:`UNREADABLE`.

    Args:
        images: any set.

    Attributes:
        unreadable: the reason by number, of those that :meth:`note` was told.
    """

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.unreadable: dict[int, str] = {}

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        failed: dict[int, str] = {}
        while True:
            number = (index + len(failed)) % len(self)
            try:
                item = self.images[number]
            except (DataError, SceneError) as error:
                failed[number] = error.problem
                self._check_tolerable(failed)
            else:
                return {**item, UNREADABLE: failed} if failed else item

    def note(self, failed: Mapping[int, str]) -> None:
        """Remember what items said of those that could not be read, with a warning of each that is new.

        Raises:
            DataError: when they are more than one in a hundred.
        """
        new = {number: reason for number, reason in failed.items() if number not in self.unreadable}
        self.unreadable.update(new)
        self._check_tolerable(self.unreadable)
        for number, reason in new.items():
            logger.warning("%s: left out of training (%s)", self.name(number), reason)

    def identity(self) -> str:
        """As the images have it."""
        return self.images.identity()

    def __getattr__(self, name: str) -> Any:
        # What one kind of images knows beyond others (pixel sizes, places) stays within reach.
        if name == "images":
            raise AttributeError(name)
        return getattr(self.images, name)

    def _check_tolerable(self, failed: Mapping[int, str]) -> None:
        if len(failed) <= _TOLERATED * len(self):
            return
        reasons = [f"{self.name(number)} ({reason})" for number, reason in failed.items()]
        raise DataError(
            f"{len(failed)} of {len(self)} images cannot be read, more than {_TOLERATED:.0%}: "
            f"{', '.join(reasons[:_NAMED])}{', ...' if len(failed) > _NAMED else ''}",
            "repair them or leave them out",
        )


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


def collate(items: Sequence[Item]) -> ImageBatch:
    """Items as a batch; what could not be read is gathered, where there is any."""
    failed: dict[int, str] = {}
    for item in items:
        failed.update(item.get(UNREADABLE, {}))
    batch: ImageBatch = default_collate([{k: v for k, v in item.items() if k != UNREADABLE} for item in items])
    return {**batch, UNREADABLE: failed} if failed else batch


def begin_worker(_: int) -> None:
    """In a reading process: files opened by the process it was forked from are shared with it, so open them anew."""
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, IndexedImages):
        info.dataset.images.close()
