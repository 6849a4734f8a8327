"""What files of polygons say of themselves, and that batches of any size make the same file."""

import json
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely

from geohp.classes import LandCoverClass
from geohp.errors import OutputError, VectorError
from geohp.vector import formats
from geohp.vector.formats import Batches, write_parquet
from geohp.vector.writing import write_layer

CLASSES = [LandCoverClass(0, "road", "#ff0000"), LandCoverClass(1, "wood", "#00ff00")]


def frame(first, count, crs="EPSG:25832", width=1.0):
    numbers = np.arange(first, first + count)
    boxes = shapely.box(5e5 + numbers, 5538000, 5e5 + numbers + width, 5538002)
    return geopandas.GeoDataFrame({"class_id": numbers % 2, "area_m2": 2.0 * numbers}, geometry=boxes, crs=crs)


def batches(*frames, **options):
    return Batches(frames, frame(0, 0), **options)


def geo(path):
    metadata = json.loads(pq.read_metadata(path).metadata[b"geo"])
    return metadata, metadata["columns"]["geometry"]


def test_a_parquet_file_says_where_and_what_its_polygons_are(tmp_path):
    write_parquet(batches(frame(3, 2), frame(0, 1), frame(7, 1)), tmp_path / "a.parquet")
    metadata, column = geo(tmp_path / "a.parquet")
    assert (metadata["version"], metadata["primary_column"]) == ("1.1.0", "geometry")
    assert column["bbox"] == [5e5, 5538000, 500008, 5538002]
    assert (column["encoding"], column["geometry_types"], column["orientation"]) == (
        "WKB",
        ["Polygon"],
        "counterclockwise",
    )
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 25832}
    back = geopandas.read_parquet(tmp_path / "a.parquet")
    assert back["area_m2"].tolist() == [6, 8, 0, 14]
    assert back.crs == "EPSG:25832"


def test_polygons_go_round_as_the_file_says(tmp_path):
    clockwise = frame(0, 2)
    clockwise.geometry = clockwise.geometry.reverse()
    write_layer(batches(clockwise), tmp_path / "a.parquet", CLASSES, "landcover")
    rings = geopandas.read_parquet(tmp_path / "a.parquet").exterior
    assert not clockwise.exterior.is_ccw.any()
    assert rings.is_ccw.all()


def test_a_parquet_file_without_rows_or_crs(tmp_path):
    write_parquet(batches(), tmp_path / "a.parquet")
    assert "bbox" not in geo(tmp_path / "a.parquet")[1]
    assert geopandas.read_parquet(tmp_path / "a.parquet").columns.tolist() == ["class_id", "area_m2", "geometry"]
    write_parquet(Batches([frame(0, 2, crs=None)], frame(0, 0, crs=None)), tmp_path / "b.parquet")
    assert geo(tmp_path / "b.parquet")[1]["crs"] is None


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_batches_are_gathered_into_row_groups(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(formats, "_ROWS", rows)
    made = batches(*(frame(first, 2) for first in range(0, 10, 2)))
    write_parquet(made, tmp_path / "a.parquet")
    assert made.rows == 10
    file = pq.ParquetFile(tmp_path / "a.parquet")
    groups = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
    assert [group for group in groups if group] == {1: [2] * 5, 3: [4, 4, 2], 4: [4, 4, 2], 100: [10]}[rows]
    assert geopandas.read_parquet(tmp_path / "a.parquet")["area_m2"].tolist() == [2.0 * k for k in range(10)]


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_all_are_multipolygons_where_one_may_have_several_parts(tmp_path, suffix):
    several = frame(0, 2)
    several.geometry = [
        shapely.MultiPolygon([*several.geometry[:1], shapely.box(6e5, 0, 6e5 + 1, 1)]),
        several.geometry[1],
    ]
    read = geopandas.read_parquet if suffix == ".parquet" else partial(geopandas.read_file, layer=0)
    for number, made in enumerate((batches(several), batches(frame(5, 1), several, several_parts=True))):
        path = tmp_path / f"{number}{suffix}"
        write_layer(made, path, CLASSES, "landcover")
        assert made.geometry_type == "MultiPolygon"
        assert set(read(path).geom_type) == {"MultiPolygon"}
    assert batches(frame(0, 2)).geometry_type == "Polygon"


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_what_goes_wrong_on_the_way_is_told_and_leaves_no_file(tmp_path, suffix):
    def frames():
        yield frame(0, 2)
        raise RuntimeError("the raster could not be read")

    with pytest.raises(RuntimeError, match="the raster could not be read"):
        write_layer(Batches(frames(), frame(0, 0)), tmp_path / f"a{suffix}", CLASSES, "landcover")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson"])
@pytest.mark.parametrize("event", ["call", "return"])
def test_an_interrupt_between_arrow_and_the_batches_is_not_lost(tmp_path, suffix, event):
    """Before the first line of ours and behind the last: no ``try`` of the iterator's holds what is raised there."""

    def trace(called, moment, _):
        if called.f_code is Batches.__iter__.__code__ and moment == event:
            signal.raise_signal(signal.SIGTERM)
        return trace

    def stop(number, _):
        raise KeyboardInterrupt(number)

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(KeyboardInterrupt) as interrupt:  # noqa: PT012
            sys.settrace(trace)
            write_layer(batches(frame(0, 2)), tmp_path / f"a{suffix}", CLASSES, "landcover")
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGTERM, usual)
    assert interrupt.value.args == (signal.SIGTERM,)
    assert not list(tmp_path.iterdir())


def test_layers_are_written_in_threads(tmp_path):
    with ThreadPoolExecutor(2) as threads:
        paths = [tmp_path / "a.fgb", tmp_path / "b.gpkg"]
        list(threads.map(lambda path: write_layer(batches(frame(0, 2)), path, CLASSES, "landcover"), paths))
    assert [pyogrio.read_info(path, layer="landcover")["features"] for path in paths] == [2, 2]


def test_geojson_is_precise_to_less_than_a_pixel_of_a_centimetre(tmp_path):
    write_layer(batches(frame(0, 1, width=0.01)), tmp_path / "a.geojson", CLASSES, "landcover")
    back = geopandas.read_file(tmp_path / "a.geojson")
    assert back.crs == "EPSG:4326"
    assert back.to_crs(25832).area[0] == pytest.approx(0.02, rel=0.05)
    corners = json.loads((tmp_path / "a.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert shapely.is_ccw(shapely.linearrings(corners))


def test_geojson_keeps_coordinates_that_are_no_degrees(tmp_path, caplog):
    write_layer(Batches([frame(0, 2, crs=None)], frame(0, 0, crs=None)), tmp_path / "a.geojson", CLASSES, "landcover")
    assert geopandas.read_file(tmp_path / "a.geojson").total_bounds.tolist() == [500000, 5538000, 500002, 5538002]
    assert "in GeoJSON for degrees" in caplog.text


def test_geojson_of_places_that_are_not_on_earth_is_refused(tmp_path):
    site = frame(0, 1, crs='LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(VectorError, match=r"'site'.*GeoJSON is in; write \.gpkg"):
        write_layer(Batches([site], site), tmp_path / "a.geojson", CLASSES, "landcover")
    write_layer(Batches([site], site), tmp_path / "a.fgb", CLASSES, "landcover")


def test_a_geopackage_has_its_classes_and_the_style_that_qgis_takes(tmp_path):
    for layer in ("landcover", "fields", "fields"):
        write_layer(batches(frame(0, 2)), tmp_path / "a.gpkg", CLASSES, layer)
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as database:
        styles = database.execute(
            "SELECT f_table_name, f_geometry_column, styleName, useAsDefault, styleQML FROM layer_styles ORDER BY 1"
        ).fetchall()
        assert [row[:4] for row in styles] == [
            ("fields", "geom", "fields", 1),
            ("landcover", "geom", "landcover", 1),
        ]
        assert all("<qgis" in row[4] and "wood" in row[4] for row in styles)
        contents = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        assert contents == {
            "landcover": "features", "classes": "attributes", "fields": "features", "fields_classes": "attributes",
            "layer_styles": "attributes",
        }  # fmt: skip
        assert database.execute("SELECT id, name, colour FROM classes").fetchall() == [
            (0, "road", "#ff0000"), (1, "wood", "#00ff00"),
        ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "a.gpkg"]


@pytest.mark.parametrize("suffix", [".fgb", ".geojson"])
@pytest.mark.parametrize("left", [0, 0.5, 0.97])
def test_a_file_whose_end_found_no_room_is_not_taken_for_whole(tmp_path, monkeypatch, suffix, left):
    """GDAL says nothing where the last kilobytes do not fit as it closes a file."""
    write = formats.pyogrio.write_arrow

    def cut(reader, path, **options):
        write(reader, path, **options)
        content = path.read_bytes()
        path.write_bytes(content[: int(left * len(content))])

    monkeypatch.setattr(formats.pyogrio, "write_arrow", cut)
    with pytest.raises(OutputError, match="No space left on device"):
        write_layer(batches(frame(0, 40)), tmp_path / f"a{suffix}", CLASSES, "landcover")
    assert not list(tmp_path.iterdir())
