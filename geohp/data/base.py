"""What data are: sets of images to learn from and to be judged on, and what their labels mean."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NotRequired, TypedDict

from geohp.classes import LandCoverClass
from geohp.errors import DataError, SceneError
from geohp.progress import Progress, no_progress
from geohp.raster.read.unchanged import UnchangedFiles

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    _ItemDataset = Dataset["Item"]
else:  # a loader asks for no more than length and items, and finding images shall not wait for torch
    _ItemDataset = object

_SAMPLED = 16
"""Items whose content enters a set's identity."""


class Item(TypedDict):
    """An image and its labels, as TorchGeo's data sets hand them out.

    Attributes:
        image: (bands, H, W) float32 in [0, 1].
        mask: (H, W) int64, classes from 0, 255 where unknown; only of labelled sets.
        segments: (H, W) int64, numbers of what is proposed to be one thing each, -1 where nothing is; only of
            segmented sets.
        index: number of the image, where items are drawn in another order.
        unreadable: why images could not be read in whose place this one stands, by their numbers.
    """

    image: Tensor
    mask: NotRequired[Tensor]
    segments: NotRequired[Tensor]
    index: NotRequired[int]
    unreadable: NotRequired[dict[int, str]]


class ImageSet(_ItemDataset, metaclass=ABCMeta):
    """Images of one size, with labels where there are any.

    The size is the same for all items of a set, so that they can be put together into batches.

    Attributes:
        channels: bands of an image.
        labelled: whether items carry a mask.
        segmented: whether items carry segments.
        kind: name of the class in identities, which checkpoints and stored features hold; it outlives renames.
    """

    channels: int
    labelled: bool = False
    segmented: bool = False
    kind: ClassVar[str] = ""

    @abstractmethod
    def __len__(self) -> int:
        """How many images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Item:
        """Image number ``index``, and its mask.

        Raises:
            DataError, SceneError: naming the file that cannot be used.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """What image number ``index`` is called, for people to find it: unique in the set."""

    def close(self) -> None:
        """Close what is open; what is asked for later is opened again."""

    def files(self) -> Sequence[str]:
        """Paths of all files that items are made of; empty where the set does not know them."""
        return ()

    def files_of(self, indices: Iterable[int]) -> Sequence[str]:
        """Paths of the files that some items are made of; of all items where the set does not tell them apart."""
        return self.files()

    def unchanged(self) -> UnchangedFiles:
        """All :meth:`files` as they were when the set first looked at them; by default as they are now."""
        return UnchangedFiles("a file of the data", self.files())

    def identity(self) -> str:
        """What tells this set from others, those of the same images read otherwise included: a hash.

        Of the names of all items, of size and time of change of all :meth:`files`, and of what a few items hold, which
        tells bands, scaling and size apart; where the set does not know its files, of what all items hold.
        """
        kind = self.kind or f"{type(self).__module__}.{type(self).__qualname__}"
        digest = hashlib.sha256(f"{kind} {self.channels}".encode())
        count, files = len(self), self.files()
        for index in range(count):
            digest.update(self.name(index).encode() + b"\0")
        for file in files:
            path = Path(file)
            state = path.stat() if path.is_file() else None
            digest.update(f"{file}\0{state and (state.st_size, state.st_mtime_ns)}\0".encode())
        for index in range(0, count, max(1, count // _SAMPLED) if files else 1):
            try:
                item = self[index]
            except (DataError, SceneError):
                digest.update(b"unreadable")
                continue
            parts = (("image", item["image"]), ("mask", item.get("mask")), ("segments", item.get("segments")))
            for key, values in parts:
                if values is not None:
                    digest.update(f"{key} {tuple(values.shape)}".encode() + values.contiguous().numpy().tobytes())
        return digest.hexdigest()


class ImageSetView(ImageSet):
    """Images that are read in another way; names and files stay theirs.

    Args:
        images: any set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.channels, self.labelled, self.segmented = images.channels, images.labelled, images.segmented

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """As the images have it."""
        return self.images.name(index)

    def close(self) -> None:
        """Close the images."""
        self.images.close()

    def files(self) -> Sequence[str]:
        """As the images have it."""
        return self.images.files()

    def files_of(self, indices: Iterable[int]) -> Sequence[str]:
        """As the images have it."""
        return self.images.files_of(indices)

    def unchanged(self) -> UnchangedFiles:
        """As the images have it."""
        return self.images.unchanged()


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a data set is evaluated, for those who compare figures.

    Attributes:
        benchmark: the published benchmark that figures can be held against ("potsdam-3", "cocostuff-27",
            "cityscapes-27", "voc-2012"); ``None`` for data of one's own.
        same: the split and the labels are the published ones.
        text: in a sentence or two, what is evaluated, and what differs from the published protocol.
    """

    benchmark: str | None
    same: bool
    text: str


class DataSource(ABC):
    """Where images come from. Nothing large is read until one of its sets is asked for.

    Attributes:
        classes: what the labels mean; empty where there are none.
        protocol: how it is evaluated.
        pixel_size_m: ground sampling distance of what patches are cut from, before they are resized; ``None`` where
            unknown. Known at the latest when a set has been asked for.
    """

    classes: tuple[LandCoverClass, ...] = ()
    protocol: EvaluationProtocol = EvaluationProtocol(None, same=False, text="own data")
    pixel_size_m: float | None = None

    @property
    def labelled(self) -> bool:
        """Whether there are labels to evaluate against."""
        return True

    @abstractmethod
    def training(self, progress: Progress = no_progress) -> ImageSet:
        """The images to train on, ``model_input_px`` square.

        Args:
            progress: told of images that are looked at.

        Raises:
            DataError, SceneError: what is missing or wrong, where, and the remedy.
        """

    def evaluation(self, progress: Progress = no_progress) -> ImageSet:
        """The labelled images to be judged on, ``evaluation_px`` square.

        Raises:
            DataError: where there are no labels.
        """
        raise self.no_labels()

    @staticmethod
    def no_labels() -> DataError:
        """What to raise where there are no labels."""
        return DataError("the data have no labels to evaluate against", "name them with data.labels")


class GivenImages(DataSource):
    """Images at hand, to train on."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images

    @property
    def labelled(self) -> bool:
        """Labels of theirs only teach."""
        return False

    def training(self, progress: Progress = no_progress) -> ImageSet:
        """The images."""
        return self._images


class ReaderOptions(TypedDict, total=False):
    """Arguments of a DataLoader that say how many processes read, and how they are started."""

    num_workers: int
    multiprocessing_context: str
    persistent_workers: bool


_IMPORTED_ONCE = ("geohp.data.augment",)
"""What takes readers seconds to import: torch and torchvision."""


def reader_options(workers: int) -> ReaderOptions:
    """How a DataLoader reads in so many processes, as far as there are processors; 0 reads in this one.

    They are not forked from this process: GDAL and Pillow may hold threads and locks here that a fork takes along
    without what would ever release them, and reading would hang.
    """
    if not workers:
        return {"num_workers": 0}
    workers = min(workers, os.cpu_count() or 1)
    method = "spawn" if sys.platform == "win32" else "forkserver"
    if method == "forkserver":
        # Imported once, in the process they are forked from, which computes nothing; where it runs already, in each.
        multiprocessing.get_context(method).set_forkserver_preload(["__main__", *_IMPORTED_ONCE])
    return {"num_workers": workers, "multiprocessing_context": method, "persistent_workers": True}
