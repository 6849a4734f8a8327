"""Commands that look at what there is."""

import gzip
import json
import subprocess
import sys

import numpy as np
from affine import Affine
from typer.testing import CliRunner

from geohp.cli.app import app


def run(*arguments, **environment):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def loads_torch(*arguments):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom geohp.cli.app import app\n"
        f"done = CliRunner().invoke(app, {list(map(str, arguments))})\n"
        "assert done.exit_code == 0, done.output\nprint('torch' in sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_info_of_a_scene_and_of_a_model_needs_no_torch(tall_scene, tall_model):
    assert not loads_torch("info", tall_scene)
    assert not loads_torch("info", tall_model)


def test_info_shows_scenes_and_models(tall_scene, tall_model):
    shown = run("info", tall_scene).output
    assert "600 x 2,500 px" in shown
    assert "EPSG:32633 (WGS 84 / UTM zone 33N)" in shown
    assert "3: uint8, blue, no nodata value" in shown
    report = json.loads(run("info", tall_model, "--json").output)
    assert report["command"] == "info"
    assert [entry["id"] for entry in report["classes"]] == [0, 1, 2, 3]
    assert report["details"]["sha256"] in run("info", tall_model).output


def test_config_prints_a_reference_a_packaged_file_or_a_schema(tmp_path):
    from geohp.config.loading import load_config, packaged_configs

    (tmp_path / "own.yaml").write_text(run("config").output)
    assert load_config(tmp_path / "own.yaml").train.batch_size == 16
    assert run("config", "potsdam3").output == packaged_configs()["potsdam3.yaml"].read_text()
    assert json.loads(run("config", "--schema").output)["title"] == "Config"
    assert "potsdam3.yaml" in json.loads(run("config", "--json").output)["details"]["packaged"]
    assert not loads_torch("config")


def test_config_names_what_there_is():
    assert "packaged ones are cityscapes27.yaml" in str(run("config", "potsdam4").exception)
    assert "leave the name out" in str(run("config", "potsdam3", "--schema").exception)


def test_cache_shows_and_clears(tmp_path):
    folder = tmp_path / "geohp" / "features" / ("a" * 32)
    folder.mkdir(parents=True)
    (folder / "00000.safetensors").write_bytes(bytes(3 * 2**20))
    place = {"XDG_CACHE_HOME": str(tmp_path)}
    assert f"3.0 MiB, 1 files in {folder.parent}" in run("cache", **place).output
    assert json.loads(run("cache", "--json", **place).output)["details"]["caches"][0]["size_bytes"] == 3 * 2**20
    assert "removed 1 sets of features (3.0 MiB)" in run("cache", "clear", **place).output
    assert not folder.exists()
    assert not loads_torch("cache")


def test_doctor_marks_what_can_be_mended(monkeypatch):
    from geohp.inspection import doctor
    from geohp.inspection.doctor import Check

    monkeypatch.setattr(doctor, "examine", lambda: iter([Check("torch", "2.9"), Check("disk", "full", "clear it")]))
    assert run("doctor").output.splitlines() == [
        "  torch  2.9",
        "! disk   full: clear it",
        "1 of these, marked with !, can be mended",
    ]
    assert json.loads(run("doctor", "--json").output)["details"]["sound"] is False


def test_nothing_is_left_beside_a_gzipped_raster(write_scene, tmp_path, monkeypatch):
    monkeypatch.delenv("CPL_VSIL_GZIP_WRITE_PROPERTIES", raising=False)
    folder = tmp_path / "gzipped"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 255, (3, 400, 400), dtype=np.uint8)
    (folder / "a.tif.gz").write_bytes(gzip.compress(write_scene(values).read_bytes()))
    labels = write_scene(np.zeros((1, 9, 9), np.uint8), "labels.tif")
    words = ["legend", labels, "--reference", f"/vsigzip/{folder}/a.tif.gz", "-o", tmp_path / "legend.yaml"]
    command = [sys.executable, "-m", "geohp", *map(str, words)]
    assert "3 bands" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert [path.name for path in folder.iterdir()] == ["a.tif.gz"]


def test_what_gdal_complains_of_in_threads_of_its_own_is_not_printed(write_scene, tmp_path, monkeypatch):
    monkeypatch.delenv("CPL_LOG", raising=False)
    one = np.zeros((1, 1, 1), np.uint8)
    vast = write_scene(one, "vast.tif", crs="EPSG:4326", transform=Affine(1e7, 0, 14, 0, -1e7, 50))
    labels = write_scene(
        np.ones((1, 9, 9), np.uint8), "labels.tif", crs="EPSG:32633", transform=Affine(1, 0, 5e5, 0, -1, 5e6)
    )
    words = ["legend", vast, "--reference", labels, "-o", tmp_path / "legend.yaml"]
    command = [sys.executable, "-m", "geohp", *map(str, words)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert all(line.startswith("geohp: ") for line in said.splitlines()), said
