"""A quick slice of faults: kills, full disks, hostile places, changed files, servers that stall, races, signals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.reliability.__main__ import attempt_named
from benchmarks.reliability.parts import PARTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")

# By part the numbers of cases; the commands among them take a fraction of a second.
SLICE = {
    "kills": [10],
    "full-disk": [6, 40],
    "places": [8, 24],
    "changed-files": [3, 17],
    "stalls": [85, 103, 137],
    "races": [8],
    "signals": [6, 25],
}


@pytest.mark.parametrize(("part", "number"), [(part, number) for part, numbers in SLICE.items() for number in numbers])
def test_faults_do_no_harm(apart: Callable[..., Any], part: str, number: int) -> None:
    record = apart(attempt_named, part, number)
    assert record.outcome.verdict != "failed", f"{record.case}: {record.outcome.detail}"


def test_cases_are_the_same_whenever_they_are_asked_for() -> None:
    for part in PARTS:
        if part.name in {*SLICE, "workers"}:
            assert part.case(part.count - 1).name == part.case(part.count - 1).name
            assert part.figures([]) is not None
