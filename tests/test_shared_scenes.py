"""Real scenes and awkward rasters: a correct map, or one sentence and nothing left behind."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate
from typer.testing import CliRunner

import geohp
from geohp.cli import app
from geohp.errors import GeohpError
from geohp.inference.segment import choose_segmenter, segment_file

ODD = [
    "201404_13SED190110_201404_0x1500m_CL_1_mask",
    "RGBA.uint16",
    "all-nodata",
    "cog_gcps",
    "cogeo",
    "float_nan",
    "image_51px",
    "pix4d_alpha_nodata",
    "rotated",
]


@pytest.mark.parametrize("name", ODD)
def test_awkward_rasters_give_correct_maps(shared, tmp_path, name):
    scene = shared / "data" / "odd" / f"{name}.tif"
    segment_file(scene, tmp_path / "labels.tif", choose_segmenter(scene, classes=3))
    with rasterio.open(scene) as source, rasterio.open(tmp_path / "labels.tif") as dataset:
        assert dataset.shape == source.shape
        assert dataset.transform == source.transform
        assert dataset.crs == source.crs
        assert len(dataset.gcps[0]) == len(source.gcps[0])
        labels, valid = dataset.read(1), source.dataset_mask() != 0
    np.testing.assert_array_equal(labels != 255, valid)
    assert labels[valid].max(initial=0) < 3
    assert cog_validate(tmp_path / "labels.tif", quiet=True)[0]
    polygons = geohp.polygonize(tmp_path / "labels.tif")
    assert polygons["n_pixels"].sum() == valid.sum()
    assert polygons.is_valid.all()


def test_a_damaged_raster_is_one_sentence_and_leaves_nothing(shared, tmp_path):
    scene = shared / "data" / "odd" / "corrupt.tif"
    outcome = CliRunner().invoke(app, ["segment", str(scene), "--out", str(tmp_path / "labels.tif"), "--classes", "3"])
    assert isinstance(outcome.exception, GeohpError)
    assert "corrupt.tif cannot be read at row" in str(outcome.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["urban_0.25m_rdnew", "forest_0.1m_utm17"])
def test_polygon_areas_sum_to_the_valid_area(shared, tmp_path, name):
    scene = shared / "data" / "scenes" / f"{name}.tif"
    segment_file(scene, tmp_path / "labels.tif", choose_segmenter(scene, classes=5))
    polygons = geohp.polygonize(tmp_path / "labels.tif")
    geohp.write_polygons(polygons, tmp_path / "landcover.gpkg")
    with rasterio.open(scene) as source:
        pixel = abs(source.transform.determinant)
        valid = int((source.dataset_mask() != 0).sum())
        assert polygons.crs == source.crs
    read = gpd.read_file(tmp_path / "landcover.gpkg", layer="landcover")
    assert read["area_m2"].sum() == pytest.approx(valid * pixel, rel=1e-4)
    assert read.area.sum() == pytest.approx(valid * pixel, rel=1e-4)


@pytest.mark.slow
def test_the_shared_vision_transformer_maps_the_urban_scene(shared, tmp_path):
    weights = shared / "weights" / "vit_small_patch14_dinov2_9blocks_fp16.safetensors"
    scene = shared / "data" / "scenes" / "urban_0.25m_rdnew.tif"
    segmenter = choose_segmenter(scene, classes=5, backbone="vit_small_patch14_dinov2", weights=weights, block=5)
    segment_file(scene, tmp_path / "labels.tif", segmenter)
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        assert set(np.unique(dataset.read(1))) == {0, 1, 2, 3, 4}
