"""Commands without a network and without a home, and that asking for a host is noticed."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

import pytest

from benchmarks.reliability import offline
from benchmarks.reliability.__main__ import attempt_named
from benchmarks.reliability.isolation import Limits, run_function


@pytest.fixture(autouse=True)
def _may_leave_the_network(tmp_path, apart):
    folder = tmp_path / "probe"
    folder.mkdir()
    if sys.platform != "linux" or apart(run_function, offline.without_network, folder, Limits()).code:
        pytest.skip("needs to be root on Linux")


def number(command: str, surroundings: int) -> int:
    return list(offline.COMMANDS).index(command) * len(offline.SURROUNDINGS) + surroundings


@pytest.mark.parametrize(
    "case",
    [number("segment", 0), number("train, features on disk", 3), number("cache", 3), number("change", 1)],
    ids=lambda case: offline.PART.case(case).name,
)
def test_a_command_does_what_it_always_does(apart, case):
    outcome = apart(attempt_named, "offline", case).outcome
    assert outcome.verdict == "right", outcome.detail


def test_asking_for_a_host_is_noticed(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()

    def ask():
        offline.without_network()
        with suppress(OSError):
            socket.create_connection(("weights.example", 443), timeout=1)

    outcome = offline.judge("segment", run_function(ask, folder, Limits()))
    assert (outcome.verdict, outcome.detail) == ("failed", "asked for weights.example")
