"""Patches of images as a set: at given places, with the classes of their pixels where these are known."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.classes import NODATA_LABEL
from geohp.data.base import ImageSet
from geohp.data.label_files import LabelFiles
from geohp.data.labels import ClassReader, ClassTable, open_labels_of
from geohp.data.regions import Region
from geohp.raster.grid import Block
from geohp.raster.patches import read_patch
from geohp.raster.scaling import Scaling
from geohp.raster.scenes import Scene, open_scene

_OPEN_SCENES = 16


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
        input_px: side it is resized to, bilinearly; masks by the nearest pixel.
        bands: see :func:`geohp.raster.scenes.open_scene`.
        labels: how to read classes.
        regions: of images of which only the pixels in a part count.
    """

    def __init__(
        self,
        places: Sequence[PatchPlace],
        *,
        scalings: Mapping[str, Scaling],
        channels: int,
        patch_px: int,
        input_px: int | None = None,
        bands: Sequence[int | str] | None = None,
        labels: LabelSetting | None = None,
        regions: Mapping[str, Region] | None = None,
    ) -> None:
        self.places, self.scalings, self.channels = list(places), dict(scalings), channels
        self.patch_px, self.input_px, self.bands = patch_px, input_px or patch_px, bands
        self.labels, self.regions = labels, dict(regions or {})
        self.labelled = labels is not None
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.places[index]
        opened = self._opened(place.path)
        data, valid = read_patch(opened.scene, place.row, place.col, self.patch_px)
        item: dict[str, Any] = {"image": resized(torch.from_numpy(data), self.input_px)}
        if opened.classes is not None:
            mask = np.full(valid.shape, NODATA_LABEL, np.int64)
            inside = Block(
                place.row,
                place.col,
                min(self.patch_px, opened.scene.height - place.row),
                min(self.patch_px, opened.scene.width - place.col),
            )
            mask[: inside.height, : inside.width] = opened.classes.read(inside)
            counts = valid.copy()
            counts[: place.skip_rows] = False
            counts[:, : place.skip_cols] = False
            if place.path in self.regions:
                counts[: inside.height, : inside.width] &= self.regions[place.path].pixels(inside)
            mask[~counts] = NODATA_LABEL
            item["mask"] = resized_mask(torch.from_numpy(mask), self.input_px)
        return item

    def name(self, index: int) -> str:
        """File, row and column."""
        place = self.places[index]
        return f"{place.path} row {place.row} column {place.col}"

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


def resized(image: Tensor, side: int) -> Tensor:
    """(bands, H, W) to (bands, side, side), bilinear, antialiased where it shrinks."""
    if image.shape[-2:] == (side, side):
        return image
    return F.interpolate(image[None], size=(side, side), mode="bilinear", antialias=True)[0]


def resized_mask(mask: Tensor, side: int) -> Tensor:
    """(H, W) to (side, side), the nearest pixel."""
    if mask.shape == (side, side):
        return mask
    # Labels are below 2**24, which float32 holds exactly.
    return F.interpolate(mask[None, None].float(), size=(side, side), mode="nearest-exact")[0, 0].long()
