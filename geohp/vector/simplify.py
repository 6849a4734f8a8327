"""Simplification that keeps a coverage a coverage: shared borders stay shared, no gap opens, nothing overlaps."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.raster.block import Block
from geohp.vector.measures import PixelAreas
from geohp.vector.outlines import junctions, trace
from geohp.vector.placement import Placement
from geohp.vector.regions import find_regions


class Simplifier:
    """Straightens outlines by leaving out corners (Visvalingam and Whyatt's method, on all borders at once).

    A corner goes when the triangle it forms with its neighbours is smaller than the square of the tolerance, the
    smallest first. The tolerance is thus the side of a square, not a distance: to take the steps off outlines that
    follow pixels, one pixel size is a good start.

    The tolerance is in metres on the ground whatever the CRS: it is converted to pixels by their true area, which
    alone matters to the method, block by block; the polygons themselves are never reprojected.

    Each block is simplified on its own, and corners where outlines cross from block to block stay: so do the sides
    of the raster. Outlines that meet at a corner that stays cannot come to cross, nor can those of different blocks;
    the coverage is as valid as that of each block, which the library sees to.

    Args:
        tolerance_m: above 0.
        areas: of the raster's pixels.
        outer: also straighten outlines that have no data on the other side. Otherwise these keep all corners.
    """

    def __init__(self, tolerance_m: float, areas: PixelAreas, *, outer: bool = False) -> None:
        self._tolerance_m, self._areas, self._outer = tolerance_m, areas, outer

    def vertices(
        self, ids: NDArray[np.int32], corners: NDArray[np.bool_], block: Block, placement: Placement
    ) -> NDArray[np.bool_]:
        """Which corners stay.

        Args:
            ids: (rows + 2, cols + 2) regions of a block's pixels and of those around it.
            corners: (rows + 1, cols + 1) all there are.
            block: where it lies.
            placement: of the raster.

        Returns:
            (rows + 1, cols + 1) those to keep.
        """
        inside = ids[1:-1, 1:-1]
        # Within the block, what is one region may be several pieces, and where there is no data there may be several.
        valid = inside > 0
        everywhere = np.ones_like(valid) if self._outer else valid
        pieces = np.pad(find_regions(inside, everywhere).ids, 1)
        rings, _ = trace(pieces, junctions(pieces) if placement.straight else corners)
        _, polygons = rings.polygons(lambda at: at)
        mean_m2 = float(self._areas.units(block).mean()) * self._areas.unit_m2
        tolerance_px = self._tolerance_m / np.sqrt(mean_m2)
        simple = shapely.coverage_simplify(polygons, tolerance_px, simplify_boundary=False)
        stay = np.zeros_like(corners)
        col, row = np.rint(shapely.get_coordinates(simple)).astype(np.int64).T
        stay[row, col] = True
        # On the block's margin, also what only the neighbouring block makes a corner.
        for side in ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1)):
            stay[side] |= corners[side]
        return stay
