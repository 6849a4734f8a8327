"""Reading a raster of numbers, such as a confidence or heights, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geohp.errors import SceneError
from geohp.raster.block import Block
from geohp.raster.gdal import FAILURES, gdal_message
from geohp.raster.read.opened import check_readable
from geohp.raster.read.unchanged import UnchangedFiles
from geohp.raster.read.validity import ValidityPlan


class QuantityRaster:
    """The first band of an open raster that lies on a label map's grid.

    Args:
        dataset: open in rasterio.
        name: the raster in messages.
        scale: that its values are multiplied by, and an offset; the raster's own by default.

    Raises:
        SceneError: it holds no bands, complex values, or ones that nothing finite scales.
    """

    def __init__(self, dataset: Any, name: str, scale: tuple[float, float] | None = None) -> None:
        check_readable(dataset, name)
        if dataset.dtypes[0].startswith("complex"):
            raise SceneError(f"{name} holds complex values, no quantities", "convert it to amplitudes first")
        self._scale: tuple[float, float] = scale or (dataset.scales[0], dataset.offsets[0])
        if not np.isfinite(self._scale).all():
            raise SceneError(
                f"{name} has a scale or offset that is no finite number", "correct it (gdal_edit.py -scale)"
            )
        self._dataset, self.name = dataset, name
        self.unchanged = UnchangedFiles(name, dataset.files)
        self._validity = ValidityPlan.of(dataset, [1])

    def read(self, block: Block, shape: tuple[int, int] | None = None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values, the raster's scale and offset applied, and validity, both (rows, cols), of a block.

        Args:
            block: inside the raster.
            shape: rows and columns to average it to.

        Raises:
            SceneError: it cannot be read.
        """
        reduced = {} if shape is None else {"out_shape": shape, "resampling": Resampling.average}
        try:
            stored = self._dataset.read(1, window=block.window, **reduced)
            valid = self._validity.of_block(self._dataset, block, stored[None])
        except FAILURES as error:
            raise SceneError(
                f"{self.name} cannot be read at row {block.row}, column {block.col} of the label map "
                f"({gdal_message(error)})",
                "the file may be damaged",
            ) from error
        return stored.astype(np.float64) * self._scale[0] + self._scale[1], valid
