"""One workflow from a scene to its map: what the command line can do, Python can."""

import inspect
import json
import logging
import shutil

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from rasterio.windows import Window

import geohp
from geohp.errors import ConfigError, OutputError, VectorError
from geohp.inference.map_options import MapOptions
from geohp.inference.map_scene import map_scene
from geohp.inference.products import Products
from geohp.style import RAMPS, ramp_qml


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


def test_one_file_takes_what_the_folder_and_the_command_line_take(scene, tmp_path, caplog):
    stages = set()
    with caplog.at_level(logging.INFO, "geohp"):
        result = geohp.segment_file(
            scene,
            tmp_path / "a.tif",
            classes=3,
            confidence=tmp_path / "c.tif",
            polygons=tmp_path / "a.gpkg",
            min_area_m2=2,
            qml=True,
            stac=True,
            datetime="2024-07-31",
            overlap=0.5,
            progress=lambda stage, done, total, detail="": stages.add((stage, detail)),
        )
    assert [path.name for path in result.files] == ["a.tif", "c.tif", "a.gpkg", "a.qml", "c.qml", "a.json"]
    assert all(path.exists() for path in result.files)
    assert {stage for stage, _ in stages} == {"reading samples", "finding classes", "segmenting", "polygons"}
    assert {detail for _, detail in stages} == {"scene.tif"}
    assert len(result.classes) == 3
    assert result.polygons == 3
    assert caplog.messages == [
        "vegetation, 36 % of the ground, is one class (split_covers=True tells their kinds apart)",
        "using k-means on the scene's own rcf features",
    ]
    assert list(json.loads((tmp_path / "a.json").read_text())["assets"]) == ["labels", "confidence", "polygons"]
    with rasterio.open(tmp_path / "a.tif") as labels:
        assert labels.tags()["GEOHP_OVERLAP_PX"] == str(int(labels.tags()["GEOHP_WINDOW_PX"]) // 2)
    with pytest.raises(OutputError, match=r"a\.tif: exists already"):
        geohp.segment_file(scene, tmp_path / "a.tif", classes=3)


def test_a_confidence_is_of_one_map_alone(scene, tmp_path):
    labels, sure = tmp_path / "a.tif", tmp_path / "a_confidence.tif"
    geohp.segment_file(scene, labels, classes=3, confidence=sure)
    model = geohp.Segmenter.fit(geohp.open_scene(scene), MapOptions(classes=3))
    assert geohp.polygonize(labels, confidence=sure)["mean_confidence"].gt(0).all()
    assert geohp.polygonize(geohp.segment(scene, model), confidence=sure)["mean_confidence"].gt(0).all()
    later = scene.rename(scene.with_name("later.tif"))
    for image, made in ((later, {}), (later, {"tta": True}), (later, {"pixel_size_m": 0.7})):
        geohp.segment_file(image, labels, model, overwrite=True, **made)
        with pytest.raises(VectorError, match=r"a_confidence\.tif is of another map than .*a\.tif \(GEOHP_"):
            geohp.polygonize(labels, confidence=sure)


def test_a_confidence_of_another_scene_of_the_same_name_is_of_another_map(scene, three_fields, tmp_path):
    labels, sure = tmp_path / "a.tif", tmp_path / "a_confidence.tif"
    model = geohp.Segmenter.fit(geohp.open_scene(scene), MapOptions(classes=3))
    geohp.segment_file(scene, labels, model, confidence=sure)
    (tmp_path / "2021").mkdir()
    later = tmp_path / "2021" / scene.name
    shutil.copyfile(scene, later)
    before = labels.read_bytes()
    geohp.segment_file(later, labels, model, overwrite=True)
    assert labels.read_bytes() == before  # the same pixels elsewhere
    with rasterio.open(later, "r+") as dataset:
        dataset.write(three_fields[:, ::-1])
    geohp.segment_file(later, labels, model, overwrite=True)
    with pytest.raises(VectorError, match=r"of another map than .*\(GEOHP_SCENE_DIGEST"):
        geohp.polygonize(labels, confidence=sure)


def test_the_item_lies_where_it_is_asked_for(scene, tmp_path):
    (tmp_path / "items").mkdir()
    geohp.segment_file(scene, tmp_path / "a.tif", classes=2, stac=tmp_path / "items" / "one.json")
    assert json.loads((tmp_path / "items" / "one.json").read_text())["assets"]["labels"]["href"] == "../a.tif"


def test_what_was_stopped_half_way_replaces_only_what_it_was_to_make(scene, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    labels, polygons = tmp_path / "a.tif", tmp_path / "a.geojson"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr("geohp.inference.map_scene._write_polygons", interrupt)
        geohp.segment_file(scene, labels, classes=2, polygons=polygons)
    for name in ("a.qml", "a.json", "b.geojson", "a.geojson"):
        (tmp_path / name).write_text("precious")
    for further in ({"qml": True}, {"stac": True}, {"polygons": tmp_path / "b.geojson"}):
        with pytest.raises(OutputError, match="exists already"):
            geohp.segment_file(scene, labels, classes=2, **further)
    assert geohp.segment_file(scene, labels, classes=2, polygons=polygons).polygons > 0
    precious = {path.name for path in tmp_path.iterdir() if path.is_file() and path.read_bytes() == b"precious"}
    assert precious == {"a.qml", "a.json", "b.geojson"}


def test_what_begins_anew_replaces_no_map_that_is_complete(scene, three_fields, write_scene, tmp_path, monkeypatch):
    labels, polygons = tmp_path / "a.tif", tmp_path / "a.geojson"
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):  # noqa: PT012
        patch.setattr("geohp.inference.map_scene._write_polygons", lambda *_: 1 / 0)
        geohp.segment_file(scene, labels, classes=2, polygons=polygons)
    map_of_the_first = labels.read_bytes()
    other = write_scene(three_fields[:, ::-1].copy(), "other.tif")
    with pytest.raises(OutputError, match=r"unfinished work with another .*restart=True"):
        geohp.segment_file(other, labels, classes=2, polygons=polygons)
    for image in (other, scene):
        with pytest.raises(OutputError, match=r"a\.tif: exists already"):
            geohp.segment_file(image, labels, classes=2, polygons=polygons, restart=True)
    assert labels.read_bytes() == map_of_the_first
    assert geohp.segment_file(other, labels, classes=2, polygons=polygons, restart=True, overwrite=True).polygons > 0
    assert labels.read_bytes() != map_of_the_first


def test_nothing_begins_where_anything_is_in_the_way(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("geohp.inference.rasters.written_rasters", lambda *_: pytest.fail("work has begun"))
    products = Products(tmp_path / "a.tif", polygons=tmp_path / "a.geojson", qml=True, stac=True)
    for name in ("a.qml", "a.json", "a.geojson"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(OutputError, match="exists already"):
            map_scene(scene, products, MapOptions(classes=2))
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match="both labels and entropy"):
        geohp.segment_file(scene, tmp_path / "a.tif", classes=2, entropy=tmp_path / "a.tif")


def test_the_image_behind_a_virtual_raster_is_not_replaced_even_when_asked_to(scene, tmp_path):
    virtual, precious = scene.with_name("virtual.vrt"), scene.read_bytes()
    rasterio.shutil.copy(scene, virtual, driver="VRT")
    (folder := tmp_path / "maps").mkdir()
    behind = scene.rename(folder / "virtual.tif")
    virtual.write_text(virtual.read_text().replace(scene.name, "maps/virtual.tif"))
    for call, out in ((geohp.segment_file, behind), (geohp.segment_files, folder)):
        with pytest.raises(OutputError, match="the input is made of it"):
            call(virtual, out, classes=2, overwrite=True)
    assert behind.read_bytes() == precious


def test_classes_found_on_a_scene_look_like_it(scene, three_fields, tmp_path):
    result = geohp.segment_file(scene, tmp_path / "a.tif", classes=3, entropy=tmp_path / "e.tif", qml=True)
    assert (tmp_path / "e.qml").read_text() == ramp_qml(RAMPS["entropy"])
    with rasterio.open(tmp_path / "a.tif") as dataset:
        labels = dataset.read(1)
        colours = np.array([dataset.colormap(1)[entry.id][:3] for entry in result.classes])
    assert [tuple(colour) for colour in colours] == [entry.rgb for entry in result.classes]
    looks = np.array([three_fields[:, labels == number].mean(1) for number in range(3)])
    grey, green, brown = np.argsort(looks[:, 0] - looks[:, 2])
    assert colours[green].argmax() == 1
    assert colours[brown][0] > colours[brown][2] + 40
    assert np.ptp(colours[grey]) < np.ptp(colours[[green, brown]], axis=1).min()
    with pytest.raises(OutputError, match=r"e\.qml: exists already"):
        map_scene(scene, Products(tmp_path / "b.tif", entropy=tmp_path / "e.tiff", qml=True), MapOptions(classes=3))


def test_maps_in_a_folder_get_styles_too(scene, tmp_path):
    made = geohp.segment_files(scene, tmp_path / "maps", classes=3, products=["confidence", "qml"])
    names = [path.name for path in made.maps[0].files]
    assert names == ["scene.tif", "scene_confidence.tif", "scene.qml", "scene_confidence.qml"]
    assert all(path.is_file() for path in made.maps[0].files)
    assert geohp.segment_files(scene, tmp_path / "maps", classes=3, products=["confidence", "qml"]).maps[0].made_earlier


@pytest.mark.parametrize("world", [False, True])
def test_a_jpeg_its_map_and_its_polygons_line_up(three_fields, tmp_path, world):
    picture = tmp_path / "photo.jpg"
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(picture, "w", "JPEG", 200, 150, 3, dtype="uint8") as file:
        file.write(three_fields)
    if world:
        (tmp_path / "photo.jgw").write_text("2\n0\n0\n-2\n1001\n4999\n")
    geohp.segment_file(picture, tmp_path / "a.tif", classes=3, polygons=tmp_path / "a.gpkg")
    polygons = geopandas.read_file(tmp_path / "a.gpkg", layer="landcover")
    with rasterio.open(tmp_path / "a.tif") as labels:
        assert labels.crs is None
        assert labels.transform == (Affine(2, 0, 1000, 0, -2, 5000) if world else Affine.identity())
        shown = labels.transform if world else Affine.scale(1, -1)  # by QGIS
        shapes = zip(polygons.geometry, polygons["class_id"], strict=True)
        burnt = rasterio.features.rasterize(shapes, labels.shape, fill=255, transform=shown)
        np.testing.assert_array_equal(burnt, labels.read(1))
    assert polygons["area" if world else "area_px"].sum() == 150 * 200 * (4 if world else 1)


def test_no_geotiff_gets_the_name_of_another_format(scene, tmp_path):
    before = set(tmp_path.iterdir())
    for name, files in (("a.jpg", {}), ("a.gpkg", {}), ("a.tif", {"confidence": "c.png"}), ("a.tif", {"entropy": "e"})):
        files = {kind: tmp_path / file for kind, file in files.items()}
        with pytest.raises(OutputError, match=r"rasters are written to \.tif or \.tiff"):
            geohp.segment_file(scene, tmp_path / name, classes=2, **files)
    with pytest.raises(OutputError, match="rasters are written to"):
        geohp.recode_file(scene, tmp_path / "a.png", {})
    with pytest.raises(OutputError, match=r"models are written to \.safetensors"):
        geohp.recode_model_file(tmp_path, tmp_path / "a.pt", {})
    with pytest.raises(OutputError, match=r"models are written to \.safetensors"):
        geohp.import_checkpoint(scene, tmp_path / "a.pt")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("function", [geohp.segment, geohp.segment_file, geohp.segment_files])
def test_every_option_is_a_keyword_of_its_own(function):
    parameters = inspect.signature(function).parameters
    assert {"model", "classes", "backbone", "overlap", "window_px", "tta", "legend", "device"} <= set(parameters)
    assert parameters["overlap"].default == 0.25
    assert parameters["model"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert "overlap" in function.__doc__


def test_blocks_without_stored_pixels_are_not_even_blocks_of_the_map(tmp_path, monkeypatch, tall_model):
    monkeypatch.setattr("geohp.inference.engine.settings.BLOCK_PX", 448)
    data = np.zeros((3, 2688, 2688), np.uint8)
    data[:, :300, :300] = np.random.default_rng(0).integers(1, 255, (3, 300, 300))
    options = {"driver": "GTiff", "width": 2688, "height": 2688, "count": 3, "dtype": "uint8", "nodata": 0}
    place = {"crs": "EPSG:32633", "transform": from_origin(3e5, 5e6, 0.5, 0.5)}
    for name, sparse in (("sparse", True), ("dense", False)):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **options, **place, tiled=True, sparse_ok=sparse) as out:
            out.write(data[:, :512, :512] if sparse else data, window=Window(0, 0, 512, 512) if sparse else None)
    finished = []

    def progress(stage, done, total, detail=""):
        if stage == "segmenting":
            finished.append(total)

    totals = {}
    for name in ("sparse", "dense"):
        geohp.segment_file(tmp_path / f"{name}.tif", tmp_path / f"{name}_labels.tif", tall_model, progress=progress)
        totals[name] = finished[-1]
    maps = [rasterio.open(tmp_path / f"{name}_labels.tif").read() for name in ("sparse", "dense")]
    np.testing.assert_array_equal(*maps)
    assert (maps[0] != 255).sum() == 300 * 300
    assert totals["sparse"] < totals["dense"] / 4


def test_polygons_that_cannot_be_measured_are_refused_before_the_map_is_made(write_scene, three_fields, tmp_path):
    moon = (
        'PROJCS["moon",GEOGCS["moon",DATUM["moon",SPHEROID["moon",1737400,0]],PRIMEM["here",0],'
        'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],UNIT["metre",1]]'
    )
    beyond = write_scene(three_fields, crs=moon, transform=from_origin(5e5, 5e6, 1, 1))
    out = tmp_path / "map.tif"
    with pytest.raises(VectorError, match="does not reach"):
        geohp.segment_file(beyond, out, classes=3, polygons=tmp_path / "map.gpkg")
    site = write_scene(three_fields, crs='LOCAL_CS["site",UNIT["metre",1]]', transform=from_origin(0, 0, 1, 1))
    with pytest.raises(VectorError, match="GeoJSON is in"):
        geohp.segment_file(site, out, classes=3, polygons=tmp_path / "map.geojson")
    assert not [path for path in tmp_path.iterdir() if "map" in path.name]
    geohp.segment_file(beyond, out, classes=3)
    assert out.exists()
