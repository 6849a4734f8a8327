"""Polygons of an area of interest are cut exactly at its edge, cover all of it, and leave no slivers."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint

import geohp
from geohp.classes import LandCoverClass
from geohp.errors import DataError, VectorError
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.vector.clipping import Coverage, _shares_in

LEFT, TOP, PIXEL = 380000, 5800000, 0.5


def on_ground(shape):
    """A shape given in pixels."""
    return shapely.transform(shape, lambda x, y: (LEFT + PIXEL * x, TOP - PIXEL * y), interleaved=False)


@pytest.fixture
def labels(write_scene):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 4, (1, 40, 50)).repeat(2, 1).repeat(2, 2).astype(np.uint8)
    values[0, 30:34, :20] = 255
    return write_scene(values, "labels.tif", nodata=255)


AREA = on_ground(
    shapely.union_all(
        [
            shapely.Polygon([(5.3, 4.1), (70.7, 20.2), (60.1, 70.6), (2.4, 66.3)]),
            shapely.Point(85, 60).buffer(9.3),
        ]
    ).difference(shapely.box(30.2, 30.001, 41.7, 44.4))
)


def within(polygons, area, labels):
    """Polygons cover what of an area holds data exactly, once, with the labels of the pixels."""
    whole = geohp.polygonize(labels)
    expected = shapely.intersection(shapely.union_all(whole.geometry), area)
    union = shapely.union_all(polygons.geometry)
    assert shapely.area(shapely.symmetric_difference(union, expected)) < 1e-6
    assert polygons.area.sum() == pytest.approx(expected.area, rel=1e-9)
    assert polygons.area_m2.sum() == pytest.approx(expected.area, rel=1e-6)
    np.testing.assert_allclose(polygons.area_m2, polygons.area, rtol=1e-5)
    assert polygons.is_valid.all()


@pytest.mark.parametrize("block_px", [17, 2048])
def test_an_area_is_covered_to_its_edge_and_no_further(labels, block_px):
    area = gpd.GeoSeries([AREA], crs=32633)
    polygons = geohp.polygonize(labels, aoi=area, block_px=block_px)
    within(polygons, AREA, labels)
    assert polygons.area.min() > 0.4 * PIXEL**2
    whole = geohp.polygonize(labels)
    touched = gpd.overlay(polygons, whole, keep_geom_type=True)
    wrong = touched.class_id_1 != touched.class_id_2
    # Only what would be a sliver by itself has its neighbour's class.
    assert touched[wrong].area.max() < 0.5 * PIXEL**2
    assert touched[wrong].area.sum() < 0.01 * AREA.area
    full = polygons.merge(
        whole[["geometry"]].assign(key=whole.geometry.to_wkb()),
        "inner",
        left_on=polygons.geometry.to_wkb(),
        right_on="key",
    )
    assert len(full) > 20  # those inside are the same polygons


def test_small_regions_at_the_edge_join_their_neighbours(labels):
    area = gpd.GeoSeries([AREA], crs=32633)
    polygons = geohp.polygonize(labels, aoi=area, min_area_m2=3)
    within(polygons, AREA, labels)
    lonely = polygons[polygons.area_m2 < 3]
    assert all(
        len(polygons[polygons.touches(shape)].loc[lambda f, s=shape: f.intersection(s).length > 1e-6]) == 0
        for shape in lonely.geometry
    )


def test_a_minimum_below_half_a_pixel_leaves_no_slivers(labels):
    area = gpd.GeoSeries([AREA], crs=32633)
    assert geohp.polygonize(labels, aoi=area, min_area_m2=1e-3).geom_equals(geohp.polygonize(labels, aoi=area)).all()


def test_simplified_they_still_end_at_the_edge(labels):
    area = gpd.GeoSeries([AREA], crs=32633)
    polygons = geohp.polygonize(labels, aoi=area, min_area_m2=4, simplify_m=0.7, smooth=1)
    union, data = shapely.union_all(polygons.geometry), shapely.union_all(geohp.polygonize(labels).geometry)
    assert shapely.area(shapely.symmetric_difference(union, shapely.intersection(AREA, data))) < 1e-6
    np.testing.assert_allclose(polygons.area_m2, polygons.area, rtol=1e-9)  # of what is left of each
    with pytest.raises(VectorError, match="simplify_boundary=: the edge"):
        geohp.polygonize(labels, aoi=area, simplify_boundary=True)


def test_an_edge_along_pixels_changes_nothing(labels):
    area = gpd.GeoSeries([on_ground(shapely.box(10, 6, 40, 28))], crs=32633)
    polygons = geohp.polygonize(labels, aoi=area)
    with rasterio.open(labels) as dataset:
        part = dataset.read(1)[6:28, 10:40]
    assert polygons.n_pixels.sum() == part.size
    assert polygons.area_m2.groupby(polygons.class_id).sum().to_dict() == pytest.approx(
        {int(label): float((part == label).sum()) * PIXEL**2 for label in np.unique(part)}
    )


def test_a_file_takes_polygons_that_the_edge_cuts_apart(write_scene, tmp_path):
    labels = write_scene(np.zeros((1, 30, 30), np.uint8), "plain.tif")
    # Both prongs touch the same row of pixels, but do not meet in it.
    fork = on_ground(shapely.union_all([shapely.box(2, 2, 6.4, 20), shapely.box(6.6, 2, 12, 20)]))
    gpd.GeoSeries([fork], crs=32633).to_crs(4326).to_file(tmp_path / "fork.gpkg")
    for suffix in ("gpkg", "parquet", "fgb", "geojson"):
        path = tmp_path / f"cut.{suffix}"
        assert geohp.polygonize_file(labels, path, aoi=tmp_path / "fork.gpkg", block_px=16) == 1
        frame = gpd.read_parquet(path) if suffix == "parquet" else gpd.read_file(path)
        assert frame.geom_type.tolist() == ["MultiPolygon"]
        assert frame.area_m2[0] == pytest.approx(fork.area, rel=1e-4)


def test_degrees_are_measured_on_the_ellipsoid(write_scene):
    values = np.random.default_rng(0).integers(0, 3, (1, 30, 30)).astype(np.uint8)
    transform = rasterio.transform.from_origin(13, 52, 1e-4, 1e-4)
    labels = write_scene(values, "degrees.tif", crs="EPSG:4326", transform=transform)
    area = shapely.box(13.00051, 51.99803, 13.00207, 51.99949)
    polygons = geohp.polygonize(labels, aoi=[*area.bounds])
    geod = rasterio.crs.CRS.from_epsg(4326) and __import__("pyproj").Geod(ellps="WGS84")
    assert polygons.area_m2.sum() == pytest.approx(abs(geod.geometry_area_perimeter(area)[0]), rel=1e-6)


def test_what_cannot_be_cut_is_refused(labels, write_scene):
    with pytest.raises(DataError, match="lies beside"):
        geohp.polygonize(labels, aoi=[0, 0, 1, 1])
    points = [GroundControlPoint(r, c, 380000 + c, 5800000 - r) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))]
    placed = write_scene(np.zeros((1, 9, 9), np.uint8), "gcps.tif", transform=None, gcps=points)
    with pytest.raises(VectorError, match="ground control points"):
        geohp.polygonize(placed, aoi=gpd.GeoSeries([on_ground(shapely.box(0, 0, 9, 9))], crs=32633))


def test_names_of_a_legend_are_kept(labels):
    classes = [LandCoverClass(k, f"field {k}", "#445566") for k in range(4)]
    polygons = geohp.polygonize(labels, aoi=gpd.GeoSeries([AREA], crs=32633), classes=classes)
    assert set(polygons.class_name) == {f"field {k}" for k in range(4)}
    merged = geohp.polygonize(labels, aoi=gpd.GeoSeries([AREA], crs=32633), legend={0: "water", 3: "water"})
    water, both = merged[merged.class_name == "water"], polygons[polygons.class_id.isin([0, 3])]
    assert len(water) < len(both)
    # But for slivers, which may join other neighbours.
    assert shapely.area(shapely.symmetric_difference(water.union_all(), both.union_all())) < 0.02 * both.area.sum()


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.floats(-20, 90), st.floats(-20, 90)), min_size=3, max_size=6), st.integers(20, 90))
def test_shares_of_pixels_add_up(corners, side):
    shape = shapely.convex_hull(shapely.multipoints(corners)).buffer(0.3)
    grid = Grid(80, 70, rasterio.Affine(1, 0, 0, 0, -1, 0), rasterio.crs.CRS.from_epsg(32633))
    area = AreaOfInterest.of(gpd.GeoSeries([shapely.transform(shape, lambda x: x * [1, -1])], crs=32633))
    coverage = Coverage(area.placed(area.shape, grid))
    block = Block(3, 5, min(side, 60), min(side, 70))
    expected = shapely.intersection(shape, shapely.box(block.col, block.row, block.right, block.bottom)).area
    assert coverage.of(block).sum() == pytest.approx(expected, abs=1e-3)


def test_of_many_areas_pixels_are_cut_by_those_that_they_meet(monkeypatch):
    cols, rows = np.meshgrid(np.arange(0.5, 60, 6), np.arange(0.25, 60, 6))
    area = shapely.multipolygons(shapely.box(cols, rows, cols + 4, rows + 4).ravel())
    cutters = []
    intersection = shapely.intersection

    def spied(first, second, **options):
        if isinstance(first, np.ndarray):
            cutters.extend(np.atleast_1d(shapely.get_num_geometries(second)).tolist())
        return intersection(first, second, **options)

    monkeypatch.setattr(shapely, "intersection", spied)
    shares = _shares_in(area, Block(0, 0, 60, 60))
    assert cutters == [1] * 100 * (5 * 5 - 3 * 3)  # those at the rim of each area, and none that lies within
    assert shares.sum() == pytest.approx(area.area)
    assert shares[0, :6].tolist() == pytest.approx([0.375, 0.75, 0.75, 0.75, 0.375, 0])
