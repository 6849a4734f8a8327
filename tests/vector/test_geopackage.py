"""Files of polygons: what is in them, and that nothing is lost when writing fails."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import rioxarray  # noqa: F401 (the accessor)
import shapely
import xarray as xr
from affine import Affine
from geopandas.testing import assert_geodataframe_equal

from geohp.classes import LandCoverClass
from geohp.errors import OutputError, SceneError, VectorError
from geohp.style import categorised_qml
from geohp.vector.polygonize import polygonize
from geohp.vector.survey import Survey
from geohp.vector.writing import polygonize_file, write_polygons
from geohp.vector.zonal import Statistics

CLASSES = (LandCoverClass(0, 'Wald & "Wiese" <1>', "#00ff10"), LandCoverClass(1, "Straße", "#808080"))


def some_polygons(crs="EPSG:25832", size=12, transform=None):
    values = np.random.default_rng(0).integers(0, 3, (size, size)).astype(np.uint8)
    values[:3, :2] = 255
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(transform or Affine(0.2, 0, 5e5, 0, -0.2, 5.5e6))
    return polygonize(array if crs is None else array.rio.write_crs(crs), classes=CLASSES)


def rows(path, query):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def only(folder, *names):
    return sorted(p.name for p in folder.iterdir()) == sorted(names)


def test_round_trip(tmp_path):
    polygons = some_polygons()
    path = write_polygons(polygons, tmp_path / "landcover.gpkg")
    assert only(tmp_path, "landcover.gpkg")
    back = geopandas.read_file(path, layer="landcover")
    assert back.crs == "EPSG:25832"
    assert back.columns.tolist() == polygons.columns.tolist()
    assert (back.geometry.array == polygons.geometry.array).all()  # every coordinate to the last bit
    for name in ("class_id", "class_name", "area_m2", "perimeter_m", "n_pixels"):
        assert back[name].tolist() == polygons[name].tolist()

    assert dict(rows(path, "SELECT table_name, data_type FROM gpkg_contents")) == {
        "landcover": "features",
        "classes": "attributes",
        "layer_styles": "attributes",
    }
    assert dict(pyogrio.list_layers(path))["classes"] is None
    legend = rows(path, "SELECT id, name, colour FROM classes ORDER BY id")
    assert legend[:2] == [(c.id, c.name, c.colour) for c in CLASSES]
    assert legend[2][:2] == (2, "class 2")


def test_style_is_what_qgis_looks_for(tmp_path):
    path = write_polygons(some_polygons(), tmp_path / "a.gpkg")
    query = "SELECT styleQML, useAsDefault, f_table_catalog, f_table_schema FROM layer_styles WHERE f_table_name = "
    ((qml, default, catalog, schema),) = rows(path, query + "'landcover' AND f_geometry_column = 'geom'")
    assert (default, catalog, schema) == (1, "", "")
    columns = [name for _, name, *_ in rows(path, "PRAGMA table_info(layer_styles)")]
    assert columns == [
        "id", "f_table_catalog", "f_table_schema", "f_table_name", "f_geometry_column", "styleName", "styleQML",
        "styleSLD", "useAsDefault", "description", "owner", "ui", "update_time",
    ]  # fmt: skip
    ((when,),) = rows(path, "SELECT update_time FROM layer_styles")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)
    renderer = ET.fromstring(qml).find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class_id")
    categories = renderer.findall("categories/category")
    assert [c.get("value") for c in categories] == ["0", "1", "2"]
    assert categories[0].get("label") == CLASSES[0].name
    symbols = {s.get("name"): s for s in renderer.findall("symbols/symbol")}
    colours = [symbols[c.get("symbol")].find("layer/Option/Option[@name='color']").get("value") for c in categories]
    assert colours[:2] == ["0,255,16,255", "128,128,128,255"]
    assert qml == categorised_qml(
        [*CLASSES, LandCoverClass(2, "class 2", rows(path, "SELECT colour FROM classes WHERE id = 2")[0][0])]
    )


def test_without_crs_it_has_none(tmp_path):
    polygons = some_polygons(None, transform=Affine.identity())
    path = write_polygons(polygons, tmp_path / "plain.gpkg")
    for table in ("gpkg_contents", "gpkg_geometry_columns"):
        where = f"FROM gpkg_spatial_ref_sys JOIN {table} USING (srs_id) WHERE table_name = 'landcover'"
        assert rows(path, f"SELECT srs_name {where}") == [("Undefined SRS",)]
    assert geopandas.read_file(path, layer="landcover").crs is None
    assert (geopandas.read_file(path, layer="landcover").geometry.array == polygons.geometry.array).all()


def test_no_polygons_at_all(tmp_path):
    for name in ("empty.gpkg", "empty.geojson", "empty.fgb", "empty.parquet"):
        path = write_polygons(some_polygons().iloc[:0], tmp_path / name)
        read = geopandas.read_parquet if name.endswith("parquet") else geopandas.read_file
        assert len(read(path, **({"layer": "landcover"} if name.endswith("gpkg") else {}))) == 0
    assert rows(tmp_path / "empty.gpkg", "SELECT count(*) FROM classes") == [(3,)]


def test_other_layers_stay(tmp_path):
    path = tmp_path / "project.gpkg"
    mine = geopandas.GeoDataFrame({"note": ["dig here"]}, geometry=[shapely.Point(1, 2)], crs="EPSG:4326")
    pyogrio.write_dataframe(mine, path, layer="treasure")
    pyogrio.write_dataframe(pd.DataFrame({"a": [1, 2]}), path, layer="table")
    polygons = some_polygons()
    write_polygons(polygons, path)
    write_polygons(polygons.iloc[:5], path, layer="landcover_2024")
    assert set(pyogrio.list_layers(path)[:, 0]) == {
        "treasure", "table", "landcover", "classes", "landcover_2024", "landcover_2024_classes", "layer_styles",
    }  # fmt: skip
    assert geopandas.read_file(path, layer="treasure").equals(mine)
    assert rows(path, 'SELECT a FROM "table"') == [(1,), (2,)]
    assert rows(path, "SELECT f_table_name FROM layer_styles") == [("landcover",), ("landcover_2024",)]
    assert only(tmp_path, "project.gpkg")


def test_a_layer_is_replaced_only_when_asked_for(tmp_path):
    path = tmp_path / "a.gpkg"
    write_polygons(some_polygons(), path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"a\.gpkg has a layer 'landcover'.*overwrite=True"):
        write_polygons(some_polygons(size=5), path)
    assert path.read_bytes() == before
    assert only(tmp_path, "a.gpkg")
    fewer = some_polygons(size=5)
    write_polygons(fewer, path, overwrite=True)
    assert len(geopandas.read_file(path, layer="landcover")) == len(fewer)
    assert rows(path, "SELECT count(*) FROM layer_styles") == [(1,)]
    assert rows(path, "SELECT count(*) FROM classes") == [(3,)]
    assert rows(path, "SELECT count(*) FROM gpkg_contents") == [(3,)]


def test_somebody_elses_table_of_classes_is_not_lost(tmp_path):
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"school": ["3b"]}), path, layer="classes")
    with pytest.raises(OutputError, match="'classes'"):
        write_polygons(some_polygons(), path)
    assert rows(path, "SELECT school FROM classes") == [("3b",)]


def test_plain_formats(tmp_path):
    polygons = some_polygons()
    back = geopandas.read_file(write_polygons(polygons, tmp_path / "a.fgb"))
    assert back.crs == "EPSG:25832"
    written, read = (sorted(shapely.to_wkb(frame.geometry.array)) for frame in (polygons, back))  # its index sorts
    assert read == written
    path = write_polygons(polygons, tmp_path / "a.geojson")
    back = geopandas.read_file(path)
    assert back.crs == "EPSG:4326"
    again = back.to_crs(25832)
    assert shapely.hausdorff_distance(again.geometry.array, polygons.geometry.array).max() < 0.001
    assert again["class_id"].tolist() == polygons["class_id"].tolist()
    assert "crs" not in json.loads(path.read_text())
    with pytest.raises(OutputError, match="overwrite=True"):
        write_polygons(polygons, path)
    write_polygons(polygons.iloc[:2], path, overwrite=True)
    assert len(geopandas.read_file(path)) == 2
    assert only(tmp_path, "a.fgb", "a.geojson")


def test_parquet(tmp_path):
    polygons = some_polygons()
    path = write_polygons(polygons, tmp_path / "a.parquet")
    back = geopandas.read_parquet(path)
    assert back.crs == polygons.crs
    assert (back.geometry.array == polygons.geometry.array).all()
    assert back["class_name"].tolist() == polygons["class_name"].tolist()
    with pq.ParquetFile(path) as file:
        stored = json.loads(file.metadata.metadata[b"geo"])["columns"]["geometry"]
    assert stored["bbox"] == polygons.total_bounds.tolist()
    assert (stored["encoding"], stored["geometry_types"]) == ("WKB", ["Polygon"])
    nowhere = some_polygons(None, transform=Affine.identity())
    assert geopandas.read_parquet(write_polygons(nowhere, tmp_path / "b.parquet")).crs is None


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: pd.DataFrame(frame), "no GeoDataFrame"),
        (lambda frame: frame.geometry, "no GeoDataFrame"),
        (lambda frame: frame.drop(columns="class_id"), "no column 'class_id'"),
        (lambda frame: frame.assign(class_id=[None, *frame["class_id"][1:]]), "no column 'class_id'"),
        (lambda frame: frame.astype({"class_id": "Int64"}).replace({"class_id": {0: pd.NA}}), "no column 'class_id'"),
        (lambda frame: frame.set_geometry(frame.centroid), "hold no polygon but Point"),
        (lambda frame: frame.set_geometry([None, *frame.geometry[1:]], crs=frame.crs), "no polygon but nothing"),
        (lambda frame: frame.assign(Area_M2=1), "two columns are called 'area_m2'"),
        (lambda frame: frame.assign(note=["a", *range(1, len(frame))]), "column of the polygons holds .* note"),
        (lambda frame: frame.assign(other=frame.geometry), "column of the polygons holds .* other"),
    ],
)  # fmt: skip
def test_frames_that_no_file_can_hold_are_refused(tmp_path, suffix, change, message):
    with pytest.raises(VectorError, match=message):
        write_polygons(change(some_polygons()), tmp_path / f"a{suffix}")
    assert only(tmp_path)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb"])
def test_durations_are_for_parquet_alone(tmp_path, suffix):
    polygons = some_polygons()
    polygons["since"] = pd.to_timedelta(range(len(polygons)), unit="D")
    with pytest.raises(VectorError, match=r"'since'.* write \.parquet"):
        write_polygons(polygons, tmp_path / f"a{suffix}")
    assert only(tmp_path)
    write_polygons(polygons, tmp_path / "a.parquet")
    assert geopandas.read_parquet(tmp_path / "a.parquet")["since"].tolist() == polygons["since"].tolist()


def test_columns_of_a_geopackage_s_own_are_refused_in_frames(tmp_path):
    polygons = some_polygons()
    for own in (polygons.assign(geom=1), polygons.assign(FID=1), polygons.assign(fid="a")):
        with pytest.raises(VectorError, match="of their own"):
            write_polygons(own, tmp_path / "a.gpkg")
    write_polygons(polygons.assign(fid=range(7, 7 + len(polygons))), tmp_path / "a.gpkg")
    assert rows(tmp_path / "a.gpkg", "SELECT min(fid) FROM landcover") == [(7,)]


def test_columns_of_a_geopackage_s_own_are_refused_where_statistics_are_called_so(tmp_path):
    array = big_map(8)
    for own in ("geom", "FID"):
        with pytest.raises(VectorError, match="of their own"):
            polygonize_file(array, tmp_path / "a.gpkg", stats=[Statistics(array, ("mean",), (own,))])


@pytest.mark.parametrize(("present", "layer"), [("Fields", "fields"), ("CLASSES", "landcover")])
def test_layers_whose_names_differ_by_capitals_are_one(tmp_path, present, layer):
    path = write_polygons(some_polygons(), tmp_path / "a.gpkg", layer=present)
    with pytest.raises(OutputError, match="already"):
        write_polygons(some_polygons(), path, layer=layer)
    fewer = some_polygons(size=4)
    write_polygons(fewer, path, layer=layer, overwrite=True)
    assert rows(path, f"SELECT count(*) FROM {layer}") == [(len(fewer),)]
    assert rows(path, f"SELECT count(*) FROM layer_styles WHERE lower(f_table_name) = '{layer}'") == [(1,)]


def test_a_style_that_is_not_written_is_in_nobody_s_way(tmp_path):
    (tmp_path / "a.qml").write_text("the scene's own")
    polygonize_file(big_map(8), tmp_path / "a.gpkg", qml=True)
    assert (tmp_path / "a.qml").read_text() == "the scene's own"


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".parquet"])
def test_heights_of_corners_are_left_out(tmp_path, suffix):
    polygons = some_polygons()
    path = write_polygons(polygons.set_geometry(shapely.force_3d(polygons.geometry, 7)), tmp_path / f"a{suffix}")
    back = geopandas.read_parquet(path) if suffix == ".parquet" else geopandas.read_file(path)
    assert not back.has_z.any()


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    polygons = some_polygons()
    with pytest.raises(OutputError, match=r"\.gpkg, \.geojson, \.fgb or \.parquet"):
        write_polygons(polygons, tmp_path / "a.shp")
    with pytest.raises(OutputError, match="does not exist"):
        write_polygons(polygons, tmp_path / "nowhere" / "a.gpkg")
    (tmp_path / "folder.gpkg").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_polygons(polygons, tmp_path / "folder.gpkg")
    (tmp_path / "text.gpkg").write_text("no GeoPackage")
    with pytest.raises(OutputError, match="no readable GeoPackage"):
        write_polygons(polygons, tmp_path / "text.gpkg", overwrite=True)
    assert (tmp_path / "text.gpkg").read_text() == "no GeoPackage"

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write_polygons(polygons, tmp_path / "a.gpkg")
    assert only(tmp_path, "folder.gpkg", "text.gpkg")


@pytest.mark.parametrize("error", [pyogrio.errors.DataSourceError("disk full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_half_way_leaves_things_as_they_were(tmp_path, monkeypatch, error, existing):
    path = tmp_path / "a.gpkg"
    if existing:
        write_polygons(some_polygons(), path)
    before = path.read_bytes() if existing else None
    original = pyogrio.write_dataframe

    def fail_at_the_classes(frame, *args, layer, **options):
        if layer == "classes":
            raise error
        return original(frame, *args, layer=layer, **options)

    monkeypatch.setattr(pyogrio, "write_dataframe", fail_at_the_classes)
    expected = OutputError if isinstance(error, pyogrio.errors.DataSourceError) else type(error)
    with pytest.raises(expected):
        write_polygons(some_polygons(size=5), path, overwrite=True)
    assert only(tmp_path, *(["a.gpkg"] if existing else []))
    assert not existing or path.read_bytes() == before


def test_a_geopackage_in_use(tmp_path):
    """What another program has written but not moved into the main file is neither lost nor applied to the new one."""
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="notes")
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA journal_mode = WAL');"
        "c.execute('INSERT INTO notes (a) VALUES (2)'); c.commit(); print('ready', flush=True); sys.stdin.read()"
    )
    # Another process: within one, SQLite's locks do not tell two copies of the library apart.
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(OutputError, match="another program"):
            write_polygons(some_polygons(), path)
    write_polygons(some_polygons(), path)
    assert rows(path, "SELECT a FROM notes") == [(1,), (2,)]
    assert only(tmp_path, "a.gpkg")


def test_several_parts_and_missing_classes(tmp_path):
    frame = geopandas.GeoDataFrame(
        {"class_id": [7, 8], "class_name": ["moor", "sea"]},
        geometry=[shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)]), shapely.box(5, 5, 6, 6)],
        crs="EPSG:3857",
    )
    path = write_polygons(frame, tmp_path / "a.gpkg", classes=[LandCoverClass(8, "ocean", "#0000ff")])
    assert set(geopandas.read_file(path, layer="landcover").geom_type) == {"MultiPolygon"}
    assert rows(path, "SELECT id, name FROM classes ORDER BY id") == [(7, "moor"), (8, "ocean")]


def big_map(size=120):
    values = np.random.default_rng(1).integers(0, 3, (size, size)).astype(np.uint8)
    values[:, 70:] = 1
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(Affine(0.2, 0, 5e5, 0, -0.2, 5.5e6))
    return array.rio.write_crs("EPSG:25832").rio.write_nodata(255)


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_straight_into_a_file(tmp_path, suffix):
    array = big_map()
    told = []
    count = polygonize_file(
        array, tmp_path / f"a{suffix}", classes=CLASSES, min_area_m2=0.1, block_px=32,
        progress=lambda stage, done, total: told.append(done / total),
    )  # fmt: skip
    whole = polygonize(array, classes=CLASSES, min_area_m2=0.1)
    write_polygons(whole, tmp_path / f"b{suffix}")
    read = geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file
    layer = {"layer": "landcover"} if suffix == ".gpkg" else {}
    one, two = (
        read(tmp_path / f"{name}{suffix}", **layer).sort_values("geometry", key=shapely.to_wkb) for name in "ab"
    )
    assert_geodataframe_equal(one.reset_index(drop=True), two.reset_index(drop=True))
    assert count == len(whole) == len(one) > 100
    assert told[-1] == 1
    if suffix == ".gpkg":
        assert rows(tmp_path / "a.gpkg", "SELECT * FROM classes") == rows(tmp_path / "b.gpkg", "SELECT * FROM classes")
        assert rows(tmp_path / "a.gpkg", "SELECT count(*) FROM layer_styles") == [(1,)]


@pytest.mark.parametrize("error", [SceneError("a.tif: damaged"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_what_goes_wrong_between_two_batches_is_told_as_it_is(tmp_path, monkeypatch, suffix, error):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"") if suffix != ".gpkg" else write_polygons(some_polygons(), path)
    before = path.read_bytes()
    original = Survey.regions

    def fail_late(self, number):
        if number == 9:
            raise error
        return original(self, number)

    monkeypatch.setattr(Survey, "regions", fail_late)
    with pytest.raises(type(error)) as caught:
        polygonize_file(big_map(), path, block_px=32, overwrite=True)
    assert caught.value is error
    assert only(tmp_path, path.name)
    assert path.read_bytes() == before


def test_a_map_without_data_straight_into_a_file(tmp_path):
    nothing = big_map() * 0 + 255
    nothing = nothing.astype(np.uint8).rio.write_nodata(255)
    for suffix in (".gpkg", ".fgb", ".geojson", ".parquet"):
        assert polygonize_file(nothing, tmp_path / f"a{suffix}") == 0
    assert geopandas.read_parquet(tmp_path / "a.parquet")["class_name"].tolist() == []


MILLION = """
import sys
import numpy as np, xarray as xr, rioxarray
from geohp.vector.writing import polygonize_file
values = np.random.default_rng(0).integers(0, 2, (3000, 3000)).astype(np.uint8)
array = xr.DataArray(values, dims=("y", "x"))
print(polygonize_file(array, sys.argv[1], block_px=512))
"""


@pytest.mark.slow
def test_a_million_polygons(tmp_path, peak_memory):
    count, memory = peak_memory(MILLION, tmp_path / "a.gpkg")
    assert int(count) > 1_000_000
    assert rows(tmp_path / "a.gpkg", "SELECT count(*) FROM landcover") == [(int(count),)]
    assert memory < 1024
