"""A dask array as a scene: of its chunks only those are computed that something is read from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from geohp.raster.block import Block
from geohp.raster.gdal import open_raster
from geohp.raster.read.arrays import bands_first, packed_dtype, stored_as, to_memory_file
from geohp.raster.read.bands import BandRequest
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import ScalingRequest, Scene, array_name
from geohp.raster.read.validity import ValidityPlan

if TYPE_CHECKING:
    import dask.array as da
    from xarray import DataArray

_SMALL_PX = 4 * 1024 * 1024
"""An array of no more pixels is looked at as a whole, a larger one at a lattice of patches."""


class LazyScene(Scene):
    """A scene of a dask array; read, it gives what :meth:`Scene.from_dataarray` would, bands and scaling alike.

    Attributes:
        planes: (bands read, rows, columns), each band once, in the type that a raster would store.
    """

    def __init__(self, array: DataArray, *, bands: BandRequest = None, scaling: ScalingRequest = "auto"):
        """Lay it out; a scaling that is measured computes some of it.

        Args:
            array: as for :meth:`Scene.from_dataarray`, with dask chunks.
            bands, scaling: as for :func:`geohp.raster.read.scene.open_scene`.
        """
        name = array_name(array)
        self._array = array
        with ExitStack() as stack:
            # A raster without pixels tells the rest: names, nodata and georeference as they would be read back.
            memory = stack.enter_context(to_memory_file(array, name, pixels=False))
            self._stored_planes: da.Array = bands_first(array, name).data.astype(stored_as(array.dtype))
            super().__init__(open_raster(memory.name), name, bands=bands, scaling=scaling, packed=packed_dtype(array))
            stack.push(self._closing.pop_all())  # the file before the memory it lies in
            self._closing = stack.pop_all()

    @property
    def planes(self) -> da.Array:
        """(bands read, rows, columns), each band once, in the type that a raster would store."""
        whole = self._numbers == list(range(1, len(self._stored_planes) + 1))
        return self._stored_planes if whole else self._stored_planes[[number - 1 for number in self._numbers]]

    @property
    def read_transform(self) -> ReadTransform:
        """How stored values become what is read."""
        return ReadTransform(self._plan, tuple(self._channels), tuple(self._opacities), self.scaling)

    def thumbnail(self, max_px: int, block: Block | None = None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A small array averaged down; of a larger one the means of patches on a lattice, each a pixel.

        Of a block, some of its pixels.
        """
        if block is not None:
            return super().thumbnail(max_px, block)
        if self.height * self.width <= _SMALL_PX:
            with Scene.from_dataarray(self._array, bands=self.band_request, scaling=self.scaling) as whole:
                return whole.thumbnail(max_px)
        blocks = self._lattice()
        rows = len({block.row for block in blocks})
        patches = [self._scaled(*stored) for stored in self._stored_each(blocks)]
        valid = np.array([valid.mean() for _, valid in patches]).reshape(rows, -1)
        data = np.stack([data.sum((1, 2)) / max(1, valid.sum()) for data, valid in patches], axis=1)
        return data.reshape(len(data), *valid.shape).astype(np.float32), valid >= min(0.5, valid.max() or 1)

    def _stored_each(self, blocks: Sequence[Block]) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
        from dask.base import compute

        # All at once, so that a chunk with several of them is computed once.
        computed = compute(*(self.planes[:, *block.slices] for block in blocks))
        return [(planes[self._channels], self._plan.of_planes(planes, planes[self._opacities])) for planes in computed]

    def _read_planes(self, window: Window, shape: tuple[int, int], resampling: Resampling) -> Any:
        spans = (window.row_off, window.height, shape[0]), (window.col_off, window.width, shape[1])
        rows, cols = (
            # Decimated, GDAL takes the pixel under the middle of each new one.
            slice(start, start + length)
            if length == out
            else start + ((np.arange(out) + 0.5) * length / out).astype(int)
            for start, length, out in spans
        )
        return self.planes[:, rows][:, :, cols].compute()


@dataclass(frozen=True)
class ReadTransform:
    """How the values of an array become data in [0, 1] and validity; needs no open raster.

    Attributes:
        plan: what is valid.
        channels: the plane of each channel.
        opacities: the planes that are 0 where there is no data.
        scaling: settled.
    """

    plan: ValidityPlan
    channels: tuple[int, ...]
    opacities: tuple[int, ...]
    scaling: Scaling

    def read(self, planes: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Data and validity as :meth:`Scene.read` gives them, of planes (bands read, rows, cols)."""
        valid = self.plan.of_planes(planes, planes[list(self.opacities)])
        data = self.scaling.apply(planes[list(self.channels)])
        data[:, ~valid] = 0
        return data, valid
