"""Simplification that keeps a coverage a coverage: shared borders stay shared, no gap opens, nothing overlaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.vector.measures import areas_m2


def simplify_coverage(
    polygons: NDArray[Any], tolerance_m: float, crs: Any, *, simplify_boundary: bool = True
) -> NDArray[Any]:
    """Straighten outlines by leaving out corners (Visvalingam and Whyatt's method, on all borders at once).

    A corner goes when the triangle it forms with its neighbours is smaller than the square of the tolerance, the
    smallest first. The tolerance is thus the side of a square, not a distance: to take the steps off outlines that
    follow pixels, one pixel size is a good start.

    The tolerance is in metres on the ground whatever the CRS: it is converted to the map's units by the scale of
    areas, which alone matters to the method, averaged over the polygons. In a geographic CRS that scale changes with
    latitude, by 2 per cent a degree at 50 degrees north; the polygons themselves are never reprojected.

    Args:
        polygons: (n,) polygons that share all vertices along common borders, as :func:`geohp.vector.outlines.outline`
            makes them.
        tolerance_m: 0 leaves the polygons as they are.
        crs: CRS of the coordinates; without one the tolerance is in map units (or pixels).
        simplify_boundary: also straighten borders that have no polygon on the other side: the margin of the scene
            and of areas without data. Otherwise these keep all corners, and neighbouring scenes still fit.

    Returns:
        (n,) polygons with a subset of the vertices.
    """
    if tolerance_m <= 0 or len(polygons) == 0:
        return polygons
    map_area, true_area = float(shapely.area(polygons).sum()), float(areas_m2(polygons, crs).sum())
    tolerance = tolerance_m * np.sqrt(map_area / true_area)
    simplified: NDArray[Any] = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=simplify_boundary)
    return simplified
