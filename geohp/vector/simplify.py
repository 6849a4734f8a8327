"""Simplification that keeps a coverage a coverage: shared borders stay shared, no gap opens, nothing overlaps."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.vector.outlines import junctions, trace
from geohp.vector.regions import find_regions


def simplified_corners(
    ids: NDArray[np.int32], corners: NDArray[np.bool_], tolerance_px: float, *, straight: bool, simplify_boundary: bool
) -> NDArray[np.bool_]:
    """The corners that stay when the outlines of a block are straightened.

    Corners are left out by Visvalingam and Whyatt's method, on all borders at once: a corner goes when the triangle it
    forms with its neighbours is smaller than the square of the tolerance, the smallest first. The tolerance is thus the
    side of a square, not a distance: to take the steps off outlines that follow pixels, one pixel size is a good start.

    Each block is simplified on its own, and corners where outlines cross from block to block stay: so do the sides
    of the raster. Outlines that meet at a corner that stays cannot come to cross, nor can those of different blocks;
    the coverage is as valid as that of each block, which the library sees to.

    Args:
        ids: (rows + 2, cols + 2) regions of a block's pixels and of those around it.
        corners: (rows + 1, cols + 1) all there are.
        tolerance_px: above 0. The square of pixels has the same area on the ground as that of the tolerance in metres:
            area alone matters to the method, so the polygons themselves are never reprojected.
        straight: whether straight lines of pixels are straight on the map.
        simplify_boundary: also straighten outlines that have no data on the other side, which else keep all corners.

    Returns:
        (rows + 1, cols + 1)
    """
    inside = ids[1:-1, 1:-1]
    # Within the block, what is one region may be several pieces, and where there is no data there may be several.
    valid = np.ones(inside.shape, bool) if simplify_boundary else inside > 0
    pieces = np.pad(find_regions(inside, valid).ids, 1)
    rings = trace(pieces, junctions(pieces) if straight else corners).rings
    _, polygons = rings.polygons(lambda lattice: lattice)
    simple = shapely.coverage_simplify(polygons, tolerance_px, simplify_boundary=False)
    stay = np.zeros_like(corners)
    col, row = np.rint(shapely.get_coordinates(simple)).astype(np.int64).T
    stay[row, col] = True
    # On the block's margin, also what only the neighbouring block makes a corner.
    for side in ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1)):
        stay[side] |= corners[side]
    return stay
