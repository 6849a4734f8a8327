"""Label maps of arrays: read without a copy, and of dask chunks no more is computed than what is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block
from geohp.raster.gdal import gdal_env, open_raster
from geohp.raster.read.arrays import array_label, bands_first, stored_as, to_memory_file, unmasked
from geohp.raster.read.labels import LabelRaster

if TYPE_CHECKING:
    from xarray import DataArray


class LabelArray(LabelRaster):
    """The label map of an array; see :func:`open_label_array`."""

    def __init__(self, array: DataArray, dataset: Any, name: str) -> None:
        """Look at an array.

        Args:
            array: the labels.
            dataset: an open raster that is laid out like it, without its pixels.
            name: the array in messages.
        """
        super().__init__(dataset, name, array.attrs)
        self._planes = bands_first(array, name)
        self._dtype = stored_as(array.dtype)

    def read(self, block: Block) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels and validity, both (rows, cols), of a block."""
        return self._values(*block.slices)

    def thinned(self, most_px: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels and validity at evenly spaced pixels, not more than so many along a side."""
        step = max(1, -(-max(self.grid.shape) // most_px))
        return self._values(slice(None, None, step), slice(None, None, step))

    def _values(self, rows: slice, cols: slice) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        values = self._planes[self.band - 1, rows, cols].to_numpy().astype(self._dtype, copy=False)
        alphas = [self._planes[number - 1, rows, cols].to_numpy() for number in self._validity.alphas]
        return values, self._validity.of_planes(values[None], alphas)


@contextmanager
def open_label_array(array: DataArray) -> Iterator[LabelArray]:
    """An array as a label map; what is refused is that of :func:`geohp.raster.read.labels.open_labels`."""
    array, name = unmasked(array), array_label(array)
    with gdal_env(), to_memory_file(array, name, pixels=False) as memory, open_raster(memory.name) as dataset:
        labels = LabelArray(array, dataset, name)
        labels.refuse_quantities()
        yield labels
