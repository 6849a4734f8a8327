"""STAC Items: what validators demand, and what they cannot know: that footprint, dates and classes are true."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from shapely.geometry import Point, shape

import geohp
from geohp.errors import ConfigError, OutputError, SceneError
from geohp.inference.acquisition import Acquisition
from geohp.inference.map_options import MapOptions
from geohp.inference.stac import EXTENSIONS, _asset, _href, _source_link, describe, footprint, write_item
from geohp.options import FitOptions
from geohp.raster.grid import Grid


@pytest.fixture
def item(write_scene, three_fields, tmp_path):
    """The item of a map, and the scene."""

    def make(tags=None, namespace=None, **profile):
        scene = write_scene(three_fields, "my scene.tif", **profile)
        if tags:
            with rasterio.open(scene, "r+") as dataset:
                dataset.update_tags(ns=namespace, **tags)
        out = tmp_path / "maps"
        products = ["probabilities", "polygons", "stac"] + ([] if profile.get("gcps") else ["confidence"])
        made = geohp.segment_files(scene, out, classes=3, products=products)
        assert not made.failed
        return json.loads((out / "my scene.json").read_text()), scene

    return make


def test_it_is_valid_and_says_what_the_map_is(item, tmp_path):
    found, _ = item()
    assert found["stac_version"] == "1.1.0"
    assert found["id"] == "my scene"
    assert found["stac_extensions"] == list(EXTENSIONS)
    properties = found["properties"]
    assert properties["proj:code"] == "EPSG:32633"
    assert properties["proj:shape"] == [150, 200]
    assert properties["proj:transform"] == [0.5, 0, 380000, 0, -0.5, 5800000]
    assert properties["gsd"] == pytest.approx(0.5, rel=1e-3)
    assert properties["processing:software"] == {"geohp": geohp.__version__}
    assert list(found["assets"]) == ["labels", "confidence", "probabilities", "polygons"]
    with rasterio.open(tmp_path / "maps" / "my scene.tif") as labels:
        assert properties["geohp:model_sha256"] == labels.tags()["GEOHP_MODEL_SHA256"]
    for asset in found["assets"].values():
        assert asset["href"].startswith("./my%20scene")
        assert (tmp_path / "maps" / asset["href"].replace("%20", " ")).is_file()
    link = found["links"][0]
    assert (link["rel"], link["href"]) == ("derived_from", "../my%20scene.tif")
    band = found["assets"]["labels"]["bands"][0]
    assert (band["data_type"], band["nodata"]) == ("uint8", 255)
    assert "raster:scale" not in band
    assert [one["value"] for one in band["classification:classes"]] == [0, 1, 2]
    for one in band["classification:classes"]:
        assert re.fullmatch("[0-9A-Za-z-_]+", one["name"])
        assert re.fullmatch("[0-9A-F]{6}", one["color_hint"])
    shares = found["assets"]["probabilities"]["bands"]
    assert [one["name"] for one in shares] == ["vegetation", "class 1", "class 2"]
    assert all(one["raster:scale"] == pytest.approx(1 / 254) for one in shares)
    assert found["assets"]["labels"]["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert found["assets"]["polygons"]["type"] == "application/geopackage+sqlite3"


@pytest.mark.parametrize("kind", ["plain", "without crs", "rotated", "control points", "dated"])
def test_the_published_schema_accepts_it(item, kind):
    pystac = pytest.importorskip("pystac")
    pytest.importorskip("jsonschema")
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    points = [GroundControlPoint(r, c, 13 + c * 1e-5, 52 - r * 1e-5) for r in (0, 149) for c in (0, 199)]
    found, _ = item(
        **{
            "plain": {},
            "without crs": {"crs": None, "transform": None},
            "rotated": {"transform": Affine(0.4, 0.3, 380000, 0.3, -0.4, 5800000)},
            "control points": {"gcps": points, "crs": CRS.from_epsg(4326), "transform": None},
            "dated": {"tags": {"TIFFTAG_DATETIME": "2024:07:31 10:20:30"}},
        }[kind]
    )
    JsonSchemaSTACValidator().validate_core(found, pystac.STACObjectType.ITEM, "1.1.0")
    again = pystac.Item.from_dict(found)
    assert again.to_dict(include_self_link=False, transform_hrefs=False)["assets"] == found["assets"]
    assert (again.geometry is None) == (kind == "without crs")
    assert ("bbox" in found) == (kind != "without crs")


@pytest.mark.parametrize(
    ("tags", "namespace", "taken"),
    [
        ({"TIFFTAG_DATETIME": "2024:07:31 10:20:30"}, None, "2024-07-31T10:20:30Z"),
        ({"ACQUISITIONDATETIME": "2023-05-06 07:08:09"}, "IMAGERY", "2023-05-06T07:08:09Z"),
        ({"acquisition_date": "2022-02-03", "TIFFTAG_DATETIME": "2024:07:31 10:20:30"}, None, "2022-02-03T00:00:00Z"),
        ({"EXIF_DateTime": "2021:02:03 04:05:06"}, None, "2021-02-03T04:05:06Z"),
        ({"ACQUISITION_DATETIME": "2022-02-03T04:05:06+02:00"}, None, "2022-02-03T02:05:06Z"),
    ],
)
def test_when_it_was_taken_is_what_the_scene_says(item, tags, namespace, taken):
    found, _ = item(tags, namespace)
    assert found["properties"]["datetime"] == taken
    assert "start_datetime" not in found["properties"]


def test_that_scenes_say_nothing_is_said_once(write_scene, three_fields, tmp_path, caplog):
    scenes = [write_scene(three_fields, f"{name}.tif") for name in "abc"]
    with rasterio.open(scenes[1], "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2024:07:31 10:20:30")
    geohp.segment_files(scenes, tmp_path / "maps", classes=3, products=["stac"])
    said = [record.getMessage() for record in caplog.records if "when" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"{scenes[0]} and 1 more do not say when they were taken")
    geohp.segment_file(scenes[2], tmp_path / "map.tif", classes=3, stac=True)
    said = f"{scenes[2]} does not say when it was taken, so its STAC Item has no date; datetime= gives it one"
    assert said in caplog.text


def test_a_scene_that_says_nothing_gives_no_date_but_a_range(item, caplog):
    found, scene = item({"TIFFTAG_DATETIME": "yesterday"})
    properties = found["properties"]
    assert properties["datetime"] is None
    end = datetime.fromtimestamp(int(scene.stat().st_mtime), UTC)
    assert properties["end_datetime"] == end.isoformat().replace("+00:00", "Z")
    assert properties["start_datetime"] == "1970-01-01T00:00:00Z"
    assert "my scene.tif does not say when it was taken" in caplog.text
    assert "does not say when it was taken" in properties["description"]


@pytest.mark.parametrize(
    ("said", "start", "end"),
    [
        ("2024-07-31", "2024-07-31T00:00:00Z", None),
        ("2024-07-31T10:20:30+02:00", "2024-07-31T08:20:30Z", None),
        ("2024:07:31 10:20:30", "2024-07-31T10:20:30Z", None),
        ("2024-07-01/2024-07-31", "2024-07-01T00:00:00Z", "2024-07-31T23:59:59Z"),
    ],
)
def test_when_it_was_taken_is_what_the_caller_says(write_scene, three_fields, tmp_path, said, start, end):
    scene = write_scene(three_fields)
    with rasterio.open(scene, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="1999:01:01 00:00:00")
    geohp.segment_file(scene, tmp_path / "a.tif", classes=2, stac=True, datetime=said)
    properties = json.loads((tmp_path / "a.json").read_text())["properties"]
    assert properties["datetime"] == (start if end is None else None)
    if end is not None:
        assert (properties["start_datetime"], properties["end_datetime"]) == (start, end)


def test_a_folder_learns_another_date(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    for said in ("2024-07-31", "2024-08-01"):
        geohp.segment_files(scene, tmp_path / "maps", classes=2, products=["stac"], datetime=said, overwrite=True)
        properties = json.loads((tmp_path / "maps" / "scene.json").read_text())["properties"]
        assert properties["datetime"] == f"{said}T00:00:00Z"


@pytest.mark.parametrize("said", ["yesterday", "", "2024-07-31/", "/2024-07-31", "2024-07-31/2024-07-30", "2024-13-01"])
def test_a_time_that_is_none_is_refused(said):
    with pytest.raises(ConfigError, match=r"datetime=: '.*' is no time that .* could have been taken at; write 2024"):
        MapOptions(datetime=said)


def test_a_time_without_an_item_is_refused(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    with pytest.raises(ConfigError, match="datetime=: is for STAC Items"):
        geohp.segment_file(scene, tmp_path / "a.tif", classes=2, datetime="2024-07-31")
    with pytest.raises(ConfigError, match="datetime=: is for STAC Items"):
        geohp.segment_files(scene, tmp_path / "maps", classes=2, datetime="2024-07-31")


def corners(grid):
    """In degrees, computed corner by corner."""
    from pyproj import Transformer

    turn = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    return [
        turn.transform(*(grid.transform * at))
        for at in ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))
    ]


@pytest.mark.parametrize("transform", [Affine(5, 0, 380000, 0, -5, 5800000), Affine(4, 3, 380000, 3, -4, 5800000)])
def test_the_footprint_is_the_rasters_rectangle(transform):
    grid = Grid(2000, 1500, transform, CRS.from_epsg(32633))
    geometry, box = footprint(grid)
    polygon = shape(geometry)
    assert polygon.is_valid
    assert polygon.exterior.is_ccw
    assert polygon.bounds == pytest.approx(box, abs=1e-8)
    for lon, lat in corners(grid):
        assert min(Point(lon, lat).distance(Point(at)) for at in polygon.exterior.coords) < 1e-8
    # Edges bend: half-way along each, where its middle really is.
    from pyproj import Geod, Transformer

    turn = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    for at in ((1000, 0), (2000, 750), (1000, 1500), (0, 750)):
        assert polygon.exterior.distance(Point(turn.transform(*(transform * at)))) < 1e-6
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(polygon)
    assert area == pytest.approx(2000 * 1500 * 25, rel=2e-3)


def test_a_map_with_nothing_but_a_crs_lies_nowhere(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields, transform=Affine.identity())
    areas = geohp.segment_file(scene, tmp_path / "a.tif", classes=2, stac=True).areas
    item = json.loads((tmp_path / "a.json").read_text())
    assert item["geometry"] is None
    assert "bbox" not in item
    assert item["properties"].keys().isdisjoint({"gsd", "proj:transform"})
    assert {area.area_ha for area in areas} == {None}


@pytest.mark.parametrize(("epsg", "west"), [(32660, 400000), (32601, 100000)])
def test_a_footprint_across_the_antimeridian_is_cut_there(epsg, west):
    grid = Grid(400, 400, Affine(1000, 0, west, 0, -1000, 6000000), CRS.from_epsg(epsg))
    geometry, box = footprint(grid)
    assert geometry["type"] == "MultiPolygon"
    assert -180 <= box[2] < 0 < box[0] <= 180
    parts = [shape({"type": "Polygon", "coordinates": part}) for part in geometry["coordinates"]]
    assert all(part.is_valid and part.bounds[2] - part.bounds[0] < 10 for part in parts)
    whole = shape(geometry)
    for lon, lat in corners(grid):
        assert whole.distance(Point((lon + 180) % 360 - 180, lat)) < 1e-8


def test_the_footprint_is_bent_as_control_points_bend_the_scene():
    places = {
        (r, c): (380000 + 0.5 * (c + 0.002 * c**2), 5800000 - 0.5 * r) for r in (0, 75, 150) for c in (0, 100, 200)
    }
    points = tuple(GroundControlPoint(*place, *xy) for place, xy in places.items())
    geometry, _ = footprint(Grid(200, 150, Affine.identity(), CRS.from_epsg(32633), points))
    for place in ((0, 0), (0, 100), (0, 200), (150, 200), (150, 0)):
        (lon,), (lat,) = rasterio.warp.transform("EPSG:32633", "EPSG:4326", *([v] for v in places[place]))
        assert shape(geometry).exterior.distance(Point(lon, lat)) < 1e-6  # a tenth of a metre


@pytest.mark.parametrize(("epsg", "pole", "west"), [(3413, 90, -2e6), (3413, 90, -2.6e6), (3031, -90, -2e6)])
def test_a_footprint_around_a_pole_holds_the_pole(epsg, pole, west):
    grid = Grid(400, 400, Affine(10000, 0, west, 0, -10000, 2e6), CRS.from_epsg(epsg))
    geometry, box = footprint(grid)
    polygon = shape(geometry)
    assert polygon.is_valid
    assert box[0::2] == [-180, 180]
    assert pole in box
    assert all(polygon.covers(Point(lon, pole * 0.9989)) for lon in range(-180, 181, 15))
    assert not polygon.intersects(Point(0, pole * 2 / 3))


def test_a_signed_address_is_told_without_its_signature(write_scene, three_fields, tmp_path):
    labels = write_scene(three_fields[:1], "labels.tif")
    scene = "https://user:secret@host/folder/scene.tif?sig=secret"
    link = describe(tmp_path / "a.json", {"labels": labels}, scene, Acquisition.parse("2024-07-31"))["links"][0]
    assert link["href"] == "https://***@host/folder/scene.tif?sig=***"
    assert (link["title"], link["type"]) == ("scene.tif", "image/tiff; application=geotiff")


def test_values_of_an_asset_have_the_scale_offset_and_nodata_of_their_file(write_scene, tmp_path):
    path = write_scene(np.ones((1, 3, 3), np.uint8), "a.tif", nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,), (100,)
    (band,) = _asset("confidence", path, tmp_path, [])["bands"]
    assert (band["raster:scale"], band["raster:offset"], band["nodata"]) == (0.5, 100, 0)


def test_an_item_tells_which_geohp_made_the_map(write_scene, tmp_path):
    labels = write_scene(np.ones((1, 3, 3), np.uint8), "labels.tif")
    with rasterio.open(labels, "r+") as dataset:
        dataset.update_tags(GEOHP_VERSION="0.0.9")
    made = describe(tmp_path / "a.json", {"labels": labels}, str(labels))
    assert made["properties"]["processing:software"] == {"geohp": "0.0.9"}


def test_what_ends_at_the_antimeridian_does_not_cross_it():
    geometry, box = footprint(Grid(10, 10, Affine(1, 0, 170, 0, -1, 5), CRS.from_epsg(4326)))
    assert (geometry["type"], box) == ("Polygon", [170, -5, 180, 5])


def test_scenes_elsewhere_are_named_as_other_programs_name_them(tmp_path):
    for scheme, prefix in (("s3", "/vsis3"), ("gs", "/vsigs"), ("az", "/vsiaz")):
        assert _href(f"{prefix}/bucket/A.TIF", tmp_path) == f"{scheme}://bucket/A.TIF"
    assert _href("/vsicurl/https://host/A.TIF", tmp_path) == "https://host/A.TIF"
    assert _source_link("https://host/A.TIF", tmp_path)["type"] == "image/tiff; application=geotiff"


def test_a_map_placed_by_control_points_has_no_transform(item):
    places = {(0, 0): (380000, 5800000), (0, 200): (380100, 5800000), (150, 0): (380000, 5799925)}
    points = [GroundControlPoint(*place, *xy) for place, xy in places.items()]
    properties = item(gcps=points, transform=None)[0]["properties"]
    assert properties["proj:code"] == "EPSG:32633"
    assert "proj:transform" not in properties


def test_an_item_that_cannot_be_made_leaves_what_was_there(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    labels = {"labels": tmp_path / "labels.tif"}
    path = tmp_path / "item.json"
    path.write_text("before")
    with pytest.raises(SceneError, match=r"labels\.tif does not exist"):
        write_item(path, labels, str(scene))
    geohp.segment_file(scene, labels["labels"], geohp.Segmenter.fit(geohp.open_scene(scene), FitOptions(classes=2)))
    with pytest.raises(OutputError, match="could not be written"):
        write_item(tmp_path / "none" / "item.json", labels, str(scene))
    assert path.read_text() == "before"
    write_item(path, labels, str(scene))
    assert json.loads(path.read_text())["assets"]["labels"]["href"] == "./labels.tif"
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "labels.tif", "item.json"}
    assert np.isfinite(json.loads(path.read_text())["bbox"]).all()


def test_beside_a_scene_on_a_server_nothing_is_asked_for(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    labels = tmp_path / "labels.tif"
    geohp.segment_file(scene, labels, geohp.Segmenter.fit(geohp.open_scene(scene), FitOptions(classes=2)))
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    # Apart, since rasterio keeps Python from answering while GDAL looks around.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        port = re.search(r"port (\d+)", server.stdout.readline())[1]
        write_item(tmp_path / "item.json", {"labels": labels}, f"http://127.0.0.1:{port}/scene.tif")
        server.terminate()
        asked = re.findall(r'"\w+ (\S+)', server.stderr.read())
    assert set(asked) == {"/scene.tif"}
