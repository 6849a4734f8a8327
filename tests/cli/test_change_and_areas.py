"""Areas of interest and two dates, from the command line."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from geohp.cli.app import app


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(command):
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.output or result.exception
        return result.stdout

    return invoke


def test_polygons_are_cut_to_an_area(run, write_scene, tmp_path):
    write_scene(np.arange(4, dtype=np.uint8).repeat(10)[None, None].repeat(40, 1), "labels.tif")
    box = shapely.box(380002.3, 5799985.1, 380015.7, 5799998.2)
    for layer in ("west", "east"):
        gpd.GeoSeries([box], crs=32633).to_crs(4326).to_file(tmp_path / "area.gpkg", layer=layer)
    run("polygonize labels.tif -o cut.gpkg --aoi area.gpkg --aoi-layer east")
    polygons = gpd.read_file(tmp_path / "cut.gpkg", layer="landcover")
    assert polygons.area.sum() == pytest.approx(box.area, rel=1e-4)
    assert polygons.class_id.tolist() == [0, 1, 2, 3]


def test_a_map_is_cropped_to_an_area(run, write_scene, three_fields, tmp_path):
    write_scene(three_fields)
    gpd.GeoSeries([shapely.box(380010, 5799950, 380080, 5799990)], crs=32633).to_file(tmp_path / "area.gpkg")
    report = json.loads(run("segment scene.tif -o labels.tif --classes 3 --aoi area.gpkg --crop --json -q"))
    assert sum(area["area_ha"] for area in report["areas"]) == pytest.approx(0.28, rel=1e-3)  # 70 x 40 m
    with rasterio.open(tmp_path / "labels.tif") as labels:
        assert labels.shape == (80, 140)
        assert labels.bounds == pytest.approx((380010, 5799950, 380080, 5799990))
