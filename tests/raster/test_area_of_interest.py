"""Areas of interest: what files may hold, and which pixels are meant."""

import logging
import pickle

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.errors import DataError, SceneError, SourceError
from geohp.options import AreaOptions
from geohp.raster.area_of_interest import AreaOfInterest, PixelArea, asked_area
from geohp.raster.block import Block, BlockGrid
from geohp.raster.grid import Grid
from geohp.raster.turns import turn_of

UTM = CRS.from_epsg(32633)
GRID = Grid(200, 150, Affine(0.5, 0, 380000, 0, -0.5, 5800000), UTM)


def write(tmp_path, *shapes, crs="EPSG:32633", layer="area"):
    gpd.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(tmp_path / "area.gpkg", layer=layer)
    return tmp_path / "area.gpkg"


def box(left, top, right, bottom):
    """A box on the grid's ground, given in its pixels."""
    return shapely.box(*(GRID.transform * (left, bottom)), *(GRID.transform * (right, top)))


def test_several_polygons_are_one_area_on_the_pixels_whose_centre_they_hold(tmp_path):
    area = AreaOfInterest.of(write(tmp_path, box(10, 20, 30.4, 40.6), box(100, 0, 110, 5), box(29, 20, 50, 22)))
    pixels = area.within(GRID, "scene").pixels(GRID.block)
    expected = np.zeros(GRID.shape, bool)
    expected[20:41, 10:30] = expected[0:5, 100:110] = expected[20:22, 29:50] = True
    np.testing.assert_array_equal(pixels, expected)
    assert area.within(GRID, "scene").hull == Block.between(0, 10, 41, 110)


def test_the_area_asked_for_is_that_of_the_layer_asked_for(tmp_path):
    for layer, left in (("north", 10), ("south", 60)):
        path = write(tmp_path, box(left, 10, left + 20, 40), layer=layer)
    with pytest.raises(SourceError, match="aoi_layer"):
        asked_area(AreaOptions(aoi=path))
    area = asked_area(AreaOptions(aoi=path, aoi_layer="south"))
    assert area.within(GRID, "scene").hull == Block.between(10, 60, 40, 80)
    assert asked_area(AreaOptions()) is None


def test_another_projection_is_met_to_the_pixel(tmp_path):
    # Degrees: a long edge, straight there, is bent on the scene by several pixels.
    scene = Grid(40000, 3000, Affine(1, 0, 380000, 0, -1, 5800000), UTM)
    _, latitude = Transformer.from_crs(32633, 4326, always_xy=True).transform(400000, 5798500)
    drawn = gpd.GeoSeries([shapely.box(13.2, latitude, 14.4, 53)], crs=4326)
    area = AreaOfInterest.of(drawn).within(scene, "scene")

    def lower_edge(shape):
        lines = [shapely.LineString([(380000.5 + col, 5790000), (380000.5 + col, 5800000)]) for col in cols]
        return np.array([5800000 - shapely.bounds(shapely.intersection(line, shape))[1] for line in lines])

    cols = np.arange(0, 40000, 2000)
    rows = [area.pixels(Block(0, int(col), 3000, 1)).sum() for col in cols]
    np.testing.assert_allclose(rows, lower_edge(drawn.segmentize(0.0005).to_crs(UTM).iloc[0]), atol=1)
    assert np.abs(rows - lower_edge(drawn.to_crs(UTM).iloc[0])).max() > 10


@pytest.mark.parametrize("west", [179.8, -180.2])
def test_degrees_beyond_the_antimeridian_are_those_on_its_other_side(west):
    scene = Grid(400, 400, Affine(0.001, 0, west, 0, -0.001, -16.9), CRS.from_epsg(4326))
    halves = gpd.GeoSeries([shapely.box(179.9, -17.2, 180, -17), shapely.box(-180, -17.2, -179.9, -17)], crs=4326)
    expected = np.zeros(scene.shape, bool)
    expected[100:300, 100:300] = True
    for area in (halves, halves.to_crs(32760), [179.9, -17.2, 180.1, -17], [179.9, -17.2, -179.9, -17]):
        pixels = AreaOfInterest.of(area).within(scene, "scene").pixels(scene.block)
        assert (pixels != expected).sum() < (0 if area is halves else 50) + 1


@pytest.mark.parametrize("crs", [3857, 3395, 4087, 32760, 32701, 3832])
def test_an_area_across_the_antimeridian_is_met_on_both_sides(crs):
    """Web Mercator, Mercator and plate carree go on beyond 180 degrees, UTM and PDC Mercator run across it."""
    to_map = Transformer.from_crs(4326, crs, always_xy=True).transform
    (left, _), (bottom, top) = to_map([179.8, 179.9], [-17.3, -16.9])
    pixel = (top - bottom) / 400
    scene = Grid(500, 400, Affine(pixel, 0, left, 0, -pixel, top), CRS.from_epsg(crs))
    turn = turn_of(pyproj.CRS.from_epsg(crs)) or 0.0
    halves = gpd.GeoSeries([shapely.box(179.9, -17.2, 180, -17), shapely.box(-180, -17.2, -179.9, -17)], crs=4326)
    beyond = gpd.GeoSeries([shapely.box(179.9, -17.2, 180.1, -17)], crs=4326)
    for by in {0.0, -turn, turn}:
        moved = Grid(500, 400, Affine.translation(by, 0) * scene.transform, scene.crs)
        for area in (halves, beyond, halves.to_crs(4269), [179.9, -17.2, -179.9, -17]):
            pixels = AreaOfInterest.of(area).within(moved, "scene").pixels(moved.block)
            lon = Transformer.from_crs(crs, 4326, always_xy=True).transform(
                *(scene.affine * (np.arange(500) + 0.5, np.full(500, 200.5)))
            )[0]
            expected = np.abs((lon + 360) % 360 - 180) < 0.1
            assert (pixels[200] != expected).sum() <= 2
            assert 50 < expected.sum() < 450


def test_parts_all_around_the_earth_stay_where_they_are():
    world = Grid(360, 180, Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326))
    places = [170, -170, -50, 60, 175, -175, 0, 120, -120, 100]
    islands = gpd.GeoSeries([shapely.box(west, 0, west + 3, 3) for west in places], crs=4326)
    expected = AreaOfInterest.of(islands).within(world, "scene").pixels(world.block)
    assert expected.sum() == 9 * len(places)
    pixels = AreaOfInterest.of(islands.to_crs(3857)).within(world, "scene").pixels(world.block)
    np.testing.assert_array_equal(pixels, expected)
    side = 20037508.342789244 / 180
    mercator = Grid(360, 360, Affine(side, 0, -180 * side, 0, -side, 180 * side), CRS.from_epsg(3857))
    for west, east in ((170, 190), (0, 360), (-30, 30)):
        strip = gpd.GeoSeries([shapely.box(west, -60, east, 60)], crs=4326)
        columns = AreaOfInterest.of(strip).within(mercator, "scene").pixels(mercator.block)[180]
        np.testing.assert_array_equal(columns, (np.arange(-179.5, 180) - west) % 360 < east - west)


def test_no_line_is_left_out_along_the_antimeridian():
    """Of a polar raster turned by 135 degrees it runs through the middle of pixels, to the last bit."""
    polar = Grid(400, 400, Affine(10000, 0, -2e6, 0, -10000, 2e6), CRS.from_epsg(3413))
    halves = gpd.GeoSeries([shapely.box(170, -80, 180, 80), shapely.box(-180, -80, -170, 80)], crs=4326)
    centres = polar.affine * tuple(np.meshgrid(np.arange(400) + 0.5, np.arange(400) + 0.5))
    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(*centres)
    pixels = AreaOfInterest.of(halves).within(polar, "scene").pixels(polar.block)
    np.testing.assert_array_equal(pixels, (np.abs(lon) >= 170) & (lat <= 80))


def test_bounds_in_degrees_frames_and_areas_are_areas():
    west, south, east, north = 13.0, 52.0, 14.5, 53.0
    assert AreaOfInterest.of([west, south, east, north]).within(GRID, "scene").pixels(GRID.block).all()
    frame = gpd.GeoDataFrame(geometry=[box(0, 0, 10, 10)], crs=UTM)
    area = AreaOfInterest.of(frame)
    assert AreaOfInterest.of(area) is area
    assert area.within(GRID, "scene").hull == Block(0, 0, 10, 10)
    assert area.within(GRID, "scene").digest != AreaOfInterest.of(frame.buffer(2)).within(GRID, "scene").digest


def test_what_is_no_area_is_refused_in_a_sentence(tmp_path):
    def refused(match, area, grid=GRID, layer=None):
        with pytest.raises(DataError, match=match) as error:
            AreaOfInterest.of(area, layer).within(grid, "scene.tif")
        assert isinstance(error.value, SceneError)

    refused("no such file; give a file of polygons", tmp_path / "none.gpkg")
    refused("holds no polygons but Point", write(tmp_path, shapely.Point(0, 0)))
    refused("holds no polygons but LineString", write(tmp_path, shapely.LineString([(0, 0), (1, 1)])))
    refused("no coordinate reference system", write(tmp_path, box(0, 0, 9, 9), crs=None))
    refused("lies beside scene.tif", write(tmp_path, box(300, 0, 310, 9)))
    refused(
        "scene.tif has no coordinate reference system", write(tmp_path, box(0, 0, 9, 9)), Grid(9, 9, GRID.transform)
    )
    (tmp_path / "text.gpkg").write_text("no vectors")
    refused("cannot be read as a vector file", tmp_path / "text.gpkg")
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    refused("empty.geojson holds no shapes", tmp_path / "empty.geojson")
    refused("is no area", [3, 0, 1, 1])
    refused("a bare Polygon does not say in which coordinate reference system", box(0, 0, 9, 9))


def test_one_of_several_layers_has_to_be_named(tmp_path):
    write(tmp_path, box(0, 0, 10, 10), layer="west")
    path = write(tmp_path, box(50, 0, 60, 10), layer="east")
    with pytest.raises(DataError, match=r"several layers \(west, east\); name one of them with aoi_layer="):
        AreaOfInterest.of(path)
    with pytest.raises(DataError, match="no layer 'north'"):
        AreaOfInterest.of(path, "north")
    assert AreaOfInterest.of(path, "east").within(GRID, "scene").hull == Block(0, 50, 10, 10)


def test_what_can_be_repaired_is_and_it_is_said(tmp_path, caplog):
    bow = shapely.Polygon([GRID.transform * corner for corner in ((0, 0), (20, 20), (20, 0), (0, 20))])
    path = write(tmp_path, bow, shapely.LineString([(0, 0), (1, 1)]), None, box(50, 50, 60, 60))
    with caplog.at_level(logging.INFO, "geohp"):
        area = AreaOfInterest.of(path)
    assert "1 shapes that are no polygons are left out" in caplog.text
    assert "1 polygons cross themselves and were repaired" in caplog.text
    assert area.within(GRID, "scene").pixels(GRID.block).sum() == pytest.approx(100 + 200, abs=20)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-20, 90), st.floats(-20, 90)), min_size=3, max_size=6),
    st.integers(3, 40),
)
def test_pixels_do_not_depend_on_blocks(corners, side):
    shape = shapely.convex_hull(shapely.multipoints(corners)).buffer(0.1)
    area = PixelArea(shapely.intersection(shape, shapely.box(0, 0, 70, 60)))
    whole = Block(0, 0, 60, 70)
    inside = area.pixels(whole)
    centres = shapely.points(*np.meshgrid(np.arange(70) + 0.5, np.arange(60) + 0.5))
    near_edge = shapely.distance(shapely.boundary(shape), centres) < 1e-6
    np.testing.assert_array_equal(inside[~near_edge], shapely.contains(area.shape, centres)[~near_edge])
    for block in BlockGrid(60, 70, side).blocks:
        np.testing.assert_array_equal(area.pixels(block), inside[block.slices])
        if not area.touches(block):
            assert not inside[block.slices].any()
    rows, cols = np.nonzero(inside)
    hull = Block.between(rows.min(), cols.min(), rows.max() + 1, cols.max() + 1) if len(rows) else None
    assert area.hull == hull
    assert pickle.loads(pickle.dumps(area)).digest == area.digest


@pytest.mark.parametrize("bend", [0.0, 0.002])
def test_on_what_control_points_bend_no_area_is_placed(bend):
    """By their transform it would lie dozens of pixels from where GDAL, and polygons, have it."""
    places = [(row, col) for row in (0, 75, 150) for col in (0, 100, 200)]
    points = [GroundControlPoint(r, c, *(GRID.transform * (c + bend * c**2, r))) for r, c in places]
    grid = Grid(GRID.width, GRID.height, Affine.identity(), UTM, tuple(points))
    area = AreaOfInterest.of(gpd.GeoSeries([box(10, 20, 30, 40)], crs=UTM))
    if bend:
        with pytest.raises(SceneError, match=r"scene is bent by its ground control points.*warp it first"):
            area.within(grid, "scene")
    else:
        assert area.within(grid, "scene").hull == Block.between(20, 10, 40, 30)


def test_a_decimated_look_shows_what_the_area_touches_where_it_lies():
    area = PixelArea(shapely.box(30, 10, 50, 11.9))
    looked = area.decimated(Block(4, 10, 40, 60), (10, 20))  # a pixel of it is 4 rows by 3 columns
    expected = np.zeros((10, 20), bool)
    expected[1, 6:14] = True
    np.testing.assert_array_equal(looked, expected)


def test_parts_of_a_multipolygon_that_overlap_are_meant_as_a_whole():
    first, second = box(10, 10, 50, 50), box(30, 30, 70, 70)
    area = AreaOfInterest.of(gpd.GeoSeries([shapely.MultiPolygon([first, second])], crs=UTM))
    pixels = area.within(GRID, "scene").pixels(GRID.block)
    expected = np.zeros(GRID.shape, bool)
    expected[10:50, 10:50] = expected[30:70, 30:70] = True
    np.testing.assert_array_equal(pixels, expected)


def test_collections_are_taken_apart_however_deep():
    inner = shapely.GeometryCollection([shapely.GeometryCollection([box(10, 10, 50, 50)]), shapely.Point(0, 0)])
    area = AreaOfInterest.of(gpd.GeoSeries([shapely.GeometryCollection([inner])], crs=UTM))
    assert area.within(GRID, "scene").pixels(GRID.block).sum() == 1600


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e308])
def test_polygons_with_impossible_coordinates_are_left_out_or_refused(number, caplog):
    strange = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9)])
    strange = shapely.set_coordinates(strange, [(0, 0), (number, 0), (number, 1), (0, 1), (0, 0)])
    caplog.set_level(logging.WARNING)
    area = AreaOfInterest.of(gpd.GeoSeries([strange, box(10, 10, 50, 50)], crs=UTM))
    assert area.within(GRID, "scene").pixels(GRID.block).sum() == 1600
    assert "1 polygons with coordinates that are no numbers" in caplog.text
    with pytest.raises(SceneError, match="holds no polygon that covers any ground"):
        AreaOfInterest.of(gpd.GeoSeries([strange], crs=UTM))


def test_a_polygon_without_area_is_not_called_something_else():
    with pytest.raises(SceneError, match="holds no polygon that covers any ground"):
        AreaOfInterest.of(gpd.GeoSeries([shapely.Polygon([(0, 0), (9, 9), (18, 18)])], crs=UTM))


TABLE = """<OGRVRTDataSource><OGRVRTLayer name="t"><SrcDataSource relativeToVRT="1">t.csv</SrcDataSource>
<LayerSRS>EPSG:32633</LayerSRS><GeometryType>wkbUnknown</GeometryType><GeometryField encoding="WKT" field="WKT"/>
</OGRVRTLayer></OGRVRTDataSource>"""


@pytest.mark.parametrize("wkt", ["TIN (((0 0, 9 0, 0 9, 0 0)))", "POLYGON ((nan 0, 9 0, 0 9, nan 1))"])
def test_surfaces_that_cannot_be_represented_are_no_shapes(tmp_path, wkt):
    (tmp_path / "t.csv").write_text(f'kind,WKT\nx,"{wkt}"\n')
    (tmp_path / "t.vrt").write_text(TABLE)
    with pytest.raises(SceneError, match="holds no"):
        AreaOfInterest.of(tmp_path / "t.vrt")
