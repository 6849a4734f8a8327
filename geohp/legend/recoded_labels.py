"""Labels as a legend names them, while they are read."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass, default_classes
from geohp.errors import VectorError
from geohp.legend.file import Legend
from geohp.raster.block import Block
from geohp.raster.read.labels import LabelRaster


class RecodedLabels(LabelRaster):
    """A label raster that reads as the classes of a legend, uint8, 255 where there is no data.

    Attributes:
        name, grid, band: of the raster.
        model_sha256: tells the recoded labels from those of the model itself.
        labels: of the recoded raster, all that it may have; ``None`` where the raster declares none.
        classes: those of the legend, then those that the raster declares and the legend does not name, and those that
            have occurred so far without being known.
    """

    scaled = False  # classes, whatever the raster's integers stand for

    def __init__(self, raster: LabelRaster, legend: Legend) -> None:
        """Apply a legend to an open raster.

        Raises:
            ConfigError: the legend names a label that the raster, by its own list, does not have, or was made for the
                labels of another model.
        """
        legend.check_model(raster.model_sha256, raster.name)
        if raster.labels is not None:
            legend.check(raster.labels, raster.name)
        self._raster, self._legend = raster, legend
        self.name, self.grid, self.band = raster.name, raster.grid, raster.band
        self.model_sha256 = _recoded_sha256(raster.model_sha256, legend)
        self._others: tuple[LandCoverClass, ...] = ()
        self._lookup = legend.lookup(raster.classes)
        self.classes = legend.all_classes(raster.classes)
        self.labels = None if raster.labels is None else tuple(entry.id for entry in self.classes)
        self._seen = {entry.id for entry in raster.classes} | set(legend.labels)

    def read(self, block: Block) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Classes and validity, both (rows, cols), of a block.

        Raises:
            SceneError: it cannot be read.
            VectorError: a label that has no name, and no class number is left for it.
        """
        values, valid = self._raster.read(block)
        recoded = np.full(values.shape, NODATA_LABEL, np.uint8)
        present, ranks = ranked(values[valid])
        recoded[valid] = self._numbers(present.tolist())[ranks]
        return recoded, valid

    def _numbers(self, labels: list[int]) -> NDArray[np.uint8]:
        """(n,) numbers of the classes of different labels, of which note is taken."""
        for label in labels:
            if label not in self._lookup:
                raise VectorError(
                    f"{self.name} has label {label}, which {self._legend.name} does not name, and none of the numbers "
                    f"0 to {NODATA_LABEL - 1} is left for it",
                    "name it in the legend",
                )
        unseen = [label for label in labels if label not in self._seen]
        if unseen:
            self._seen.update(unseen)
            self._others = (*self._others, *map(_unnamed, unseen))
            self.classes = self._legend.all_classes(self._raster.classes, self._others)
        return np.array([self._lookup[label] for label in labels], np.uint8)


def ranked(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The different integers among (n,) values, ascending, and for each value its place among them, (n,)."""
    if values.dtype.itemsize > 2 or not values.size:  # no table for these
        distinct, ranks = np.unique(values, return_inverse=True)
        return distinct.astype(np.int64), ranks.reshape(values.shape)
    least = int(np.iinfo(values.dtype).min)
    shifted = values.astype(np.int64) - least
    counts = np.bincount(shifted)
    distinct = np.flatnonzero(counts)
    places = np.zeros(len(counts), np.intp)
    places[distinct] = np.arange(len(distinct))
    return distinct + least, places[shifted]


def _recoded_sha256(model_sha256: str | None, legend: Legend) -> str | None:
    if model_sha256 is None:
        return None
    return hashlib.sha256(f"{model_sha256} {sorted(legend.labels.items())}".encode()).hexdigest()


def _unnamed(label: int) -> LandCoverClass:
    """A label's name and colour where nobody says."""
    if 0 <= label < NODATA_LABEL:
        return default_classes(label + 1)[label]
    return LandCoverClass(label, f"class {label}", default_classes(1)[0].colour)
