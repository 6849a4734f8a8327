"""Polygons and points as references: which field holds the class, what it is called, and where it lies."""

from __future__ import annotations

from types import SimpleNamespace

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from geohp.errors import DataError, VectorError
from geohp.legend.features import extent_in, feature_number, natural, on_grid, read_features
from geohp.legend.references import check_reference
from geohp.raster.grid import Grid

UTM = "EPSG:25832"
MAP = SimpleNamespace(name="map.tif", grid=Grid(20, 10, Affine(2, 0, 5e5, 0, -2, 5538000), CRS.from_epsg(25832)))
SQUARE = shapely.box(5e5, 5537990, 500010, 5538000)


def frame(geometries=(SQUARE,), crs=UTM, **columns):
    return geopandas.GeoDataFrame(columns, geometry=list(geometries), crs=crs)


def read(source, field=None, layer=None):
    return read_features(source, MAP, field=field, layer=layer)


@pytest.mark.parametrize("number", ["id", "fid", "gid", "objectid", "ogc_fid", "FID", "OBJECTID"])
def test_row_numbers_are_no_classes(number):
    assert read(frame(**{number: [7], "cover": ["wood"]})).names == ("wood",)
    assert read(frame(**{number: [7]}), field=number).names == ("7",)  # unless they are asked for


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (["  deep \n water "], "deep water"),
        ([7], "7"),
        ([7.0], "7"),
        ([7.5], "7.5"),
        ([True], "True"),
        (pd.Categorical(["wood"]), "wood"),
        (np.array([3], "int16"), "3"),
        (pd.array([4], "Int64"), "4"),
        (pd.array(["lake"], "string"), "lake"),
    ],
)
def test_values_become_names(values, name):
    assert read(frame(cover=values), field="cover").names == (name,)


@pytest.mark.parametrize(
    ("values", "may_be"),
    [
        (np.array(["wood"], object), True),
        (pd.array(["wood"], "string"), True),
        (pd.Categorical(["wood"]), True),
        (np.array([3], "uint8"), True),
        (pd.array([4], "Int64"), True),
        (np.array([True]), True),
        (np.array([3.0]), False),
        (pd.array([4.0], "Float64"), False),
        (pd.to_datetime(["2024-01-01"]), False),
    ],
)
def test_fields_of_texts_and_whole_numbers_may_hold_the_class(tmp_path, values, may_be):
    table = frame(cover=values)
    if may_be:
        assert read(table).names == read(table, field="cover").names
    else:
        with pytest.raises(DataError, match="does not tell which field"):
            read(table)


def test_fields_of_measures_are_passed_over_and_several_are_asked_about():
    assert read(frame(area_m2=[12.5], cover=["wood"])).names == ("wood",)
    for columns, fields in (({"a": ["x"], "b": [1]}, "a, b"), ({"height": [1.5]}, "height"), ({}, "none")):
        with pytest.raises(DataError, match=rf"does not tell which field .*\(its fields: {fields}\)"):
            read(frame(**columns))
    with pytest.raises(DataError, match=r"has no field 'covr' .*did you mean 'cover'"):
        read(frame(cover=["wood"]), field="covr")
    with pytest.raises(DataError, match=r"has no field 'zzz' .*choose one of these"):
        read(frame(cover=["wood"]), field="zzz")
    with pytest.raises(DataError, match="no layers to choose from"):
        read(frame(cover=["wood"]), layer="roads")


def test_features_lie_on_the_pixel_grid_with_their_parts_and_numbers():
    far = shapely.box(500020, 5537980, 500030, 5537990)
    both = shapely.union_all([SQUARE, far])
    features = read(frame([SQUARE, both, far], cover=["10", "9", "wood"]))
    assert features.names == ("9", "10", "wood")  # numbers in their order, before texts
    assert features.keys.tolist() == [1, 0, 0, 2]
    assert feature_number(features.objects).tolist() == [0, 1, 1, 2]
    assert len(set(features.objects.tolist())) == 4
    assert [number & 2**20 - 1 for number in features.objects.tolist()] == [0, 0, 1, 0]  # parts count from 0 in each
    assert not features.points
    assert features.geometries[0].equals(shapely.box(0, 0, 5, 5))
    assert features.geometries[3].equals(shapely.box(10, 5, 15, 10))
    assert features.notes == ()


def test_what_cannot_be_used_is_left_out_and_counted():
    features = read(frame([SQUARE, None, SQUARE, SQUARE, shapely.Polygon()], cover=["a", "b", None, " ", "c"]))
    assert features.keys.tolist() == [0]
    assert features.names == ("a",)
    assert features.notes == (
        "2 of 5 features have no value in the field 'cover' and were left out.",
        "2 of 5 features have no geometry and were left out.",
    )
    with pytest.raises(DataError, match="no features with a geometry and a value in the field 'cover'"):
        read(frame([None], cover=["a"]))


def test_kinds_of_geometries():
    points = read(frame([shapely.MultiPoint([(5e5 + 1, 5537999), (5e5 + 3, 5537999)])], cover=["a"]))
    assert points.points
    assert shapely.get_coordinates(points.geometries).tolist() == [[0.5, 0.5], [1.5, 0.5]]
    line = shapely.LineString([(0, 0), (1, 1)])
    for geometries, message in (
        ([line], "lines"),
        ([shapely.MultiLineString([line])], "lines"),
        ([SQUARE, shapely.Point(0, 0)], "both points and polygons"),
        ([shapely.GeometryCollection([shapely.GeometryCollection([SQUARE])])], "collections within collections"),
    ):
        with pytest.raises(DataError, match=message):
            read(frame(geometries, cover=["a"] * len(geometries)))
    deep = shapely.force_3d(SQUARE, 9)
    assert not read(frame([deep], cover=["a"])).geometries[0].has_z


def test_only_one_side_says_where_on_earth_it_lies():
    with pytest.raises(DataError, match=r"the reference has no coordinate reference system, but map.tif has one"):
        read(frame(crs=None, cover=["a"]))
    nowhere = SimpleNamespace(name="map.tif", grid=Grid(20, 10, MAP.grid.transform))
    with pytest.raises(DataError, match=r"map.tif has no coordinate reference system, but the reference has one"):
        read_features(frame(cover=["a"]), nowhere, field=None, layer=None)
    assert len(read_features(frame(crs=None, cover=["a"]), nowhere, field=None, layer=None).keys) == 1


def test_names_sort_by_number_then_text():
    assert sorted(["b", "10", "A", "9", "-1", "1.5"], key=natural) == ["-1", "1.5", "9", "10", "A", "b"]


def test_the_extent_of_a_map_in_its_own_and_another_crs():
    left, bottom, right, top = extent_in(MAP.grid, None)
    assert (left, bottom, right, top) == pytest.approx((5e5 - 0.4, 5537980 - 0.2, 500040 + 0.4, 5538000 + 0.2))
    degrees = extent_in(MAP.grid, CRS.from_epsg(4326))
    square = geopandas.GeoSeries([shapely.box(5e5, 5537980, 500040, 5538000)], crs=UTM).to_crs(4326).total_bounds
    assert degrees[0] < square[0] < square[2] < degrees[2]
    assert degrees[1] < square[1] < square[3] < degrees[3]
    assert degrees[2] - degrees[0] < 1.1 * (square[2] - square[0])
    turned = Grid(20, 10, Affine(0, 2, 5e5, 2, 0, 5537980), CRS.from_epsg(25832))
    assert extent_in(turned, None) == pytest.approx((5e5 - 0.2, 5537980 - 0.4, 500020 + 0.2, 5538020 + 0.4))


def test_features_that_cannot_be_placed_are_left_out_and_counted():
    huge = shapely.set_coordinates(shapely.box(0, 0, 1, 1), [(0, 0), (1e308, 0), (1e308, 1), (0, 1), (0, 0)])
    features = read(frame([SQUARE, huge], cover=["wood", "lake"]))
    assert features.names == ("wood",)
    assert len(features.geometries) == 1
    assert "1 of 2 features have coordinates that are no numbers and were left out." in features.notes


def test_features_beyond_the_projection_are_left_out():
    there = shapely.box(9, 49.9, 9.001, 50)
    beyond = shapely.Polygon([(9, 49.9), (9.1, 49.9), (189, 89.99), (9, 50)])
    placed = on_grid(np.array([there, None, beyond], object), "EPSG:4326", MAP.grid)
    assert shapely.is_valid(placed[0])
    assert placed[1] is None
    # Where only one side of the Earth has places, what reaches to the other has none.
    ortho = Grid(20, 10, Affine(2, 0, 0, 0, -2, 0), CRS.from_string("+proj=ortho +lat_0=50 +lon_0=9"))
    antipode = shapely.box(-171, -50, -170, -49)
    placed = on_grid(np.array([there, antipode], object), "EPSG:4326", ortho)
    assert placed[1] is None
    assert shapely.is_valid(placed[0])


def test_a_reference_on_the_moon_is_refused_in_a_sentence():
    with pytest.raises(VectorError, match="there is no way from") as caught:
        read(frame(crs="+proj=longlat +R=1737400 +no_defs", cover=["wood"]))
    assert "\n" not in str(caught.value)


def test_names_of_one_spelling_are_one_class():
    """Of an accent there are two ways to write it, which nobody sees."""
    spelled = ["for\u00eat", "fore\u0302t", " for\u00eat "]
    assert read(frame([SQUARE] * 3, cover=spelled)).names == ("for\u00eat",)


def test_dates_that_are_missing_name_nothing():
    known = read(frame([SQUARE] * 2, built=pd.to_datetime(["2020-01-01", None])), field="built")
    assert known.names == ("2020-01-01 00:00:00",)


def test_frames_and_fields_that_cannot_be_meant_are_refused():
    twice = pd.concat([frame(cover=["a"]), frame(cover=["b"])[["cover"]]], axis=1)
    with pytest.raises(DataError, match="several fields 'cover'"):
        read(twice)
    with pytest.raises(DataError, match="has no field '5'"):
        read(frame(cover=["a"]), field=5)
    with pytest.raises(DataError, match="there is no reference"):
        check_reference(None)


@pytest.mark.parametrize("west", [179.8, -180.2])
@pytest.mark.parametrize("source", ["frame", "file"])
@pytest.mark.parametrize("crs", [4326, 4269, 3857])
def test_references_on_both_sides_of_the_antimeridian_lie_on_maps_that_go_on_beyond_it(tmp_path, west, source, crs):
    beyond = SimpleNamespace(
        name="map.tif", grid=Grid(400, 400, Affine(0.001, 0, west, 0, -0.001, -16.9), CRS.from_epsg(4326))
    )
    halves = [shapely.box(179.9, -17.2, 180, -17), shapely.box(-180, -17.2, -179.9, -17)]
    for shapes, area in ((halves, 40000), ([shapely.Point(-179.9, -17)], 0)):
        features = frame(shapes, 4326, cover=["reef"] * len(shapes)).to_crs(crs)
        if source == "file":
            features.to_file(tmp_path / "reefs.gpkg")
        placed = read_features(
            features if source == "frame" else tmp_path / "reefs.gpkg", beyond, field="cover", layer=None
        ).geometries
        assert shapely.area(placed).sum() == pytest.approx(area, rel=1e-3)
        bounds = shapely.total_bounds(placed)
        if area:
            assert bounds == pytest.approx([100, 100, 300, 300], abs=0.01)
        else:
            assert bounds[:2] == pytest.approx([300, 100], abs=0.01)
