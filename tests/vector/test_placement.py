"""Where pixel corners lie, and whether straight lines of pixels are straight on the map."""

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.raster.grid import Grid
from geohp.vector.placement import Placement

CORNERS = np.array([[0, 0], [3, 0], [0, 2], [1.5, 7]])


@pytest.mark.parametrize(
    ("transform", "aligned"),
    [
        (Affine(2, 0, 100, 0, -3, 200), True),
        (Affine(2, 0.5, 100, 0, -3, 200), False),
        (Affine(2, 0, 100, 0.5, -3, 200), False),
        (Affine(0, 2, 100, 3, 0, 200), False),
    ],
)
def test_a_transform_places_columns_and_rows(transform, aligned):
    placement = Placement(Grid(10, 20, transform, CRS.from_epsg(32631)))
    np.testing.assert_allclose(placement(CORNERS), [transform * (col, row) for col, row in CORNERS])
    assert placement.axis_aligned == aligned
    assert placement.straight


def placed(bend_px, width=40, height=20):
    """Nine control points on a grid of half metres whose middle lies so many pixels off."""
    points = [
        GroundControlPoint(row, col, 100 + 0.5 * col + (0.5 * bend_px if col == width / 2 else 0), 200 - 0.5 * row)
        for row in (0, height / 2, height) for col in (0, width / 2, width)
    ]  # fmt: skip
    return Placement(Grid(width, height, Affine.identity(), CRS.from_epsg(32631), tuple(points)))


def test_control_points_place_where_they_say():
    placement = placed(0)
    np.testing.assert_allclose(placement(CORNERS), np.array([100, 200]) + CORNERS * [0.5, -0.5], atol=1e-6)
    assert not placement.axis_aligned
    np.testing.assert_allclose(placed(4)(np.array([[20.0, 10.0]])), [[112, 195]], atol=1e-6)


@pytest.mark.parametrize(("bend_px", "straight"), [(0, True), (0.01, True), (0.1, False), (-3, False)])
def test_control_points_that_bend_lines(bend_px, straight):
    assert placed(bend_px).straight == straight
