"""Work over and over in one process: what is measured, and a short run of it."""

from __future__ import annotations

import shutil
import tempfile

from benchmarks.reliability import soak
from benchmarks.reliability.part import Outcome, Record
from benchmarks.reliability.usage import slope, usage


def minute(number: int, process: int, trimmed_mb: float) -> Record:
    measures = {"memory_mb": trimmed_mb + 50, "trimmed_mb": trimmed_mb, "handles": 9, "threads": 3, "temporary": 0}
    measures |= {"rounds": 5, "process": process, "moment_s": 1.8e9 + 60 * number}
    return Record("soak", number, f"minute {number}", Outcome("right", measures=measures))


def test_growth_is_told_from_noise():
    x = list(range(100))
    noise = [0.5 * (-1) ** i for i in x]
    assert not slope(x, noise).grows
    assert slope(x, [0.1 * i + n for i, n in zip(x, noise, strict=True)]).grows
    assert not slope(x, [5.0] * 100).grows


def test_the_figures_are_of_the_longest_process_without_its_beginning(tmp_path):
    short = [minute(n, 7, 5000.0 * n) for n in range(5)]
    long = [minute(n, 8, 400.0 if n < 30 else 1000.0 + 2 * n) for n in range(5, 95)]
    lost = [Record("soak", 99, "minute 99", Outcome("failed", "the process was lost"))]
    text = soak.PART.figures([*short, *long, *lost])
    assert "450 rounds in 1.5 h" in text
    assert "trimmed +120.00 ± 0.00" in text  # 2 MiB a minute
    assert "handles +0.00 ± 0.00" in text
    soak.write_table([*short, *long], tmp_path / "soak.csv")
    assert len((tmp_path / "soak.csv").read_text().splitlines()) == 91
    assert soak.draw(long).startswith(b"\x89PNG")


def test_a_round_leaves_nothing_behind_and_gives_the_same_bytes_again(tmp_path, monkeypatch):
    temporary, work = tmp_path / "temporary", tmp_path / "round"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    digests, held = [], []
    for _ in range(2):
        work.mkdir()
        digests.append(soak.training_and_maps(1, work))
        shutil.rmtree(work)
        held.append(usage())
    assert digests[0] == digests[1]
    assert held[1].handles <= held[0].handles
    assert held[1].threads <= held[0].threads
    assert held[1].temporary == held[0].temporary  # a folder of torch's
