"""Patches of images as a set: at given places, with the classes of their pixels where these are known."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geohp.classes import NODATA_LABEL
from geohp.data.base import ImageSet
from geohp.data.orthophotos.label_files import LabelFiles
from geohp.data.orthophotos.labels import ClassReader, ClassTable, open_labels_of
from geohp.data.orthophotos.regions import Region
from geohp.raster.block import Block
from geohp.raster.read.labels import opened_raster
from geohp.raster.read.patches import read_patch
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import Scene, open_scene

_OPEN_SCENES = 16
_AT_ONCE_PX = 1 << 22
"""Pixels of a scene that are held at once, where a patch has more."""


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


@dataclass(frozen=True)
class LabelSetting:
    """What it takes to read the classes of an image's pixels.

    Attributes:
        files: labels and their images.
        table: their classes.
        field, layer: of polygons.
    """

    files: LabelFiles
    table: ClassTable
    field: str | None = None
    layer: str | None = None

    def reader(self, image: str, scene: Scene, stack: ExitStack) -> ClassReader:
        """Open the labels of an image, to be closed with the stack.

        Raises:
            DataError, SceneError: labels that cannot be used.
        """
        opened = open_labels_of(image, scene.grid, self.files, field=self.field, layer=self.layer)
        return ClassReader(stack.enter_context(opened), self.table)


class OrthophotoPatches(ImageSet):
    """Square patches of a set of images.

    Items are ``{"image": (bands, input_px, input_px) float32 in [0, 1]}`` and, where there are labels, ``"mask":
    (input_px, input_px) int64``, classes from 0, 255 where unknown, without data or not to be counted.

    Args:
        places: where patches are cut.
        scalings: of each image.
        channels: bands of a patch.
        patch_px: side of a patch in the images' pixels.
        windows: the same of images whose pixels are of another size than patches are wanted at, by path.
        input_px: side it is resized to, bilinearly; masks by the nearest pixel.
        bands: see :func:`geohp.raster.read.scene.open_scene`.
        labels: how to read classes.
        regions: of images of which only the pixels in a part count.
        files: what an image consists of, where that is more than the file it is called by.
    """

    def __init__(
        self,
        places: Sequence[PatchPlace],
        *,
        scalings: Mapping[str, Scaling],
        channels: int,
        patch_px: int,
        windows: Mapping[str, int] | None = None,
        input_px: int | None = None,
        bands: Sequence[int | str] | None = None,
        labels: LabelSetting | None = None,
        regions: Mapping[str, Region] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.places, self.scalings, self.channels = list(places), dict(scalings), channels
        self.patch_px, self.input_px, self.bands = patch_px, input_px or patch_px, bands
        self.labels, self.regions = labels, dict(regions or {})
        self.windows, self._files = dict(windows or {}), dict(files or {})
        self.labelled = labels is not None
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.places[index]
        opened, side = self._opened(place.path), self.side(place.path)
        # What needs no other pixel size is read as ever, however large.
        if side**2 > _AT_ONCE_PX and place.path in self.windows:
            return self._shrunk(place, opened, side)
        data, valid = read_patch(opened.scene, place.row, place.col, side)
        item: dict[str, Any] = {"image": resized(torch.from_numpy(data), self.input_px)}
        if opened.classes is not None:
            inside = _inside(opened.scene, place, side)
            mask = np.full(valid.shape, NODATA_LABEL, np.int64)
            here = np.s_[: inside.height, : inside.width]
            mask[here] = self._classes(place, opened.classes, inside, valid[here])
            item["mask"] = resized_mask(torch.from_numpy(mask), self.input_px)
        return item

    def _classes(
        self, place: PatchPlace, classes: ClassReader, block: Block, valid: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Classes (rows, cols) of a block of a patch, 255 where they do not count."""
        counts = valid.copy()
        counts[: max(0, place.row + place.skip_rows - block.row)] = False
        counts[:, : place.skip_cols] = False
        if place.path in self.regions:
            counts &= self.regions[place.path].pixels(block)
        return np.where(counts, classes.read(block), NODATA_LABEL)

    def _shrunk(self, place: PatchPlace, opened: _Opened, side: int) -> dict[str, Any]:
        """A patch of so many pixels that it is read and resized strip by strip; but for rounding the same."""
        scene, out = opened.scene, self.input_px
        inside = _inside(scene, place, side)
        picked = resized_index(side, out)
        cols = picked < inside.width
        mask = np.full((out, out), NODATA_LABEL, np.int64)
        narrow, total, count = list[Tensor](), np.zeros(self.channels), 0
        for strip in strips(inside):
            data, valid = scene.read(*strip)
            total, count = total + data.sum((1, 2), dtype=np.float64), count + int(valid.sum())
            both = np.concatenate([data, valid[None].astype(np.float32)])
            both = np.pad(both, ((0, 0), (0, 0), (0, side - inside.width)), mode="symmetric")
            narrow.append(_interpolated(torch.from_numpy(both), (strip.height, out)))
            first = strip.row - place.row
            rows = (picked >= first) & (picked < first + strip.height)
            if opened.classes is not None and rows.any():
                classes = self._classes(place, opened.classes, strip, valid)
                mask[np.ix_(rows, cols)] = classes[np.ix_(picked[rows] - first, picked[cols])]
        tall = np.pad(torch.cat(narrow, 1).numpy(), ((0, 0), (0, side - inside.height), (0, 0)), mode="symmetric")
        small = _interpolated(torch.from_numpy(tall), (out, out))
        # Resizing is linear, so that what is invalid, read as 0, may take the mean of the valid afterwards.
        mean = torch.from_numpy(total / max(count, 1)).float()
        item: dict[str, Any] = {"image": small[:-1] + (1 - small[-1:]) * mean[:, None, None]}
        if opened.classes is not None:
            item["mask"] = torch.from_numpy(mask)
        return item

    def side(self, path: str) -> int:
        """Side of a patch in pixels of the image it is cut from."""
        return self.windows.get(path, self.patch_px)

    def name(self, index: int) -> str:
        """File, row and column; and the side, where patches are not all of the same."""
        place = self.places[index]
        side = f" ({self.windows[place.path]} px)" if place.path in self.windows else ""
        return f"{place.path} row {place.row} column {place.col}{side}"

    def files(self) -> Sequence[str]:
        """Images that patches are cut from, with what these consist of, and labels that may lie on them."""
        images = {place.path for place in self.places}
        found = {file for image in images for file in (image, *self._files.get(image, ()))}
        if self.labels is not None:
            of_image, over = self.labels.files.of_image, (*self.labels.files.rasters, *self.labels.files.vectors)
            for label in (*over, *(of_image[image] for image in images if image in of_image)):
                found |= {label, *_companions(label)}
        return sorted(found)

    def identity(self) -> str:
        """What tells this set from others: a hash; of what labels mean and which pixels count in full."""
        digest = hashlib.sha256(super().identity().encode())
        told = None if self.labels is None else (self.labels.table.numbers, self.labels.field, self.labels.layer)
        skipped = [(place.skip_rows, place.skip_cols) for place in self.places]
        digest.update(repr((self.patch_px, self.input_px, self.bands, told, skipped)).encode())
        for place in self.places:
            side = self.side(place.path)
            digest.update(repr(self.scalings.get(place.path)).encode())
            if place.path in self.regions:
                counts = self.regions[place.path].pixels(Block(place.row, place.col, side, side))
                digest.update(np.packbits(counts).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the images that are open."""
        while self._open:
            self._open.popitem()[1].stack.close()

    def __getstate__(self) -> dict[str, Any]:
        # Reader processes open the images anew: GDAL handles do not travel.
        return {**self.__dict__, "_open": OrderedDict()}

    def _opened(self, path: str) -> _Opened:
        if self._process != os.getpid():
            # A process that was forked shares its parent's handles, and with them the place each reads at.
            self._open, self._process = OrderedDict(), os.getpid()
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        if len(self._open) >= _OPEN_SCENES:
            self._open.popitem(last=False)[1].stack.close()
        with ExitStack() as stack:
            scene = stack.enter_context(open_scene(path, bands=self.bands, scaling=self.scalings[path]))
            classes = None if self.labels is None else self.labels.reader(path, scene, stack)
            self._open[path] = _Opened(scene, classes, stack.pop_all())
        return self._open[path]


@dataclass(frozen=True)
class _Opened:
    """An image and its classes, as long as they are in use."""

    scene: Scene
    classes: ClassReader | None
    stack: ExitStack


def strips(block: Block) -> Iterator[Block]:
    """A block from top to bottom, in parts of as many pixels as are held at once; mostly it is one."""
    step = max(1, _AT_ONCE_PX // block.width)
    for first in range(0, block.height, step):
        yield Block(block.row + first, block.col, min(step, block.height - first), block.width)


def _inside(scene: Scene, place: PatchPlace, side: int) -> Block:
    """What of a patch the scene covers."""
    return Block(place.row, place.col, side, side).clip((scene.height, scene.width))


def _companions(label: str) -> Sequence[str]:
    """Files that labels also lie in."""
    if Path(label).suffix.lower() == ".shp":
        return [str(path) for suffix in (".dbf", ".DBF") if (path := Path(label).with_suffix(suffix)).is_file()]
    if Path(label).suffix.lower() == ".vrt":
        with opened_raster(label) as (dataset, _):
            return [str(name) for name in dataset.files]
    return ()


def resized(image: Tensor, side: int) -> Tensor:
    """(bands, H, W) to (bands, side, side), bilinear, antialiased where it shrinks."""
    return image if image.shape[-2:] == (side, side) else _interpolated(image, (side, side))


def _interpolated(image: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size=shape, mode="bilinear", antialias=True)[0]


def resized_mask(mask: Tensor, side: int) -> Tensor:
    """(H, W) to (side, side), the nearest pixel."""
    if mask.shape == (side, side):
        return mask
    # Labels are below 2**24, which float32 holds exactly.
    return F.interpolate(mask[None, None].float(), size=(side, side), mode="nearest-exact")[0, 0].long()


def resized_index(length: int, side: int) -> NDArray[np.int64]:
    """Which of ``length`` rows or columns are the (side,) that :func:`resized_mask` takes."""
    every = torch.arange(length, dtype=torch.float32)
    found: NDArray[np.int64] = F.interpolate(every[None, None], size=side, mode="nearest-exact")[0, 0].long().numpy()
    return found
