"""Areas and perimeters that are true on the ground."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.errors import VectorError
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.vector.measures import PixelAreas, areas_m2, perimeters_m

SQUARE = shapely.box(0, 0, 10, 20)
MOON = (
    'PROJCS["moon",GEOGCS["moon",DATUM["moon",SPHEROID["moon",1737400,0]],PRIMEM["here",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],UNIT["metre",1]]'
)


def test_planar_and_unknown():
    assert areas_m2(np.array([SQUARE]), "EPSG:25832") == [200]
    assert areas_m2(np.array([SQUARE]), None) == [200]
    assert perimeters_m(np.array([SQUARE]), None) == [60]
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert areas_m2(np.array([SQUARE]), local) == [200]


def test_feet():
    foot = 1200 / 3937
    np.testing.assert_allclose(areas_m2(np.array([SQUARE]), "EPSG:2263"), 200 * foot**2)
    np.testing.assert_allclose(perimeters_m(np.array([SQUARE]), "EPSG:2263"), 60 * foot)
    np.testing.assert_allclose(areas_m2(np.array([SQUARE]), "EPSG:2263+5703"), 200 * foot**2)  # with heights


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4267", "EPSG:4807"])
def test_geographic_like_geodesics(crs):
    parsed = pyproj.CRS.from_user_input(crs)
    unit = np.rad2deg(parsed.axis_info[0].unit_conversion_factor)
    hole = shapely.box(9.004, 50.004, 9.006, 50.006)
    degrees = shapely.Polygon(shapely.box(9, 50, 9.01, 50.02).exterior, [hole.exterior])
    polygon = shapely.transform(degrees, lambda x: x / unit)
    area, _ = parsed.get_geod().geometry_area_perimeter(shapely.orient_polygons(degrees))
    length = parsed.get_geod().geometry_length(degrees.boundary)  # the hole's ring counts
    np.testing.assert_allclose(areas_m2(np.array([polygon]), crs), area, rtol=1e-5)
    np.testing.assert_allclose(perimeters_m(np.array([polygon]), crs), length, rtol=1e-9)


GRADS = pyproj.crs.ProjectedCRS(
    pyproj.crs.coordinate_operation.MercatorAConversion(), geodetic_crs="EPSG:4807"
).to_wkt()
"""A Mercator map whose angles, like those of the old maps of France, are grads from Paris."""


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:3395", "EPSG:4087", "ESRI:54001", "ESRI:54003", GRADS])
def test_inflating_maps_give_true_figures(crs):
    base = pyproj.CRS.from_user_input(crs).geodetic_crs
    unit = np.rad2deg(base.axis_info[0].unit_conversion_factor)
    degrees = shapely.orient_polygons(shapely.box(9, 50, 9.01, 50.02))
    to_map = pyproj.Transformer.from_crs(base, crs, always_xy=True)
    polygon = shapely.transform(degrees, lambda x: np.column_stack(to_map.transform(*(x.T / unit))))
    true, length = base.get_geod().geometry_area_perimeter(degrees)
    assert polygon.area / true > 1.2
    np.testing.assert_allclose(areas_m2(np.array([polygon]), crs), true, rtol=1e-5)
    np.testing.assert_allclose(perimeters_m(np.array([polygon]), crs), length, rtol=1e-8)
    in_degrees = areas_m2(np.array([degrees]), 4326)
    if crs != GRADS:
        np.testing.assert_allclose(areas_m2(np.array([polygon]), crs), in_degrees, rtol=1e-9)


@pytest.mark.parametrize(
    "crs",
    [
        "EPSG:3376",
        "EPSG:4326+5773",
        "EPSG:4979",
        "+proj=longlat +R=6371000",
        "+proj=longlat +ellps=GRS80 +towgs84=1,2,3",
    ],
)
def test_other_kinds_of_systems(crs):
    """Oblique Mercator, which is fit for measuring; degrees with heights, on a sphere, bound to another datum."""
    degrees = shapely.orient_polygons(shapely.box(115, 5, 115.01, 5.02))
    parsed = pyproj.CRS.from_user_input(crs)
    true, length = (parsed.get_geod() or pyproj.Geod(ellps="WGS84")).geometry_area_perimeter(degrees)
    polygon = degrees
    if parsed.is_projected:
        to_map = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
        polygon = shapely.transform(degrees, lambda x: np.column_stack(to_map.transform(*x.T)))
        assert areas_m2(np.array([polygon]), crs) == [polygon.area]
    np.testing.assert_allclose(areas_m2(np.array([polygon]), crs), true, rtol=1e-3 if parsed.is_projected else 1e-5)
    np.testing.assert_allclose(
        perimeters_m(np.array([polygon]), crs), length, rtol=1e-3 if parsed.is_projected else 1e-9
    )


def test_transverse_mercator_is_planar():
    polygon = shapely.box(5e5, 5.5e6, 5e5 + 100, 5.5e6 + 100)
    assert areas_m2(np.array([polygon]), "EPSG:25832") == [1e4]


def test_the_whole_earth_and_the_antimeridian():
    earth = 5.1006562172408e14
    assert areas_m2(np.array([shapely.box(-180, -90, 180, 90)]), 4326) == pytest.approx(earth, rel=1e-9)
    across, apart = shapely.box(179, 10, 181, 11), shapely.box(9, 10, 11, 11)
    assert areas_m2(np.array([across]), 4326) == pytest.approx(areas_m2(np.array([apart]), 4326))
    mercator = pyproj.Transformer.from_crs(4326, 3857, always_xy=True, force_over=True)
    moved = shapely.transform(across, lambda x: np.column_stack(mercator.transform(x[:, 0], x[:, 1])))
    assert areas_m2(np.array([moved]), 3857) == pytest.approx(areas_m2(np.array([apart]), 4326))


def test_unknown_crs():
    with pytest.raises(VectorError, match="reference system"):
        areas_m2(np.array([SQUARE]), "EPSG:999999")


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:25832", Affine(0.2, 0, 5e5, 0, -0.2, 5.5e6)),
        ("EPSG:2263", Affine(1, 0.2, 1e6, 0.1, -1, 2e5)),
        ("EPSG:4326", Affine(0.01, 0, 9, 0, -0.01, 50)),
        ("EPSG:4326", Affine(0.01, 0.002, 9, 0.003, -0.01, 50)),
        ("EPSG:3857", Affine(10, 0, 1e6, 0, 10, 6e6)),
        (None, Affine(2, 0, 0, 0, -3, 0)),
    ],
)
@pytest.mark.parametrize("with_gcps", [False, True])
def test_pixel_areas_are_the_areas_of_pixels(crs, transform, with_gcps):
    rows, cols = 5, 4
    gcps = [GroundControlPoint(r, c, *(transform * (c, r))) for r in (0, rows) for c in (0, cols)]
    parsed = None if crs is None else CRS.from_user_input(crs)
    if with_gcps:
        grid = Grid(cols, rows, Affine.identity(), parsed, tuple(gcps))
    else:
        grid = Grid(cols, rows, transform, parsed)
    quads = [
        shapely.Polygon([transform * (c + i, r + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))])
        for r in range(rows)
        for c in range(cols)
    ]
    expected = areas_m2(np.array(quads), crs).reshape(rows, cols)
    areas = PixelAreas(grid)
    found = np.broadcast_to(areas.units(Block(0, 0, rows, cols)) * areas.unit_m2, (rows, cols))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    if not areas.uniform:  # the unit is told by the pixel in the middle
        middle = areas.units(Block(rows // 2, cols // 2, 1, 1))
        assert middle.tolist() == [[2**24]]
    part = np.broadcast_to(areas.units(Block(1, 1, rows - 1, cols - 1)) * areas.unit_m2, (rows - 1, cols - 1))
    np.testing.assert_array_equal(part, found[1:, 1:])


def test_lengths_beyond_everything_are_infinite_without_a_word(recwarn):
    assert perimeters_m(np.array([shapely.box(0, 0, 1e308, 1e308)]), None) == [np.inf]
    assert not recwarn.list


def test_there_is_no_ground_where_a_system_does_not_reach():
    across = Grid(4, 400, Affine(1e4, 0, 0, 0, -2e4, 4e6), CRS.from_wkt(MOON))  # its poles lie at 2.7e6
    areas = PixelAreas(across).units(Block(0, 0, 400, 4))
    assert areas.min() == 0 < areas.max()
    beyond = Grid(2, 2, Affine(1, 0, 5e5, 0, -1, 5e6), CRS.from_wkt(MOON))
    with pytest.raises(VectorError, match="does not reach"):
        PixelAreas(beyond)


def test_areas_of_large_blocks_are_those_of_small_ones():
    """Corners are placed some rows at a time."""
    transform = Affine.translation(9, 50) @ Affine.rotation(20) @ Affine.scale(1e-4, -1e-4)
    areas = PixelAreas(Grid(1500, 1200, transform, CRS.from_epsg(4326)))
    whole = areas.units(Block(0, 0, 1200, 1500))
    assert whole.shape == (1200, 1500)
    for row in range(0, 1200, 400):
        part = areas.units(Block(row, 300, 400, 100))
        np.testing.assert_array_equal(part, whole[row : row + 400, 300:400])
    assert areas.mean_m2(Block(0, 0, 1200, 1500)) == pytest.approx(whole.mean() * areas.unit_m2)
    assert not areas.uniform
    aligned = PixelAreas(Grid(1500, 1200, Affine(1e-4, 0, 9, 0, -1e-4, 50), CRS.from_epsg(4326)))
    assert aligned.units(Block(5, 7, 30, 40)).shape == (30, 1)
    metres = PixelAreas(Grid(9, 9, Affine(0.5, 0, 5e5, 0, -0.25, 5.5e6), CRS.from_epsg(32631)))
    assert (metres.uniform, metres.unit_m2, metres.units(Block(0, 0, 3, 3)).tolist()) == (True, 0.125, [[1]])
    assert metres.mean_m2(Block(0, 0, 3, 3)) == 0.125


@pytest.mark.parametrize("crs", [None, "EPSG:25832", "EPSG:4326", "EPSG:3857"])
def test_figures_of_several_polygons_are_each_ones_own(crs):
    one, two, three = (shapely.box(x, 50, x + 0.01, 50.02) for x in (9, 9.5, 10))
    holed = shapely.Polygon(one.exterior, [shapely.box(9.002, 50.002, 9.004, 50.004).exterior])
    polygons = np.array([three, shapely.MultiPolygon([holed, two]), one])
    for measure in (areas_m2, perimeters_m):
        parts = [measure(np.array([polygon]), crs)[0] for polygon in (three, holed, two, one)]
        np.testing.assert_allclose(measure(polygons, crs), [parts[0], parts[1] + parts[2], parts[3]])
    assert len(perimeters_m(np.array([], object), crs)) == 0
