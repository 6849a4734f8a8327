"""Patches of images as a set: at given places, with the classes of their pixels where these are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL
from geohp.credentials import without_credentials
from geohp.data.base import ImageSet, Item
from geohp.data.class_table import ClassTable
from geohp.data.open_files import OpenFiles
from geohp.data.orthophotos.patch_regions import Region
from geohp.data.orthophotos.pixel_labels import ClassReader, LabelReading
from geohp.data.orthophotos.polygons import PolygonLayers, PolygonNumbers
from geohp.data.resize import interpolated, resized, resized_index, resized_mask
from geohp.raster.block import Block
from geohp.raster.read.patches import read_patch
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import Scene, open_scene
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles

if TYPE_CHECKING:
    from torch import Tensor

_OPEN_SCENES = 16
_AT_ONCE_PX = 1 << 22
"""Pixels of a scene that are held at once, where a patch has more."""


@dataclass(frozen=True)
class PatchImage:
    """An image that patches are cut from.

    Attributes:
        path: the image.
        scaling: of its values.
        side_px: of a patch, in its own pixels.
        region: where pixels count; ``None`` is everywhere.
        unchanged: what it consists of, as it was when it was first looked at.
    """

    path: str
    scaling: Scaling
    side_px: int
    region: Region | None = None
    unchanged: UnchangedFiles = field(default=NOTHING_TO_WATCH, repr=False, compare=False)


@dataclass(frozen=True)
class PatchPlace:
    """Where a patch is cut, and what of its labels counts.

    Attributes:
        path: the image.
        row, col: first row and column.
        skip_rows, skip_cols: how many of the first rows and columns another patch has shown already.
    """

    path: str
    row: int
    col: int
    skip_rows: int = 0
    skip_cols: int = 0

    def block(self, scene: Scene, side: int) -> Block:
        """What of the patch the scene covers."""
        return Block(self.row, self.col, side, side).clip((scene.height, scene.width))

    def counted_classes(
        self, block: Block, valid: NDArray[np.bool_], classes: ClassReader, region: Region | None
    ) -> NDArray[np.int64]:
        """Classes (rows, cols) of a block of the patch, 255 where they do not count.

        ``valid`` tells which pixels (rows, cols) of the block hold data, the region where pixels of the image count.
        """
        counts = valid.copy()
        counts[: max(0, self.row + self.skip_rows - block.row)] = False
        counts[:, : self.skip_cols] = False
        if region is not None:
            counts &= region.pixels(block)
        return (
            np.where(counts, classes.read(block), NODATA_LABEL) if counts.any() else np.full(block.shape, NODATA_LABEL)
        )


@dataclass(frozen=True)
class LabelSetting:
    """What it takes to read the classes of an image's pixels: the labels, and what they mean."""

    reading: LabelReading
    table: ClassTable

    def open(self, image: str, scene: Scene, stack: ExitStack) -> ClassReader:
        """Open the labels of an image, to be closed with the stack."""
        return ClassReader(stack.enter_context(self.reading.open(image, scene.grid)), self.table)


class OrthophotoPatches(ImageSet):
    """Square patches of a set of images.

    Items are ``{"image": (bands, input_px, input_px)}`` and, where there are labels, ``"mask": (input_px, input_px)``,
    255 where unknown, without data or not to be counted; where there are polygons, ``"segments"`` of the same shape.

    Args:
        images: that patches are cut from.
        places: where patches are cut.
        channels: bands of a patch.
        patch_px: side of a patch in pixels of what the images are brought to.
        input_px: side it is resized to, bilinearly; masks by the nearest pixel.
        one_pixel_size: images are brought to one pixel size, so that sides of patches differ.
        bands: see :func:`geohp.raster.read.scene.open_scene`.
        labels: how to read classes.
        polygons: that are proposed as masks.
    """

    kind = "geohp.data.patch_sets.OrthophotoPatches"

    def __init__(
        self,
        images: Sequence[PatchImage],
        places: Sequence[PatchPlace],
        *,
        channels: int,
        patch_px: int,
        input_px: int,
        one_pixel_size: bool = False,
        bands: Sequence[int | str] | None = None,
        labels: LabelSetting | None = None,
        polygons: PolygonLayers | None = None,
    ) -> None:
        self.images, self.places, self.channels = {image.path: image for image in images}, list(places), channels
        self.patch_px, self.input_px, self.bands = patch_px, input_px, bands
        self.one_pixel_size, self.labels, self.labelled = one_pixel_size, labels, labels is not None
        self._open = OpenFiles[_OpenImage](_OPEN_SCENES)
        self.polygons, self.segmented = polygons, polygons is not None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        place = self.places[index]
        with self._open.use(place.path, lambda stack: self._opened(place.path, stack)) as image:
            # What needs no other pixel size is read as ever, however large.
            if self.images[place.path].side_px ** 2 > _AT_ONCE_PX and self.one_pixel_size:
                return self._by_strips(place, image)
            return self._whole(place, image)

    def _whole(self, place: PatchPlace, image: _OpenImage) -> Item:
        import torch  # when there is an image to read: surveying them does without

        side = self.images[place.path].side_px
        data, valid = read_patch(image.scene, place.row, place.col, side)
        item: Item = {"image": resized(torch.from_numpy(data), self.input_px)}
        if image.classes is not None:
            block = place.block(image.scene, side)
            inside = np.s_[: block.height, : block.width]
            mask = np.full(valid.shape, NODATA_LABEL, np.int64)
            mask[inside] = self._classes(place, block, valid[inside], image.classes)
            item["mask"] = resized_mask(torch.from_numpy(mask), self.input_px)
        return self._with_segments(item, place, image, side)

    def _classes(
        self, place: PatchPlace, block: Block, valid: NDArray[np.bool_], classes: ClassReader
    ) -> NDArray[np.int64]:
        return place.counted_classes(block, valid, classes, self.images[place.path].region)

    def _by_strips(self, place: PatchPlace, image: _OpenImage) -> Item:
        """A patch of so many pixels that it is read and resized strip by strip; but for rounding the same."""
        import torch

        out, side = self.input_px, self.images[place.path].side_px
        block = place.block(image.scene, side)
        picked = resized_index(side, out)
        cols = picked < block.width
        mask = np.full((out, out), NODATA_LABEL, np.int64)
        narrow: list[Tensor] = []
        total, count = np.zeros(self.channels), 0
        for strip in strips(block):
            data, valid = image.scene.read(*strip)
            total, count = total + data.sum((1, 2), dtype=np.float64), count + int(valid.sum())
            planes = np.concatenate([data, valid[None].astype(np.float32)])
            planes = np.pad(planes, ((0, 0), (0, 0), (0, side - block.width)), mode="symmetric")
            narrow.append(interpolated(torch.from_numpy(planes), (strip.height, out)))
            first = strip.row - place.row
            rows = (picked >= first) & (picked < first + strip.height)
            if image.classes is not None and rows.any():
                classes = self._classes(place, strip, valid, image.classes)
                mask[np.ix_(rows, cols)] = classes[np.ix_(picked[rows] - first, picked[cols])]
        tall = np.pad(torch.cat(narrow, 1).numpy(), ((0, 0), (0, side - block.height), (0, 0)), mode="symmetric")
        small = interpolated(torch.from_numpy(tall), (out, out))
        # Resizing is linear, so that what is invalid, read as 0, may take the mean of the valid afterwards.
        mean = torch.from_numpy(total / max(count, 1)).float()
        item: Item = {"image": small[:-1] + (1 - small[-1:]) * mean[:, None, None]}
        if image.classes is not None:
            item["mask"] = torch.from_numpy(mask)
        return self._with_segments(item, place, image, side)

    def _with_segments(self, item: Item, place: PatchPlace, image: _OpenImage, side: int) -> Item:
        """The item with its polygons, read strip by strip where it is large."""
        if image.polygons is None:
            return item
        import torch

        block, picked = place.block(image.scene, side), resized_index(side, self.input_px)
        cols = picked[picked < block.width]
        segments = np.full((self.input_px, self.input_px), -1, np.int64)
        for strip in strips(block):
            first = strip.row - place.row
            rows = np.flatnonzero((picked >= first) & (picked < first + strip.height))
            numbers = image.polygons.read(strip)
            segments[rows, : len(cols)] = numbers[np.ix_(picked[rows] - first, cols)]
        item["segments"] = torch.from_numpy(segments)
        return item

    def name(self, index: int) -> str:
        """File, row and column; and the side, where patches are not all of the same."""
        place = self.places[index]
        side = f" ({self.images[place.path].side_px} px)" if self.one_pixel_size else ""
        return f"{without_credentials(place.path)} row {place.row} column {place.col}{side}"

    def files(self) -> Sequence[str]:
        """Images that patches are cut from, with what these consist of, and labels that may lie on them."""
        return self.files_of(range(len(self)))

    def files_of(self, indices: Iterable[int]) -> Sequence[str]:
        """The same of some patches."""
        return sorted({file for part in self._watched(indices) for file in part.states})

    def unchanged(self) -> UnchangedFiles:
        """All :meth:`files` as they were when they were surveyed."""
        return UnchangedFiles.joined("a file of the data", self._watched(range(len(self))))

    def _watched(self, indices: Iterable[int]) -> Iterator[UnchangedFiles]:
        """The images of some patches, the labels that may lie on them, and the polygons."""
        images = {self.places[index].path for index in indices}
        yield from (self.images[image].unchanged for image in images)
        if self.labels is not None:
            yield from self.labels.reading.files.over(images)
        if self.polygons is not None:
            yield self.polygons.unchanged

    def identity(self) -> str:
        """What tells this set from others: a hash; of what labels mean and which pixels count in full."""
        digest = hashlib.sha256(super().identity().encode())
        reading = None if self.labels is None else self.labels.reading
        meaning = self.labels and reading and (self.labels.table.numbers, reading.field, reading.layer)
        skipped = [(place.skip_rows, place.skip_cols) for place in self.places]
        digest.update(repr((self.patch_px, self.input_px, self.bands, meaning, skipped)).encode())
        if self.polygons is not None:
            digest.update(repr(self.polygons).encode())
        for place in self.places:
            image = self.images[place.path]
            digest.update(repr(image.scaling).encode())
            if image.region is not None:
                counts = image.region.pixels(Block(place.row, place.col, image.side_px, image.side_px))
                digest.update(np.packbits(counts).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the images that are open."""
        self._open.close()

    def _opened(self, path: str, stack: ExitStack) -> _OpenImage:
        scene = stack.enter_context(open_scene(path, bands=self.bands, scaling=self.images[path].scaling))
        return _OpenImage(
            scene,
            None if self.labels is None else self.labels.open(path, scene, stack),
            None if self.polygons is None else self.polygons.open(path, scene.grid),
        )


class _OpenImage(NamedTuple):
    """An image, its classes and polygons, as long as they are in use."""

    scene: Scene
    classes: ClassReader | None
    polygons: PolygonNumbers | None


def strips(block: Block) -> Iterator[Block]:
    """A block from top to bottom, in parts of as many pixels as are held at once; mostly it is one."""
    step = max(1, _AT_ONCE_PX // block.width)
    for first in range(0, block.height, step):
        yield Block(block.row + first, block.col, min(step, block.height - first), block.width)
