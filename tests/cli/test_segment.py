"""``geohp segment``: every option, and what an interrupt or an error leaves and says."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geohp.cli.app import app
from geohp.inference import rasters as segmenting

PANELS = {
    "Outputs": "--out --out-dir --products --polygons --confidence --entropy --probabilities --stac --datetime --qml "
    "--overwrite",
    "Model and classes": "--model --classes --split-covers --backbone --weights --block --legend --seed",
    "Reading": "--bands --scaling --on-read-error",
    "How it is computed": "--pixel-size --window --overlap --tta --refine --device --restart",
    "Polygons": "--min-area --simplify --smooth --simplify-boundary",
    "Scaling out": "--dask --workers",
    "What is shown": "--quiet --verbose --json",
}


@pytest.fixture
def scene(tall_scene):
    return tall_scene


@pytest.fixture
def model(tall_model):
    return tall_model


@pytest.fixture
def small(write_scene, three_fields):
    return str(write_scene(three_fields))


def run(*arguments):
    return CliRunner().invoke(app, ["segment", *map(str, arguments)])


@pytest.mark.parametrize("columns", [80, 120])
def test_help_shows_every_option_in_its_panel(columns):
    shown = subprocess.run(
        [sys.executable, "-m", "geohp", "segment", "--help"],
        env={**os.environ, "COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown
    panels = [panel.split("╰")[0] for panel in shown.split("╭─ ")[1:]]
    found = {panel.split(" ─")[0]: {w for w in panel.split() if w.startswith("--")} for panel in panels}
    for name, options in PANELS.items():
        assert found[name] == set(options.split())


def test_all_that_can_be_written_of_a_scene(small, tmp_path):
    files = {name: tmp_path / f"{name}.tif" for name in ("confidence", "entropy", "probabilities")}
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    done = run(small, "-o", tmp_path / "a.tif", "--classes", 3, *options, "--polygons", tmp_path / "a.gpkg", "--stac")
    assert done.exit_code == 0, done.output
    for name in ("a.tif", "confidence.tif", "entropy.tif", "probabilities.tif", "a.gpkg", "a.json"):
        assert name in done.stdout
        assert (tmp_path / name).exists()
    with rasterio.open(files["probabilities"]) as dataset:
        assert dataset.count == 3
        assert dataset.descriptions == ("vegetation", "class 1", "class 2")
    with rasterio.open(files["entropy"]) as entropy, rasterio.open(files["confidence"]) as confidence:
        assert np.corrcoef(entropy.read(1).ravel(), confidence.read(1).ravel())[0, 1] < -0.5
    import geopandas

    assert geopandas.read_file(tmp_path / "a.gpkg", layer="landcover")["mean_confidence"].between(0, 1).all()


def test_flips_and_pixel_size_reach_the_model(small, tmp_path, monkeypatch):
    seen = []
    plain = segmenting.label_blocks
    monkeypatch.setattr(
        segmenting,
        "label_blocks",
        lambda scene, model, cut, *a, **k: seen.append(cut) or plain(scene, model, cut, *a, **k),
    )
    assert run(small, "-o", tmp_path / "a.tif", "--classes", 3).exit_code == 0
    assert (
        run(small, "-o", tmp_path / "b.tif", "--classes", 3, "--tta", "--pixel-size", 1, "--overlap", 0.5).exit_code
        == 0
    )
    assert [cut.tta for cut in seen] == [False, True]
    assert [round(cut.input_scale, 3) for cut in seen] == [1, 0.5]
    assert [cut.overlap_px / cut.window_px for cut in seen] == [0.25, 0.5]
    refused = run(small, "-o", tmp_path / "c.tif", "--classes", 3, "--stac", "--out", tmp_path / "a.tif")
    assert "exists already" in str(refused.exception)


def test_a_scene_without_data_has_no_classes(write_scene, tmp_path):
    scene = write_scene(np.zeros((3, 40, 40), np.uint8), nodata=0)
    done = run(scene, "-o", tmp_path / "a.tif", "--classes", 3)
    assert done.stdout == f"no data in {scene}, so no classes: wrote {tmp_path / 'a.tif'}\n"
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert (dataset.read(1) == 255).all()


def test_nothing_begins_where_an_item_is_in_the_way(small, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    refused = run(small, "-o", tmp_path / "a.tif", "--classes", 3, "--stac")
    assert "a.json: exists already" in str(refused.exception)
    assert not (tmp_path / "a.tif").exists()
    assert run(small, "-o", tmp_path / "a.tif", "--classes", 3, "--stac", "--overwrite").exit_code == 0
    assert (tmp_path / "a.json").read_text() != "{}"


def test_workers_are_asked_for_as_told(small, tmp_path, monkeypatch):
    from contextlib import contextmanager

    from geohp.inference.cluster import connection as distributed

    asked = []

    @contextmanager
    def connect(address=None, workers=None):
        asked.append((address, workers))
        yield None

    monkeypatch.setattr(distributed, "connect", connect)
    assert run(small, "-o", tmp_path / "a.tif", "--classes", 3, "--workers", 2).exit_code == 0
    assert run(small, "--out-dir", tmp_path / "maps", "--classes", 3, "--dask", "tcp://host:1").exit_code == 0
    assert asked == [(None, 2), ("tcp://host:1", None)]


# The command line, whose engine does something else in place of block number 2.
HALTING = """
import sys, time
from geohp.errors import SceneError
from geohp.inference import rasters
plain = rasters.label_blocks
def halting(*arguments, **keywords):
    for number, block in enumerate(plain(*arguments, **keywords)):
        if number == 2:
            {instead}
        yield block
rasters.label_blocks = halting
from geohp.cli.app import main
sys.argv = ["geohp", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_an_interrupt_says_what_is_kept_and_the_same_command_goes_on(scene, model, tmp_path, asked):
    out = tmp_path / "labels.tif"
    arguments = ["segment", str(scene), "--model", str(model), "--out", str(out)]
    code = HALTING.format(instead="time.sleep(300)")
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, asked, signal.SIG_DFL),  # which tests in the background ignore
    )  # fmt: skip
    journal = tmp_path / ".labels.tif.geohp" / "journal.jsonl"
    while running.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n")):
        time.sleep(0.01)
    running.send_signal(asked)
    _, said = running.communicate()
    assert running.returncode == 128 + asked, said
    assert "Traceback" not in said
    interrupted, kept = said.strip().splitlines()[-2:]
    assert interrupted == "geohp: interrupted"
    folder = tmp_path / ".labels.tif.geohp"
    assert kept.endswith(f"finished block(s) are kept in {folder}; the same command goes on from there")
    done = subprocess.run([sys.executable, "-m", "geohp", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_an_interrupt_before_anything_is_finished_says_so(small, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(segmenting, "label_blocks", interrupted)
    done = run(small, "-o", tmp_path / "a.tif", "--classes", 3)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "geohp: interrupted; nothing unfinished was left behind"
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_an_error_half_way_says_what_is_kept(scene, model, tmp_path):
    """A file that is damaged in its third block."""
    out = tmp_path / "labels.tif"
    code = HALTING.format(instead="raise SceneError('the third block cannot be read')")
    arguments = ["segment", str(scene), "--model", str(model), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    error, kept = done.stderr.strip().splitlines()[-2:]
    assert error == "geohp: error: the third block cannot be read"
    assert kept.startswith("geohp: 2 finished block(s) are kept in")


def test_an_interrupt_after_the_map_says_that_it_is_complete(small, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("geohp.vector.writing.polygonize_file", interrupted)
    done = run(small, "-o", tmp_path / "a.tif", "--classes", 3, "--polygons", tmp_path / "a.gpkg")
    assert done.exit_code == 130
    complete, kept = done.stderr.splitlines()[-2:]
    assert complete.endswith("a.tif: complete; only what was to be made of it is missing")
    assert kept.endswith("the same command goes on from there")
    assert rasterio.open(tmp_path / "a.tif").shape == (150, 200)


def test_an_interrupt_among_many_says_how_many_are_complete(small, tmp_path, monkeypatch):
    other = tmp_path / "other.tif"
    other.write_bytes((tmp_path / "scene.tif").read_bytes())
    plain = segmenting.label_blocks

    def second_interrupted(scene, *arguments, **keywords):
        if scene.path == str(other):
            raise KeyboardInterrupt
        return plain(scene, *arguments, **keywords)

    monkeypatch.setattr(segmenting, "label_blocks", second_interrupted)
    out = tmp_path / "maps"
    done = run(small, other, "--out-dir", out, "--classes", 3)
    assert done.exit_code == 130
    said = done.stderr.splitlines()
    assert said[-2:] == [
        "geohp: interrupted",
        f"geohp: 1 of 2 maps are complete in {out}; the same command goes on with the others",
    ]
    monkeypatch.setattr(segmenting, "label_blocks", plain)
    again = run(small, other, "--out-dir", out, "--classes", 3)
    assert "2 map(s)" in again.stdout
    assert "(1 of them made earlier)" in again.stdout
