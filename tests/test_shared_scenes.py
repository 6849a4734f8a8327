"""Real scenes and awkward rasters: a correct map, or one sentence and nothing left behind."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rio_cogeo import cog_validate
from typer.testing import CliRunner

import geohp
from geohp.cli.app import app
from geohp.errors import GeohpError
from geohp.inference.map_options import ModelOptions
from geohp.inference.map_scene import segment_file
from geohp.inference.segment import resolve_segmenter
from geohp.raster.grid import Grid
from geohp.vector.writing import polygonize_file

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
    segment_file(scene, tmp_path / "labels.tif", resolve_segmenter(scene, ModelOptions(classes=3)))
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


@pytest.mark.parametrize("name", ["urban_0.25m_rdnew", "forest_0.1m_utm17", "river_city_0.1m_black_border"])
def test_polygons_of_real_scenes(shared, tmp_path, name):
    scene = shared / "data" / "scenes" / f"{name}.tif"
    labels, confidence, out = tmp_path / "labels.tif", tmp_path / "confidence.tif", tmp_path / "landcover.gpkg"
    segment_file(scene, labels, resolve_segmenter(scene, ModelOptions(classes=5)), confidence=confidence)
    with rasterio.open(scene) as source:
        pixel = abs(source.transform.determinant)
        valid = int((source.dataset_mask() != 0).sum())
        crs = source.crs
        true_pixel = Grid.of(source).pixel_size_m ** 2  # which in Web Mercator is another
    polygonize_file(labels, out, confidence=confidence, block_px=512)
    exact = gpd.read_file(out, layer="landcover")
    assert exact.crs == crs
    rounding = 1e-6 if abs(true_pixel / pixel - 1) < 0.01 else 1e-3  # a plane's own metres are taken as they are
    assert exact["area_m2"].sum() == pytest.approx(valid * (pixel if rounding == 1e-6 else true_pixel), rel=rounding)
    assert exact.area.sum() == pytest.approx(valid * pixel, rel=1e-6)
    assert exact["n_pixels"].sum() == valid
    assert (exact["min_confidence"] <= exact["mean_confidence"]).all()
    for shape in ({"simplify_m": 2 * pixel**0.5}, {"simplify_m": 2 * pixel**0.5, "smooth": 2}):
        polygonize_file(labels, out, min_area_m2=100 * pixel, block_px=512, overwrite=True, **shape)
        simple = gpd.read_file(out, layer="landcover")
        assert len(simple) < len(exact)
        assert simple.is_valid.all()
        assert shapely.coverage_is_valid(simple.geometry.array)
        assert simple["n_pixels"].sum() == valid


@pytest.mark.slow
@pytest.mark.cheap
def test_the_shared_vision_transformer_maps_the_urban_scene(shared, tmp_path):
    weights = shared / "weights" / "vit_small_patch14_dinov2_9blocks_fp16.safetensors"
    scene = shared / "data" / "scenes" / "urban_0.25m_rdnew.tif"
    segmenter = resolve_segmenter(
        scene, ModelOptions(classes=5, backbone="vit_small_patch14_dinov2", weights=weights, block=5)
    )
    segment_file(scene, tmp_path / "labels.tif", segmenter)
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        assert set(np.unique(dataset.read(1))) == {0, 1, 2, 3, 4}
