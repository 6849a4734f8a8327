"""The dry run: every part on a few images, on the CPU, and what the runner does with parts that fail or are slow."""

import importlib.util
import json
import math
import subprocess
import sys

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import record as records
from benchmarks.gpu import table
from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.record import Figure, Record
from benchmarks.gpu.sizes import FULL, TINY
from geohp.inference.engine import batching, pipeline

ABSENT = [
    "pydantic",
    "affine",
    "rasterio",
    "rioxarray",
    "geopandas",
    "shapely",
    "pyproj",
    "pyogrio",
    "dask",
    "torchgeo",
]


def measured(name, folder):
    """The record of a part's dry run, read back."""
    part = next(part for part in PARTS if part.name == name)
    measurement = Measurement(Record(name, "a CPU", "code", tiny=True), folder, "cpu", TINY)
    part.load()(measurement)
    measurement.finish()
    record = records.read(folder, name)
    assert record == measurement.record
    missed = [figure.name for figure in record.figures if figure.met is False]
    assert not missed, ", ".join(missed)
    return {figure.name: figure.value for figure in record.figures}


def test_the_loss_is_held_against_float64(tmp_path):
    figures = measured("loss", tmp_path)
    errors = [value for name, value in figures.items() if name.startswith("error of")]
    assert len(errors) == 3
    assert max(errors) < 1e-3
    assert figures["over the floor, float32"] > 0
    profile = json.loads((tmp_path / "loss.profile.json").read_text())
    assert profile["kernels"][0]["ms"] > 0
    assert profile["timeline"]


def test_a_loss_that_is_wrong_misses_its_bound(tmp_path, monkeypatch):
    from benchmarks.gpu.problems import LossInputs

    right = LossInputs.run

    def wrong(self):
        loss, first, second = right(self)
        return loss, first, second * (1.02 if self.views[0].dtype.itemsize < 8 else 1)

    monkeypatch.setattr(LossInputs, "run", wrong)
    with pytest.raises(AssertionError, match="gradient of z_mix"):
        measured("loss", tmp_path)


def test_the_loop_is_timed_and_watched(tmp_path):
    figures = measured("step", tmp_path)
    assert figures["features kept in"] == "memory"
    assert figures["step over the floor"] > 0
    assert (tmp_path / "step.profile.json").exists()


def test_the_job_is_that_of_potsdam(tmp_path):
    assert (FULL.set_images, FULL.images, FULL.epochs, FULL.backbone) == (4545, 64, 10, "vit_base_patch8_224")
    figures = measured("job", tmp_path)
    parts = figures["features of all images, once"] + figures["training on kept features"]
    assert figures["whole job"] == pytest.approx(parts)


def test_the_engine_is_held_against_bare_passes(tmp_path):
    figures = measured("engine", tmp_path)
    assert figures[f"{TINY.backbone}: engine over bare"] > 0
    spans = json.loads((tmp_path / f"engine.{TINY.backbone}.timeline.json").read_text())["spans"]
    lanes = {"reading", "batching", "forward", "blending", "labels", "fetching", "writing"}  # a CPU is not waited for
    assert {lane for lane, _, _ in spans} == lanes
    assert all(0 <= start <= end for _, start, end in spans)
    assert (tmp_path / f"engine.{TINY.backbone}.png").stat().st_size > 1000
    if importlib.util.find_spec("rasterio"):
        assert figures[f"{TINY.backbone} from a GeoTIFF: engine over bare"] > 0
        assert (tmp_path / f"engine.{TINY.backbone}.geotiff.png").exists()


def test_what_a_gpu_would_wait_for_stands_in_the_engines_timeline(tmp_path, monkeypatch):
    for module in (batching, pipeline):
        monkeypatch.setattr(module, "is_asynchronous", lambda device: True)
    measured("engine", tmp_path)
    spans = json.loads((tmp_path / f"engine.{TINY.backbone}.timeline.json").read_text())["spans"]
    assert "no batch" in {lane for lane, _, _ in spans}


@pytest.mark.parametrize("name", ["parity", "crf", "memory", "ddp", "compile"])
def test_the_other_parts_keep_their_bounds(name, tmp_path):
    assert len(measured(name, tmp_path)) >= 3


def test_kernels_are_reported_without_a_card(tmp_path, monkeypatch):
    pytest.importorskip("triton")
    from benchmarks.gpu import kernel_report

    made = kernel_report.Compiled(200, 0, 65536, 16, 0, 0, 4, 2000)
    monkeypatch.setattr(kernel_report, "compile_kernel", lambda *_: made)
    assert measured("kernels", tmp_path)["sums_kernel: registers of a thread"] == 200
    monkeypatch.setattr(
        kernel_report, "compile_kernel", lambda *_: kernel_report.Compiled(255, 900, 65536, 0, 64, 9, 4, 1)
    )
    with pytest.raises(AssertionError, match=r"bytes spilled.*HMMA"):
        measured("kernels", tmp_path)


def test_no_part_needs_what_reads_rasters_or_configurations():
    modules = ", ".join(f"benchmarks.gpu.part_{part.name}" for part in PARTS)
    code = f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\nimport benchmarks.gpu.__main__, {modules}"
    done = subprocess.run([sys.executable, "-c", code], cwd=records.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]


def options(folder, **others):
    return command.argparse.Namespace(out=folder, device="cpu", minutes=5, again=False, **others)


def test_a_part_that_has_finished_is_kept_and_a_failing_one_stops_nobody(tmp_path, capsys, monkeypatch):
    missing = Part("missing", 60, "a part that fails")
    crf = next(part for part in PARTS if part.name == "crf")
    assert command.measure([missing, crf], options(tmp_path)) == 1
    assert records.read(tmp_path, "missing").error == "exit code 1, see missing.log"
    first = records.read(tmp_path, "crf")
    assert first.finished
    assert "labels as on the CPU" in (tmp_path / "table.txt").read_text()
    monkeypatch.setattr(command, "run", lambda part, *_: pytest.fail(f"{part.name} again"))
    assert command.measure([crf], options(tmp_path)) == 0
    assert "crf: measured before" in capsys.readouterr().out
    # Of other code it counts for nothing.
    records.write(tmp_path, Record(**{**first.__dict__, "code": "older"}))
    with pytest.raises(pytest.fail.Exception, match="crf again"):
        command.measure([crf], options(tmp_path))


def test_a_part_that_takes_too_long_is_stopped_and_keeps_its_figures(tmp_path):
    command.run(Part("crf", 60, ""), options(tmp_path), 0.2)
    record = records.read(tmp_path, "crf")
    assert not record.finished
    assert record.error == "stopped after 0 s"


def test_bounds():
    assert Figure("a", 1.4, "x", most=1.5).met is True
    assert Figure("a", 1.6, "x", most=1.5).met is False
    assert Figure("a", 84, least=85).met is False
    assert Figure("a", math.nan, most=1).met is False
    assert Figure("a", "x:3", most=1).met is False
    assert Figure("a", 1).met is None


def test_the_table_says_what_was_missed_and_what_did_not_finish():
    record = Record("loss", "a card", "c", tiny=False, figures=[Figure("time", 2.0, "x", most=1.5)], error="broke")
    text = table.text([record])
    assert "time" in text
    assert "at most 1.5" in text
    assert "MISSED" in text
    assert "loss: did not finish: broke" in text
    assert text.startswith("a card")


def test_a_damaged_record_is_none(tmp_path):
    (tmp_path / "loss.json").write_text('{"part": "loss"')
    assert records.read(tmp_path, "loss") is None
