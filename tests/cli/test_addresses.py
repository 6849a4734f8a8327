"""Label maps and confidences may be what GDAL opens by another name than a path, as scenes may."""

import zipfile

import geopandas as gpd
import numpy as np
import pytest
import yaml
from shapely import box
from typer.testing import CliRunner

from geohp.cli.app import app
from geohp.errors import ConfigError


@pytest.fixture
def archived(write_scene, tmp_path):
    """Write an array as a GeoTIFF in an archive; gives GDAL's name of it, in which two slashes follow each other."""

    def write(data, name, **options):
        path = write_scene(data[None], name, **options)
        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
            archive.write(path, name)
        path.unlink()
        return f"/vsizip/{path.with_suffix('.zip')}/{name}"

    return write


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_maps_in_an_archive_are_polygonized_named_compared_and_shown(archived, tmp_path):
    data = np.repeat(np.array([[0, 1]], np.uint8), 20, 1).repeat(20, 0)
    labels = archived(data, "labels.tif", nodata=255)
    sure = archived(np.full(data.shape, 0.75, np.float32), "sure.tif")
    known, legend = tmp_path / "known.gpkg", tmp_path / "legend.yaml"
    halves = [box(380000, 5799990, 380010, 5800000), box(380010, 5799990, 380020, 5800000)]
    gpd.GeoDataFrame({"cover": ["meadow", "rock"]}, geometry=halves, crs=32633).to_file(known)

    run("polygonize", labels, "-o", tmp_path / "landcover.gpkg", "--confidence", sure)
    assert gpd.read_file(tmp_path / "landcover.gpkg", layer="landcover")["mean_confidence"].tolist() == [0.75, 0.75]
    run("legend", labels, "--reference", known, "-o", legend)
    assert [entry["name"] for entry in yaml.safe_load(legend.read_text())["classes"]] == ["meadow", "rock"]
    run("recode", labels, "--legend", legend, "-o", tmp_path / "named.tif")
    changed = archived(1 - data, "changed.tif", nodata=255)
    options = ("--labels", "--confidence", sure, sure, "--min-confidence", 0.5, "-o", tmp_path / "change.tif")
    run("change", labels, changed, *options)
    run("view", labels, "--scene", tmp_path / "named.tif", "--confidence", sure, "-o", tmp_path / "page.html")
    with pytest.raises(ConfigError, match="an address has no place for its page; give out="):
        run("view", labels, "--scene", tmp_path / "named.tif")
