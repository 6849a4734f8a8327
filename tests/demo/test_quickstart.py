"""The quick start at a small size in every run, and as users run it among the slow tests."""

import time

import geopandas as gpd
import pytest
import rasterio

from geohp.demo.quickstart import run_quickstart
from geohp.errors import OutputError

MADE = {"scene.tif", "truth.tif", "run", "labels.tif", "confidence.tif", "landcover.gpkg", "picture.png"}


def test_a_small_one_makes_everything(tmp_path):
    small = ["data.patches=24", "data.patch_px=64", "train.epochs=3", "method.pool_size=24", "method.warmup_steps=2"]
    stages = []
    result = run_quickstart(
        tmp_path / "demo #1: [x]", side_px=320, overrides=small, progress=lambda stage, *_, **__: stages.append(stage)
    )
    assert {p.name for p in result.folder.iterdir()} == MADE
    assert {"drawing", "surveying images", "computing features", "training", "segmenting"} <= set(stages)
    assert 0 < result.hp["miou"] <= 100
    assert 0 < result.rgb["miou"] <= 100
    assert f"{result.hp['miou']:.1f}" in result.report()
    with rasterio.open(result.folder / "scene.tif") as scene, rasterio.open(result.folder / "labels.tif") as labels:
        assert labels.transform == scene.transform
        assert labels.crs == scene.crs
        assert ((labels.read(1) == 255) == (scene.dataset_mask() == 0)).all()
    assert len(gpd.read_file(result.folder / "landcover.gpkg", layer="landcover")) == result.polygons
    with pytest.raises(OutputError, match="exists already"):
        run_quickstart(tmp_path / "demo #1: [x]")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_real_one_beats_k_means_on_plain_rgb(tmp_path, seed):
    started = time.monotonic()
    result = run_quickstart(tmp_path / "demo #1: [x]", seed=seed)
    assert result.hp["miou"] > result.rgb["miou"] + 3
    assert result.hp["accuracy"] > result.rgb["accuracy"]
    assert time.monotonic() - started < 600
