"""What references say of a block: where, which class, and of which polygon or point."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import DataError, UnreachableError
from geohp.legend.features import feature_number
from geohp.legend.references import check_reference, open_reference
from geohp.raster.block import Block
from geohp.raster.grid import Grid

UTM = "EPSG:25832"
PLACE = Affine(2, 0, 5e5, 0, -2, 5538000)
MAP = SimpleNamespace(name="map.tif", grid=Grid(8, 6, PLACE, CRS.from_epsg(25832)))


def frame(shapes, names):
    """Of shapes in columns and rows of the map."""
    placed = shapely.transform(np.array(shapes, object), lambda xy: np.stack(PLACE * tuple(xy.T), axis=-1))
    return geopandas.GeoDataFrame({"cover": names}, geometry=placed, crs=UTM)


def opened(source, labels=MAP, field=None, layer=None):
    return open_reference(source, labels, field=field, layer=layer)


def seen(reference, block):
    """Class and number of the feature of every pixel or point in a block."""
    sample = reference.sample(block)
    if sample is None:
        return None
    rows, cols = np.mgrid[: block.height, : block.width]
    names = [reference.class_name(key) for key in sample.keys]
    places = zip((rows[sample.where] + block.row).tolist(), (cols[sample.where] + block.col).tolist(), strict=True)
    return sorted(zip(places, names, feature_number(sample.objects).tolist(), strict=True))


def test_holes_outside_of_their_polygon_are_filled_in_every_block():
    polygon = shapely.Polygon(shapely.box(0, 0, 2, 2).exterior, [shapely.box(5, 3, 7, 5).exterior])
    across = shapely.Polygon(shapely.box(0, 3, 3, 6).exterior, [shapely.box(2, 4, 4, 5).exterior])
    with opened(frame([polygon, across], ["wood", "lake"])) as reference:
        whole = seen(reference, Block(0, 0, 6, 8))
        parts = [entry for row, col in np.ndindex(6, 8) for entry in seen(reference, Block(row, col, 1, 1)) or ()]
    assert whole == sorted(parts)
    assert [place for place, name, _ in whole if name == "wood"] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (3, 5), (3, 6), (4, 5), (4, 6),
    ]  # fmt: skip
    lake = {(row, col) for row in (3, 4, 5) for col in (0, 1, 2)} - {(4, 2)} | {(4, 3)}
    assert {place for place, name, _ in whole if name == "lake"} == lake


def test_polygons_cover_the_centres_of_pixels_later_ones_on_top():
    both = shapely.multipolygons([shapely.box(0, 0, 3, 2), shapely.box(6, 4, 8, 6)])
    with opened(frame([both, shapely.box(1.6, 0.6, 4.4, 2.4)], ["wood", "lake"])) as reference:
        assert seen(reference, Block(0, 0, 3, 5)) == [
            ((0, 0), "wood", 0), ((0, 1), "wood", 0), ((0, 2), "wood", 0), ((1, 0), "wood", 0), ((1, 1), "wood", 0),
            ((1, 2), "lake", 1), ((1, 3), "lake", 1),
        ]  # fmt: skip
        assert seen(reference, Block(1, 3, 4, 5)) == [((1, 3), "lake", 1), ((4, 6), "wood", 0), ((4, 7), "wood", 0)]
        assert reference.sample(Block(4, 0, 2, 4)) is None
        parts = reference.sample(Block(0, 0, 6, 8)).objects
        assert len(set(parts.tolist())) == 3  # a polygon of two parts is two objects
        assert (reference.unit, reference.outside, reference.colours, reference.notes) == ("pixels", 0, {}, ())
        assert reference.name == "the reference"


def test_points_count_each_at_the_pixel_that_they_lie_on():
    points = [(7.9, 5.9), (0.0, 0.0), (3.5, 2.1), (3.4, 2.9), (-0.1, 3), (8.0, 3), (3, -0.1), (3, 6.0)]
    with opened(frame([shapely.Point(at) for at in points], list("abcdwxyz"))) as reference:
        assert (reference.unit, reference.outside) == ("points", 4)
        assert seen(reference, Block(0, 0, 6, 8)) == [
            ((0, 0), "b", 1), ((2, 3), "c", 2), ((2, 3), "d", 3), ((5, 7), "a", 0),
        ]  # fmt: skip
        assert seen(reference, Block(2, 3, 1, 1)) == [((2, 3), "c", 2), ((2, 3), "d", 3)]
        assert seen(reference, Block(2, 3, 4, 5)) == [((2, 3), "c", 2), ((2, 3), "d", 3), ((5, 7), "a", 0)]
        for beside in (Block(0, 1, 2, 7), Block(3, 0, 3, 7), Block(2, 0, 1, 3), Block(2, 4, 1, 4)):
            assert reference.sample(beside) is None


def test_a_rasters_classes_are_called_as_it_says_or_by_their_numbers(write_scene):
    values = np.array([[[0, 1, 9, 255]]], np.uint8)
    place = {"crs": UTM, "transform": Affine(4, 0, 5e5, 0, -12, 5538000), "nodata": 255}
    path = write_scene(values, "known.tif", **place)
    classes = [LandCoverClass(0, " deep \n lake", "#0000ff"), LandCoverClass(1, "wood", "#00ff00"),
               LandCoverClass(2, "wood", "#ff0000")]  # fmt: skip
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, classes=classes_to_json(classes))
    with opened(path) as reference:
        sample = reference.sample(Block(1, 1, 2, 7))
        assert sample.keys.tolist() == [0, 1, 1, 9, 9] * 2
        assert sample.where.tolist() == [[True] * 5 + [False] * 2] * 2
        assert sample.objects is None
        assert [reference.class_name(key) for key in (0, 1, 9)] == ["deep lake", "wood", "9"]
        assert reference.colours == {"deep lake": "#0000ff", "wood": "#00ff00"}  # of two of a name, the first
        assert (reference.unit, reference.outside, reference.notes) == ("pixels", 0, ())
        assert reference.name == str(path)
        assert reference.sample(Block(0, 6, 6, 2)) is None


def test_paths_are_checked_and_addresses_left_alone(tmp_path):
    assert check_reference(str(tmp_path)) == tmp_path
    for address in ("https://example.org/a.tif", "/vsizip/a.zip/a.tif"):
        assert check_reference(address) == address
    array = object()
    assert check_reference(array) is array
    for lost in (tmp_path / "a.gpkg", str(tmp_path / "a.gpkg")):
        with pytest.raises(DataError, match=r"a\.gpkg: no such file"):
            check_reference(lost)


def test_what_cannot_be_a_reference(tmp_path, write_scene):
    points = [GroundControlPoint(r, c, 9 + c, 50 - r) for r in (0, 6) for c in (0, 8)]
    warped = SimpleNamespace(name="map.tif", grid=Grid(8, 6, Affine.identity(), CRS.from_epsg(4326), tuple(points)))
    known = write_scene(np.zeros((1, 2, 2), np.uint8), "known.tif", crs=UTM, transform=PLACE, nodata=255)
    (tmp_path / "a.txt").write_text("no map")
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), tmp_path / "table.gpkg")
    for source, labels, options, message in (
        (known, warped, {}, "map.tif is placed by ground control points"),
        (known, MAP, {"field": "cover"}, "known.tif is a raster"),
        (known, MAP, {"layer": "cover"}, "known.tif is a raster"),
        (Path(tmp_path / "a.txt"), MAP, {}, "a.txt cannot be opened as polygons or points, and is no raster"),
        (tmp_path / "table.gpkg", MAP, {}, "table.gpkg has no layer with geometries, and is no raster"),
    ):
        with pytest.raises(DataError, match=message), opened(source, labels, **options):
            pass


def test_an_address_that_cannot_be_reached_is_not_said_to_be_no_raster():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/reference.tif"  # where nothing answers any more
    with pytest.raises(UnreachableError, match="nothing answers"), opened(address, MAP):
        pass
