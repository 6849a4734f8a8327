"""Placement: from pixel corners to the map, through a transform or ground control points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import GCPTransformer

from geohp.raster.grid import Grid

_BEND_PX = 0.01
"""Ground control points that bend lines by less than this are taken to keep them straight."""


class Placement:
    """Where the corners of pixels lie: takes (n, 2) of (column, row) to (n, 2) of (x, y) in the grid's CRS.

    A raster with ground control points instead of a transform is placed by the polynomial that GDAL fits to
    them, which is where GDAL's warper and QGIS put it: of second degree from six points on, else an affine one. For one
    without either see :attr:`geohp.raster.grid.Grid.affine`; units are pixels.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid, self._affine = grid, grid.affine

    def __call__(self, corners: NDArray[np.float64]) -> NDArray[np.float64]:
        """Place corners, see the class."""
        if self._grid.gcps:
            with GCPTransformer(list(self._grid.gcps)) as fitted:
                x, y = fitted.xy(corners[:, 1], corners[:, 0], offset="ul")
            return np.column_stack([x, y])
        a, b, c, d, e, f = self._affine[:6]
        col, row = corners[:, 0], corners[:, 1]
        return np.column_stack([c + a * col + b * row, f + d * col + e * row])

    @property
    def axis_aligned(self) -> bool:
        """Whether rows run exactly along x and columns along y."""
        return not self._grid.gcps and self._affine.b == 0 == self._affine.d

    @property
    def straight(self) -> bool:
        """Whether straight lines of pixels are straight on the map."""
        if not self._grid.gcps:
            return True
        col, row = np.meshgrid(np.linspace(0, self._grid.width, 9), np.linspace(0, self._grid.height, 9))
        corners = np.column_stack([col.ravel(), row.ravel(), np.ones(col.size)])
        placed = self(corners[:, :2])
        affine, *_ = np.linalg.lstsq(corners, placed)
        pixel = np.sqrt(abs(np.linalg.det(affine[:2])))
        return bool(np.abs(corners @ affine - placed).max() < _BEND_PX * pixel)
