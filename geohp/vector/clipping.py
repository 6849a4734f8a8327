"""Polygons of an area of interest: cut exactly at its edge, with nothing of it uncovered and no slivers.

A pixel belongs to the area with the share of it that lies inside. Regions are found among pixels that have such a
share; one that is less than half a pixel in all goes to its neighbour, as small regions do; and the outlines of all
others are cut in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.errors import VectorError
from geohp.raster.area_of_interest import AreaOfInterest, PixelArea
from geohp.raster.block import Block, BlockGrid
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster
from geohp.vector.measures import PixelAreas

_STEPS = 2**24  # that the area of a pixel is told in, where all pixels are alike
_TILE_PX = 64  # side of tiles whose pixels are cut one by one
_DUST = 1e-6  # of a pixel: what is smaller comes of rounding
_SLIVER = 0.5  # of a pixel


@dataclass(frozen=True)
class Clip:
    """An area of interest on a label map.

    Attributes:
        shape: in the map's CRS.
        coverage: of the map's pixels.
        pixel: area of a pixel in the CRS's own units.
    """

    shape: Any
    coverage: Coverage
    pixel: float

    @classmethod
    def of(cls, area: AreaOfInterest, grid: Grid, name: str) -> Clip:
        """Place an area on a map.

        Raises:
            SourceError: it lies beside the map, or nobody knows where it lies on it.
            VectorError: the map is placed by ground control points, between which nobody can cut exactly.
        """
        if grid.gcps:
            problem = f"{name} is placed by ground control points, and cannot be cut exactly"
            raise VectorError(problem, "warp it first (gdalwarp), or leave the area out")
        shape = area.in_crs_of(grid, name)
        placed = area.placed(shape, grid)
        if shapely.area(placed.shape) <= 0:
            raise area.beside(name)
        shapely.prepare(shape)
        return cls(shape, Coverage(placed), abs(float(grid.affine.determinant)))

    def cut(self, polygons: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """What of (n,) polygons lies inside, and which of them were cut.

        Parts that a polygon falls into stay together, as a multipolygon.
        """
        cut = ~shapely.contains(self.shape, polygons)
        inside = polygons.copy()
        inside[cut] = [self._swept(each) for each in shapely.intersection(polygons[cut], self.shape)]
        return inside, cut

    def _swept(self, shape: Any) -> Any:
        """A cut shape without the lines, points and dust of its contact with the edge."""
        parts = shapely.get_parts(shapely.get_parts(shape))
        parts = parts[shapely.area(parts) > _DUST * self.pixel]
        return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)

    def sliver_m2(self, areas: PixelAreas, grid: Grid) -> float:
        """Up to which area a region is a sliver."""
        corners = (Block(row, grid.width // 2, 1, 1) for row in (0, grid.height - 1))
        return _SLIVER * min(areas.mean_m2(corner) for corner in corners)


class Coverage:
    """Which share of each pixel lies in an area."""

    def __init__(self, area: PixelArea) -> None:
        self.area = area
        self._last: tuple[Block, NDArray[np.float64]] | None = None

    def of(self, block: Block) -> NDArray[np.float64]:
        """Shares (rows, cols) from 0 to 1 of a block's pixels."""
        if self._last is None or self._last[0] != block:
            self._last = block, self._shares(block)
        return self._last[1]

    def _shares(self, block: Block) -> NDArray[np.float64]:
        if not self.area.touches(block):
            return np.zeros(block.shape)
        return _shares_in(self.area.shape, block)


def _shares_in(shape: Any, tile: Block) -> NDArray[np.float64]:
    """Shares (rows, cols) of a tile's pixels that lie in a shape: tiles are quartered where its edge runs."""
    box = shapely.box(tile.col, tile.row, tile.right, tile.bottom)
    local = shapely.intersection(shape, box)
    covered = shapely.area(local)
    if covered == 0 or covered == tile.height * tile.width:
        return np.full(tile.shape, float(covered > 0))
    if max(tile.shape) > _TILE_PX:
        quarters = np.empty(tile.shape)
        for part in BlockGrid(*tile.shape, -(-max(tile.shape) // 2)).blocks:
            quarters[part.slices] = _shares_in(local, Block(tile.row + part.row, tile.col + part.col, *part.shape))
        return quarters
    rows, cols = np.mgrid[tile.row : tile.bottom, tile.col : tile.right]
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    shapely.prepare(local)
    shares: NDArray[np.float64] = shapely.covers(local, pixels).astype(float)
    partly = (shares == 0) & shapely.intersects(local, pixels)
    # Part by part: of many small areas, each pixel meets one or two.
    parts, rim = shapely.get_parts(local), pixels[partly]
    pixel, part = shapely.STRtree(parts).query(rim, predicate="intersects")
    inside = shapely.area(shapely.intersection(rim[pixel], parts[part]))
    shares[partly] = np.bincount(pixel, inside, len(rim))
    return np.where(shares > _DUST, shares, 0)


class AreaLabels(LabelRaster):
    """A label raster in which pixels that lie outside an area of interest hold no data."""

    def __init__(self, raster: LabelRaster, coverage: Coverage) -> None:
        self._raster, self._coverage = raster, coverage
        self.name, self.grid, self.band = raster.name, raster.grid, raster.band
        self.labels, self.scaled, self.model_sha256 = raster.labels, raster.scaled, raster.model_sha256

    @property
    def classes(self) -> Any:  # type: ignore[override]
        """Those of the raster, which may learn of more while it is read."""
        return self._raster.classes

    def read(self, block: Block) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels and validity, both (rows, cols), of a block; outside nothing is read."""
        if not self._coverage.area.touches(block):
            return np.zeros(block.shape, np.uint8), np.zeros(block.shape, bool)
        values, valid = self._raster.read(block)
        return values, valid & (self._coverage.of(block) > 0)


class CoveredAreas(PixelAreas):
    """True areas of what of each pixel lies in an area of interest."""

    def __init__(self, grid: Grid, coverage: Coverage) -> None:
        super().__init__(grid)
        self._coverage = coverage
        self._finer = _STEPS if self.uniform else 1
        self.unit_m2 /= self._finer

    def units(self, block: Block) -> NDArray[np.int64]:
        """Areas in units as (rows, cols)."""
        return np.rint(super().units(block) * self._finer * self._coverage.of(block)).astype(np.int64)

    def mean_m2(self, block: Block) -> float:
        """Mean area of a block's pixels, as a whole."""
        return float(super().units(block).mean()) * self._finer * self.unit_m2
