"""Which tests run which lines, and how long they take. Needs pytest and coverage."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from coverage import Coverage

Runs = dict[str, dict[int, list[str]]]
"""For each file the ids of the tests that run each of its lines."""


def run_tests(arguments: Sequence[str], root: Path, package: str) -> tuple[dict[str, float], Runs]:
    """Run pytest; gives the seconds of each test that passed, and what ran of a package.

    What a fixture runs that several tests share is run by all of them.
    """
    lines = Coverage(data_file=None, config_file=False, include=[f"{root}/{package}/*"])
    watch = _Watch(lines)
    lines.start()
    end = pytest.main(list(arguments), plugins=[watch])
    lines.stop()
    if end not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest {' '.join(arguments)} ended with {end}")
    runs: Runs = {}
    for file in lines.get_data().measured_files():
        runs[str(Path(file).relative_to(root))] = {
            line: sorted({test for name in names for test in watch.users.get(name, [name])} & watch.seconds.keys())
            for line, names in lines.get_data().contexts_by_lineno(file).items()
        }
    return watch.seconds, runs


class _Watch:
    """A plugin of pytest that tells coverage what runs: a test, or a fixture that several tests share."""

    def __init__(self, lines: Coverage) -> None:
        self._lines = lines
        self._start = 0.0
        self.seconds: dict[str, float] = {}
        self.users: dict[str, list[str]] = defaultdict(list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Generator[None, object, object]:
        for name in item.fixturenames:
            self.users[f"fixture {name}"].append(item.nodeid)
        self._lines.switch_context(item.nodeid)
        self._start = _processor_s()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        self._lines.switch_context(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self._lines.switch_context(request._pyfuncitem.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = _processor_s() - self._start


def _processor_s() -> float:
    """Seconds of processors that this process and those it waited for have taken: what else runs does not count."""
    return sum(os.times()[:4])
