"""A run that is killed, changed or damaged half-way: the same command goes on to the same bytes, or says why not."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from affine import Affine

import geohp
from geohp.errors import OutputError, SceneError
from geohp.inference import rasters as segmenting
from geohp.inference.engine.settings import engine_settings
from geohp.inference.map_scene import segment_file
from geohp.options import WindowOptions


@pytest.fixture
def scene(tall_scene):
    return tall_scene


@pytest.fixture
def model(tall_model):
    return tall_model


def command(scene, model, out):
    return [sys.executable, "-m", "geohp", "segment", str(scene), "--model", str(model), "--out", str(out)]


def lines(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("after", [1, 2])
def test_killed_and_run_again_it_gives_the_same_bytes(scene, model, tmp_path, after):
    whole = tmp_path / "whole.tif"
    segment_file(scene, whole, geohp.Segmenter.load(model))
    out = tmp_path / "labels.tif"
    journal = tmp_path / ".labels.tif.geohp" / "journal.jsonl"
    running = subprocess.Popen(command(scene, model, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while running.poll() is None and lines(journal) < after:
        time.sleep(0.002)
    assert running.poll() is None, "it was done before it could be killed"
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not out.exists()
    assert lines(journal) >= after
    again = subprocess.run(command(scene, model, out), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif", "whole.tif"]


class EnoughError(Exception):
    """Stops a run."""


def interrupt(scene, segmenter, out, monkeypatch, **options):
    """A run stopped after its first block."""
    plain = segmenting.label_blocks

    def stopping(*arguments, **keywords):
        for number, block in enumerate(plain(*arguments, **keywords)):
            if number == 1:
                raise EnoughError
            yield block

    monkeypatch.setattr(segmenting, "label_blocks", stopping)
    with pytest.raises(EnoughError):
        segment_file(scene, out, segmenter, **options)
    monkeypatch.setattr(segmenting, "label_blocks", plain)


def test_finished_blocks_are_not_computed_again(scene, model, tmp_path, monkeypatch):
    out = tmp_path / "labels.tif"
    interrupt(scene, geohp.Segmenter.load(model), out, monkeypatch)
    told = []
    segment_file(scene, out, geohp.Segmenter.load(model), progress=lambda _, __, total, **___: told.append(total))
    full = []
    segment_file(
        scene,
        tmp_path / "b.tif",
        geohp.Segmenter.load(model),
        progress=lambda _, __, total, **___: full.append(total),
    )
    assert len(told) < len(full)
    assert out.read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_unfinished_work_of_another_kind_is_refused_until_begun_anew(scene, model, tmp_path, monkeypatch):
    copy, out = tmp_path / "scene.tif", tmp_path / "labels.tif"
    copy.write_bytes(scene.read_bytes())
    interrupt(copy, geohp.Segmenter.load(model), out, monkeypatch)

    def unfinished():
        return {path: path.read_bytes() for path in (tmp_path / ".labels.tif.geohp").iterdir() if path.name != "lock"}

    kept = unfinished()

    def refused(segmenter=None, **options):
        with pytest.raises(OutputError, match="restart=True") as error:
            segment_file(copy, out, segmenter or geohp.Segmenter.load(model), **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    other = geohp.Segmenter.load(model)
    other.model.probe.clusters.data[0] += 1
    assert "model" in refused(other)
    assert "settings" in refused(window_px=224)
    refused(confidence=tmp_path / "confidence.tif")
    os.utime(copy, (1, 1))
    assert "input" in refused()
    assert not out.exists()
    assert unfinished() == kept
    segment_file(copy, out, other, restart=True)
    segment_file(copy, tmp_path / "fresh.tif", other)
    assert out.read_bytes() == (tmp_path / "fresh.tif").read_bytes()


def test_what_cannot_be_read_is_left_out_where_asked_and_told(scene, model, tmp_path, monkeypatch):
    from geohp.raster.read.scene import Scene

    plain = Scene.read

    def damaged(self, row, col, height, width):
        if row < 700 and row + height > 600 and col < 300 and col + width > 290:
            raise SceneError(f"{self.path} cannot be read at row {row}")
        return plain(self, row, col, height, width)

    whole, out = tmp_path / "whole.tif", tmp_path / "labels.tif"
    segment_file(scene, whole, geohp.Segmenter.load(model))
    monkeypatch.setattr(Scene, "read", damaged)
    with pytest.raises(SceneError, match="cannot be read"):
        segment_file(scene, out, geohp.Segmenter.load(model))
    skipped = segment_file(scene, out, geohp.Segmenter.load(model), on_read_error="nodata", restart=True).skipped
    assert [(part.row, part.col, part.height, part.width) for part in skipped] == [(512, 256, 256, 256)]
    with rasterio.open(whole) as a, rasterio.open(out) as b:
        full, holed = a.read(1), b.read(1)
    hole = np.zeros(full.shape, dtype=bool)
    hole[512:768, 256:512] = True
    np.testing.assert_array_equal(holed == 255, hole)
    near = np.zeros(full.shape, dtype=bool)
    near[:1300] = True  # windows that see the hole may decide otherwise beside it
    np.testing.assert_array_equal(holed[~near], full[~near])


def test_the_model_sees_the_scene_at_its_own_pixel_size(scene, model, tmp_path):
    """A scene of half the pixel size, each pixel four times: the same map in four times the pixels."""
    from dataclasses import replace

    fine = tmp_path / "fine.tif"
    with rasterio.open(scene) as source:
        data = source.read()[:, :600, :600]
        profile = {**source.profile, "width": 1200, "height": 1200, "transform": source.transform * Affine.scale(0.5)}
        coarse_profile = {**source.profile, "width": 600, "height": 600}
    with rasterio.open(fine, "w", **profile) as out:
        out.write(data.repeat(2, 1).repeat(2, 2))
    coarse = tmp_path / "coarse.tif"
    with rasterio.open(coarse, "w", **coarse_profile) as out:
        out.write(data)
    segmenter = geohp.Segmenter.load(model)
    segmenter.model.card = replace(segmenter.model.card, pixel_size_m=0.5)
    maps = {}
    for name, path, options in (
        ("coarse", coarse, WindowOptions()),
        ("fine", fine, WindowOptions()),
        ("native", fine, WindowOptions(pixel_size_m=0.0)),
        ("asked", fine, WindowOptions(pixel_size_m=0.5)),
    ):
        with segmenter.open(path) as opened:
            assert engine_settings(segmenter.model, opened, options).input_scale == pytest.approx(
                0.5 if name in ("fine", "asked") else 1
            )
            maps[name] = segmenter.segment(opened, options).values
    wanted = maps["coarse"].repeat(2, 0).repeat(2, 1)
    assert maps["fine"].shape == (1200, 1200)
    # Borders between classes fall between pixels of the coarse map.
    assert (maps["fine"] == wanted).mean() > 0.97
    assert (maps["native"] == wanted).mean() < (maps["fine"] == wanted).mean()
    np.testing.assert_array_equal(maps["asked"], maps["fine"])


KILLED = """
import os, signal, sys
from geohp.cli.app import main
from geohp.vector import writing
writing.write_layer = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "geohp"
main()
"""


def test_killed_between_rasters_and_polygons_the_same_command_completes(scene, model, tmp_path):
    arguments = [str(scene), "--model", str(model), "--out", str(tmp_path / "labels.tif"), "--qml"]
    arguments += ["--polygons", str(tmp_path / "p.geojson")]
    killed = subprocess.run([sys.executable, "-c", KILLED, "segment", *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    labels = (tmp_path / "labels.tif").read_bytes()
    again = subprocess.run(
        [sys.executable, "-m", "geohp", "segment", *arguments], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "labels.tif").read_bytes() == labels
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.qml", "labels.tif", "p.geojson"]


@pytest.mark.parametrize("change", ["overwritten", "replaced", "removed"])
def test_a_scene_that_changes_while_it_is_mapped_gives_no_map_of_both(scene, model, tmp_path, monkeypatch, change):
    copy, out = tmp_path / "scene.tif", tmp_path / "labels.tif"
    copy.write_bytes(scene.read_bytes())
    plain = segmenting.label_blocks

    def changing(*arguments, **keywords):
        for number, block in enumerate(plain(*arguments, **keywords)):
            if number == 1:
                content = copy.read_bytes()
                if change != "overwritten":
                    copy.unlink()
                if change != "removed":
                    copy.write_bytes(content)
                    os.utime(copy, (5, 5))
            yield block

    monkeypatch.setattr(segmenting, "label_blocks", changing)
    with pytest.raises(SceneError, match="has changed while it was read"):
        segment_file(copy, out, geohp.Segmenter.load(model))
    assert not out.exists()
