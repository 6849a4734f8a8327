"""What parts do on a card alone, run where there is none: others answer for torch.cuda, and no figure is looked at."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import kernel_report, part_compile, part_engine, part_loss
from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.record import Record
from benchmarks.gpu.sizes import TINY

ONLY_THERE = {
    "loss": "plain passes",
    "step": "places in the loop that wait for the card",
    "parity": "bfloat16: pixels of another class",
    "engine": f"{TINY.backbone}: waits for the card",
    "crf": "card busy",
    "memory": "encoder: images at once",
    "compile": f"{TINY.backbone}, forward: compiled",
    "kernels": "weights_kernel, Tuning(registers=None)",
    "job": "times faster than that",
}


class Event:
    """A mark in time."""

    def __init__(self, enable_timing=False):
        self.at = 0.0

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def query(self):
        return True

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)


class Pretended(Measurement):
    on_card = True


@pytest.fixture
def card(monkeypatch):
    pytest.importorskip("triton")
    answers = {
        "synchronize": None, "empty_cache": None, "reset_peak_memory_stats": None,
        "set_per_process_memory_fraction": None, "set_sync_debug_mode": None,
        "memory_reserved": 0, "memory_allocated": 0, "max_memory_allocated": 100,
        "get_device_capability": (9, 0), "current_device": 0,
        "get_device_properties": SimpleNamespace(total_memory=1000),
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(part_loss, "_compile", lambda tuning, sizes: None)
    monkeypatch.setattr(part_loss, "ProcessPoolExecutor", lambda workers, context: ThreadPoolExecutor(1))
    monkeypatch.setattr(part_compile.torch, "compile", lambda module: module)
    made = kernel_report.Compiled(200, 0, 65536, 16, 0, 0, 4, 2000)
    monkeypatch.setattr(kernel_report, "compile_kernel", lambda *_: made)


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("name", ONLY_THERE)
def test_a_part_runs_to_its_end(name, tmp_path):
    measurement = Pretended(Record(name, "a card", "code", tiny=False), tmp_path, "cpu", TINY)
    next(part for part in PARTS if part.name == name).load()(measurement)
    assert ONLY_THERE[name] in [figure.name for figure in measurement.record.figures]


@pytest.mark.usefixtures("card")
def test_tunings_are_tried_and_the_fastest_is_named(tmp_path):
    from geohp.methods.hp import kernels  # needs Triton, without which the card is not pretended either

    measurement = Pretended(Record("loss", "a card", "code", tiny=False), tmp_path, "cpu", TINY)
    part_loss._tune(measurement)
    figures = {figure.name: figure.value for figure in measurement.record.figures}
    tried = {name: value for name, value in figures.items() if name.startswith("Tuning(")}
    assert len(tried) == len(part_loss.tunings.candidates(kernels.TUNING))
    fastest = min(tried, key=tried.get)
    assert fastest.startswith(figures["fastest within 0.5 GB"])


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("default", ["TUNING", "OTHERS"])
def test_what_is_timed_is_the_candidate_on_any_card(default, tmp_path, monkeypatch):
    from geohp.methods.hp import kernels

    default, used = getattr(kernels, default), []
    monkeypatch.setattr(kernels, "tuning_of", lambda device: default)
    monkeypatch.setattr(part_loss.LossInputs, "run", lambda inputs: used.append(kernels.tuning_of(None)))
    part_loss._tune(Pretended(Record("loss", "a card", "code", tiny=False), tmp_path, "cpu", TINY))
    assert set(used) == set(part_loss.tunings.candidates(default))
    assert len(set(used)) > 10


@pytest.mark.usefixtures("card")
def test_forward_passes_stand_where_they_ran():
    timeline = part_engine.Timeline("cuda")
    assert torch.equal(timeline.forward(lambda images: images + 1, torch.zeros(2)), torch.ones(2))
    spans = timeline.finish()
    assert {span[0] for span in spans} == {"launching", "forward"}
    assert all(0 <= start <= end for _, start, end in spans)
