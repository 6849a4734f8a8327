"""Photographs with label images beside them: decoded, cut in five where asked for, framed, their labels translated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from geohp.classes import NODATA_LABEL
from geohp.data.base import ImageSet, Item
from geohp.data.benchmarks.framing import CROPS, SMALLEST_PX, five_boxes, framed
from geohp.errors import DataError
from geohp.files.reading import failure_reason

# What Pillow raises on files that are not images, are cut short, or pretend to be gigantic.
_UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)

Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Colours (3, H, W), and stored labels (H, W)."""


@dataclass(frozen=True)
class Photograph:
    """One image and its labels.

    Attributes:
        name: unique in its set.
        image, label: their files.
        saliency: the file that tells what is salient in it, where there is one.
    """

    name: str
    image: str
    label: str
    saliency: str | None = None


class Photographs(ImageSet):
    """Photographs as squares: whole ones, or five crops of each.

    Items are ``{"image": (3, side, side) float32 in [0, 1], "mask": (side, side) int64}``, and where saliency maps are
    known, ``"segments"``: 0 where it is salient, -1 elsewhere. The crops of an image
    follow one another, and the image decoded last is kept: in order, each is decoded once.

    Args:
        photographs: images and labels.
        side: of the squares.
        table: uint8 (256,), the class of each stored label, 255 where it has none.
        crop_ratio: sides of the five crops as a share of the image's; ``None`` for whole images.
    """

    kind = "geohp.data.photographs.Photographs"
    channels = 3
    labelled = True

    def __init__(
        self,
        photographs: Sequence[Photograph],
        side: int,
        table: NDArray[np.uint8],
        crop_ratio: float | None = None,
    ) -> None:
        self.photographs = list(photographs)
        self.side, self.table, self.crop_ratio = side, table, crop_ratio
        self.segmented = any(photograph.saliency for photograph in self.photographs)
        self._last: tuple[int, Decoded] | None = None

    def __len__(self) -> int:
        return len(self.photographs) * (CROPS if self.crop_ratio else 1)

    def __getitem__(self, index: int) -> Item:
        import torch  # when there is an image to read: finding them does without

        number, crop = self._place(index)
        colours, labels = self._decoded(number)
        window: tuple[slice, slice] = np.s_[:, :]
        if self.crop_ratio is not None:
            height, width = labels.shape
            window = five_boxes(height, width, self.crop_ratio)[crop].slices
        image = torch.from_numpy(framed(colours[:, *window], self.side)).float().div_(255)
        mask = torch.from_numpy(self.table[framed(labels[window], self.side)]).long()
        item: Item = {"image": image, "mask": mask}
        if self.segmented:
            salient = framed(salient_pixels(self.photographs[number], labels.shape)[window], self.side)
            item["segments"] = torch.from_numpy(salient).long() - 1
        return item

    def name(self, index: int) -> str:
        """The photograph's, and the crop's number from 0."""
        number, crop = self._place(index)
        name = self.photographs[number].name
        return f"{name} crop {crop}" if self.crop_ratio is not None else name

    def files(self) -> Sequence[str]:
        """Images, labels and saliency maps."""
        return self.files_of(range(len(self)))

    def files_of(self, indices: Iterable[int]) -> Sequence[str]:
        """Those of some items."""
        shown = [self.photographs[number] for number in dict.fromkeys(self._place(index)[0] for index in indices)]
        return [file for each in shown for file in (each.image, each.label, each.saliency) if file is not None]

    def close(self) -> None:
        """Forget the image decoded last."""
        self._last = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_last": None}

    def _place(self, index: int) -> tuple[int, int]:
        """Which photograph, and which of its crops."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return divmod(index % len(self), CROPS if self.crop_ratio is not None else 1)

    def _decoded(self, number: int) -> Decoded:
        last = self._last
        if last is None or last[0] != number:
            last = number, decode(self.photographs[number])
            self._last = last
        return last[1]


def decode(photograph: Photograph) -> Decoded:
    """Read an image, whatever its colours, as red, green and blue, and its stored labels.

    Raises:
        DataError: a file is not there, damaged, not of the kind expected, or the two differ in size.
    """
    colours = np.moveaxis(np.asarray(_loaded(photograph.image).convert("RGB")), -1, 0)
    label = _loaded(photograph.label)
    if label.mode not in ("L", "P"):
        raise DataError(
            f"{photograph.label}: holds {label.mode} pixels where one byte each is expected",
            "take the label files with class ids, not those for viewing or of instances",
        )
    labels = np.asarray(label)
    if colours.shape[1:] != labels.shape:
        raise DataError(
            f"{photograph.label}: is of {labels.shape[1]} x {labels.shape[0]} px where its image is of "
            f"{colours.shape[2]} x {colours.shape[1]} px",
            "fetch both again",
        )
    if min(labels.shape) < SMALLEST_PX:
        raise DataError(f"{photograph.image}: is of {labels.shape[1]} x {labels.shape[0]} px", "fetch it again")
    return colours, labels


def salient_pixels(photograph: Photograph, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) where the values of its saliency map exceed half of the largest; nowhere without a map.

    Raises:
        DataError: the map is not there, damaged, or of another size.
    """
    if photograph.saliency is None:
        return np.zeros(shape, bool)
    values = np.asarray(_loaded(photograph.saliency).convert("L"))
    if values.shape != shape:
        raise DataError(
            f"{photograph.saliency}: is of {values.shape[1]} x {values.shape[0]} px where its image is of "
            f"{shape[1]} x {shape[0]} px",
            "give a map of the image's size",
        )
    salient: NDArray[np.bool_] = values > values.max() / 2
    return salient


def label_table(classes: dict[int, int]) -> NDArray[np.uint8]:
    """Stored label to class as a table of 256 entries: 255 where the mapping has none."""
    table = np.full(256, NODATA_LABEL, np.uint8)
    table[list(classes)] = list(classes.values())
    return table


def _loaded(path: str) -> Image.Image:
    """A decoded image, with Pillow's complaints as DataError."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there any more", "restore it") from error
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be decoded ({failure_reason(error)})", "fetch it again") from error
