"""A quick slice of faults: kills, full disks, hostile places, changed files, servers that stall, races, signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.parts import PARTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")

# By part the numbers of cases; the commands among them take a fraction of a second.
SLICE = {
    "kills": [8],
    "full-disk": [6, 40],
    "places": [8, 24],
    "changed-files": [3, 17],
    "stalls": [85, 103],
    "races": [9],
    "signals": [6, 25],
}
_SCRIPT = """
import json, sys
from benchmarks.reliability.__main__ import attempt
from benchmarks.reliability.isolation import import_everything
from benchmarks.reliability.parts import PARTS
import_everything()
parts = {part.name: part for part in PARTS}
for name, numbers in json.loads(sys.argv[1]).items():
    for number in numbers:
        record = attempt(parts[name], number)
        print(json.dumps([name, record.case, record.outcome.verdict, record.outcome.detail]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes() -> list[list[str]]:
    """Part, case, verdict and detail; in a process of its own, which forks must find without threads."""
    command = [sys.executable, "-c", _SCRIPT, json.dumps(SLICE)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("part", SLICE)
def test_faults_do_no_harm(outcomes: list[list[str]], part: str) -> None:
    mine = [outcome for outcome in outcomes if outcome[0] == part]
    assert len(mine) == len(SLICE[part])
    assert [outcome for outcome in mine if outcome[2] == "failed"] == []


def test_cases_are_the_same_whenever_they_are_asked_for() -> None:
    for part in PARTS:
        if part.name in {*SLICE, "workers"}:
            assert part.case(part.count - 1).name == part.case(part.count - 1).name
            assert part.figures([]) is not None
