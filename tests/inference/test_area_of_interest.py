"""Maps of an area of interest: inside they are those of the whole scene, outside nothing is computed or said."""

import json
import shutil

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rioxarray
import shapely
from rasterio.features import geometry_mask

import geohp
from geohp.errors import ConfigError, DataError, OutputError
from geohp.inference.engine import forward, pipeline
from geohp.options import FitOptions


def area_file(path, scene, *boxes, crs="EPSG:4326"):
    """A file of boxes given in a scene's pixels (left, top, right, bottom)."""
    with rasterio.open(scene) as dataset:
        corners = [[dataset.transform * corner for corner in ((a, b), (c, b), (c, d), (a, d))] for a, b, c, d in boxes]
        frame = gpd.GeoDataFrame(geometry=[shapely.Polygon(ring) for ring in corners], crs=dataset.crs)
    frame.to_crs(crs).to_file(path)
    return path


def inside(scene, path):
    with rasterio.open(scene) as dataset:
        shapes = gpd.read_file(path).to_crs(dataset.crs).geometry
        return geometry_mask(shapes, dataset.shape, dataset.transform, invert=True)


def read(path, band=1):
    with rasterio.open(path) as dataset:
        return dataset.read(band)


@pytest.fixture(scope="module")
def two_fields(tall_scene, tmp_path_factory):
    return area_file(
        tmp_path_factory.mktemp("area") / "area.gpkg", tall_scene, (40, 700, 300, 900), (310, 1500, 400, 1530)
    )


@pytest.fixture
def windows(monkeypatch):
    """How many windows are scored."""
    counted = []
    scores = forward.Runner.__call__
    monkeypatch.setattr(
        pipeline.Runner, "__call__", lambda self, images: counted.append(len(images)) or scores(self, images)
    )
    return counted


def test_inside_the_map_is_that_of_the_whole_scene_outside_nothing_is_computed(
    tall_scene, tall_model, two_fields, tmp_path, windows
):
    options = {"model": tall_model, "window_px": 224}
    geohp.segment_file(tall_scene, tmp_path / "whole.tif", confidence=tmp_path / "sure.tif", **options)
    of_all = sum(windows)
    windows.clear()
    result = geohp.segment_file(
        tall_scene, tmp_path / "part.tif", confidence=tmp_path / "sure_part.tif", aoi=two_fields, **options
    )
    meant = inside(tall_scene, two_fields)
    assert 0 < meant.sum() < 60_000
    for whole, part in (("whole", "part"), ("sure", "sure_part")):
        expected = np.where(meant, read(tmp_path / f"{whole}.tif"), 255)
        np.testing.assert_array_equal(read(tmp_path / f"{part}.tif"), expected)
    assert sum(windows) < of_all / 4
    assert sum(each.pixels for each in result.areas) == meant.sum()
    with rasterio.open(tall_scene) as scene, rasterio.open(tmp_path / "part.tif") as labels:
        assert (labels.shape, labels.transform, labels.crs) == (scene.shape, scene.transform, scene.crs)


def test_a_refined_map_is_that_of_the_whole_scene_inside(write_scene, three_fields, tmp_path, monkeypatch):
    from geohp.inference.engine import settings

    small = settings.CrfWindows(window_px=64, overlap_px=16)
    monkeypatch.setattr(settings, "CrfWindows", lambda: small)
    scene = write_scene(three_fields)
    with geohp.open_scene(scene) as opened:
        segmenter = geohp.Segmenter.fit(opened, FitOptions(classes=3))
    options = {"model": segmenter, "window_px": 64, "refine": "crf"}
    area = area_file(tmp_path / "area.gpkg", scene, (50, 10, 90, 60))
    whole, part = geohp.segment(scene, **options), geohp.segment(scene, aoi=area, **options)
    np.testing.assert_array_equal(part, np.where(inside(scene, area), whole, 255))


def test_cropped_it_is_the_smallest_part_of_the_grid(tall_scene, tall_model, two_fields, tmp_path):
    options = {"model": tall_model, "window_px": 224, "aoi": two_fields}
    geohp.segment_file(tall_scene, tmp_path / "part.tif", **options)
    result = geohp.segment_file(
        tall_scene, tmp_path / "crop.tif", crop=True, polygons=tmp_path / "crop.gpkg", stac=True, **options
    )
    rows, cols = np.nonzero(read(tmp_path / "part.tif") != 255)
    hull = slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1)
    np.testing.assert_array_equal(read(tmp_path / "crop.tif"), read(tmp_path / "part.tif")[hull])
    with rasterio.open(tmp_path / "part.tif") as part, rasterio.open(tmp_path / "crop.tif") as crop:
        assert crop.transform == part.transform * part.transform.translation(hull[1].start, hull[0].start)
    ground = sum(each.area_ha for each in result.areas)
    assert gpd.read_file(tmp_path / "crop.gpkg").area_m2.sum() / 1e4 == pytest.approx(ground)
    assert json.loads((tmp_path / "crop.json").read_text())["properties"]["proj:shape"] == list(crop.shape)


def test_arrays_and_chunks_hold_the_same(tall_scene, tall_model, two_fields, tmp_path):
    options = {"model": tall_model, "window_px": 224, "aoi": two_fields, "crop": True}
    geohp.segment_file(tall_scene, tmp_path / "crop.tif", **options)
    eager = geohp.segment(tall_scene, **options)
    np.testing.assert_array_equal(eager, read(tmp_path / "crop.tif"))
    array = rioxarray.open_rasterio(tall_scene)
    read_chunks = []
    chunked = array.chunk({"y": 500, "x": 600})
    chunked.data = chunked.data.map_blocks(lambda part: read_chunks.append(part.shape) or part, dtype=array.dtype)
    lazy = geohp.segment(chunked, **options).compute(scheduler="synchronous")
    np.testing.assert_array_equal(lazy, eager)
    read_chunks.clear()
    north = area_file(tmp_path / "north.gpkg", tall_scene, (40, 100, 300, 120))
    geohp.segment(chunked, **{**options, "aoi": north}).compute(scheduler="synchronous")
    assert len([shape for shape in read_chunks if shape[1] == 500]) < 5  # what lies to the south is not asked for


def test_classes_are_found_inside(write_scene, three_fields, tmp_path):
    scene = write_scene(three_fields)
    west = area_file(tmp_path / "west.gpkg", scene, (0, 0, 66, 150), crs="EPSG:32633")
    labels = geohp.segment(scene, classes=2, aoi=west)
    # Of what lies elsewhere nothing is known: the one field is cut in two, where the whole scene has no more to spare.
    assert len(np.unique(labels.values[:, :66])) == 2
    assert (labels.values[:, 66:] == 255).all()
    assert len(np.unique(geohp.segment(scene, classes=3).values[10:-10, 10:50])) == 1


def test_another_area_is_another_job(tall_scene, tall_model, two_fields, tmp_path, monkeypatch):
    other = area_file(tmp_path / "other.gpkg", tall_scene, (40, 700, 300, 901), crs="EPSG:32633")
    options = {"model": tall_model, "window_px": 224}
    from geohp.inference import rasters

    plain = rasters.label_blocks

    def stopping(*args, **kwargs):
        yield next(iter(plain(*args, **kwargs)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rasters, "label_blocks", stopping)
        with pytest.raises(KeyboardInterrupt):
            geohp.segment_file(tall_scene, tmp_path / "part.tif", aoi=two_fields, **options)
    with pytest.raises(OutputError, match="unfinished work with another area of interest"):
        geohp.segment_file(tall_scene, tmp_path / "part.tif", aoi=other, **options)
    with pytest.raises(OutputError, match="unfinished work with another area of interest"):
        geohp.segment_file(tall_scene, tmp_path / "part.tif", **options)
    geohp.segment_file(tall_scene, tmp_path / "part.tif", aoi=two_fields, **options)
    geohp.segment_file(tall_scene, tmp_path / "again.tif", aoi=two_fields, **options)
    assert (tmp_path / "part.tif").read_bytes() == (tmp_path / "again.tif").read_bytes()


def test_of_many_scenes_those_elsewhere_get_no_map(write_scene, three_fields, tmp_path, caplog):
    west = write_scene(three_fields, "west.tif")
    write_scene(three_fields, "east.tif", transform=rasterio.Affine(0.5, 0, 380500, 0, -0.5, 5800000))
    (tmp_path / "broken.tif").write_text("none")
    area = area_file(tmp_path / "area.gpkg", west, (20, 20, 180, 100))
    with caplog.at_level("INFO", "geohp"):
        batch = geohp.segment_files(tmp_path / "*.tif", tmp_path / "maps", classes=3, aoi=area, crop=True)
    assert "1 of 3 scenes lie outside" in caplog.text
    assert [(result.scene.rsplit("/", 1)[-1], bool(result.files)) for result in batch.maps] == [
        ("broken.tif", False),
        ("west.tif", True),
    ]
    assert read(tmp_path / "maps" / "west.tif").shape == (80, 160)
    far = area_file(tmp_path / "far.gpkg", west, (9000, 20, 9100, 100))
    with pytest.raises(DataError, match=r"far.gpkg lies beside all 2 scenes"):
        geohp.segment_files([west, tmp_path / "east.tif"], tmp_path / "maps", classes=3, aoi=far)


def test_of_many_scenes_those_that_lie_nowhere_are_told(write_scene, three_fields, tmp_path):
    west, nowhere = write_scene(three_fields, "west.tif"), write_scene(three_fields, "nowhere.tif", crs=None)
    area = area_file(tmp_path / "area.gpkg", west, (20, 20, 180, 100))
    batch = geohp.segment_files([nowhere, west], tmp_path / "maps", classes=3, aoi=area)
    assert [bool(result.files) for result in batch.maps] == [False, True]
    assert "nowhere.tif has no coordinate reference system" in batch.maps[0].error
    with pytest.raises(DataError, match=r"nowhere\.tif has no coordinate reference system"):
        geohp.segment_files([nowhere], tmp_path / "others", classes=3, aoi=area)


def test_mistakes_are_told_before_anything_is_computed(write_scene, three_fields, tmp_path, monkeypatch):
    monkeypatch.setattr("geohp.inference.rasters.written_rasters", lambda *_: pytest.fail("work has begun"))
    scene = write_scene(three_fields)
    far = area_file(tmp_path / "far.gpkg", scene, (9000, 20, 9100, 100))
    with pytest.raises(DataError, match=r"far.gpkg lies beside .*scene.tif"):
        geohp.segment_file(scene, tmp_path / "a.tif", classes=2, aoi=far)
    with pytest.raises(ConfigError, match="crop=: is for an area of interest"):
        geohp.segment_file(scene, tmp_path / "a.tif", classes=2, crop=True)
    nowhere = write_scene(three_fields, "nowhere.tif", crs=None)
    with pytest.raises(DataError, match=r"nowhere.tif has no coordinate reference system"):
        geohp.segment_file(nowhere, tmp_path / "a.tif", classes=2, aoi=far)


def test_workers_share_an_area(tall_scene, tall_model, two_fields, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"model": tall_model, "window_px": 224, "aoi": two_fields, "crop": True}
    geohp.segment_file(tall_scene, tmp_path / "alone.tif", **options)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        geohp.segment_file(tall_scene, tmp_path / "shared.tif", client=client, **options)
    np.testing.assert_array_equal(read(tmp_path / "shared.tif"), read(tmp_path / "alone.tif"))


def test_the_area_is_not_replaced_even_when_asked_to(tall_scene, tmp_path, windows):
    area = area_file(tmp_path / "area.geojson", tall_scene, (40, 700, 300, 900))
    before = area.read_bytes()
    also = area.rename(tmp_path / "area.json")
    shutil.copy(also, area)
    for aoi, products in ((area, {"polygons": area}), (also, {"stac": True})):
        with pytest.raises(OutputError, match="is the input itself"):
            geohp.segment_file(tall_scene, tmp_path / "area.tif", classes=2, aoi=aoi, overwrite=True, **products)
    with pytest.raises(OutputError, match="is the input itself"):
        geohp.polygonize_file(tall_scene, area, aoi=area, overwrite=True)
    assert area.read_bytes() == before
    assert not windows
