"""Mutants: every kind of mistake is made, and a copy with one is tried by the tests that run its lines."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reliability import mutants
from benchmarks.reliability.mutation import mutants_of
from benchmarks.reliability.part import Outcome, Record

CODE = '''
import logging

LIMIT: int = 3


def near(a, b, *, margin=0.5):
    """Whether they are near."""
    logging.info("asked", a)
    if a == b:
        return True
    return abs(a - b) < margin and not -a > LIMIT


def part(values, mode="first"):
    if mode == "none":
        raise ValueError(f"no {mode}")
    values[0] = min(values[1], 9)
    return sorted(values[:2], key=str)
'''
TESTS = """
import pytest
from small.code import near, part


@pytest.fixture(scope="module")
def values():
    return part([5, 1, 2])


def test_near():
    assert near(1, 1.2)
    assert not near(1, 1.5)


def test_part(values):
    assert values == [1, 1]
"""


def changes(source: str) -> set[str]:
    return {mutant.after for mutant in mutants_of("a.py", source.encode())}


def test_every_kind_of_mistake_is_made_and_nothing_without_behaviour_is_touched() -> None:
    assert changes(CODE) == {
        "LIMIT: int = (4)",
        "def near(a, b, *, margin=(1.0)):",
        "if (a != b):",
        "return False",
        "return abs((a + b)) < margin and not -a > LIMIT",
        "return (abs(a - b) <= margin) and not -a > LIMIT",
        "return (abs(a - b) > margin) and not -a > LIMIT",
        "return (abs(a - b) < margin or not -a > LIMIT)",
        "return abs(a - b) < margin and (-a > LIMIT)",
        "return abs(a - b) < margin and not (-a >= LIMIT)",
        "return abs(a - b) < margin and not (-a < LIMIT)",
        "return abs(a - b) < margin and not (a) > LIMIT",
        "def part(values, mode='first_'):",
        "if (mode != 'none'):",
        "if mode == 'none_':",
        "pass",
        "values[0] = max(values[1], 9)",
        "values[0] = min(9, values[1])",
        "values[0] = min(values[1], (10))",
        "values[(1)] = min(values[1], 9)",
        "values[0] = min(values[(2)], 9)",
        "return sorted(values[:(3)], key=str)",
        "return sorted(values[:], key=str)",
        "return sorted(values[:2])",
    }


def test_a_mutant_keeps_its_name_and_place_when_other_lines_change() -> None:
    before = {mutant.name: mutant.order for mutant in mutants_of("a.py", CODE.encode())}
    after = {mutant.name: mutant.order for mutant in mutants_of("a.py", f"import os\n\n{CODE}".encode())}
    assert before == after
    assert len(set(before.values())) == len(before) > 20


def test_annotations_aliases_and_type_checks_stay() -> None:
    source = (
        "A = dict[str, int]\nB = int | None\nif TYPE_CHECKING:\n    pass\ndef f(a: list[1] = None) -> g(1, 2): ...\n"
    )
    assert changes(source) == set()


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mutants.Workshop:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = tmp_path / "repository"
    for folder in ("small", "tests"):
        (root / folder).mkdir(parents=True)
    (root / "small" / "__init__.py").touch()
    (root / "small" / "code.py").write_text(CODE)
    (root / "tests" / "test_both.py").write_text(TESTS)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    return mutants.Workshop(root, "small", ("small", "tests", "pyproject.toml"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_mutant_is_noticed_by_a_test_that_runs_it(workshop: mutants.Workshop, tmp_path: Path) -> None:
    pytest.importorskip("coverage")
    ends = {}
    for mutant in mutants_of("small/code.py", CODE.encode()):
        if mutant.after in ("if (a != b):", "LIMIT: int = (4)", "return sorted(values[:], key=str)", "pass"):
            outcome = workshop.attempt(mutant, tmp_path / "case")
            ends[mutant.before] = (outcome.verdict, outcome.detail.rpartition(":")[2], outcome.measures["tests"])
    assert ends == {
        "LIMIT: int = 3": ("failed", "survived", 2),
        "if a == b:": ("right", "test_near", 1),
        'raise ValueError(f"no {mode}")': ("failed", "no test runs it", 0),
        "values[0] = min(values[1], 9)": ("right", "test_part", 1),
        "return sorted(values[:2], key=str)": ("right", "test_part", 1),
    }
    assert (workshop.copy / "small" / "code.py").read_text() == CODE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_mistakes_in_geohp_are_noticed_and_none_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("coverage")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tests = ("tests/conftest.py", "tests/legend/test_recoded_labels.py")
    workshop = mutants.Workshop(mutants.ROOT, copied=("geohp", "configs", "pyproject.toml", *tests))
    file = "geohp/legend/recoded_labels.py"
    wrong = next(m for m in mutants_of(file, (mutants.ROOT / file).read_bytes()) if "+ least" in m.before)
    none = replace(wrong, replacement=(mutants.ROOT / file).read_bytes()[wrong.start : wrong.end].decode())
    assert workshop.attempt(none, tmp_path / "case").detail == "survived"
    outcome = workshop.attempt(wrong, tmp_path / "case")
    assert outcome.detail.startswith("FAILED tests/legend/test_recoded_labels.py::test_ranks")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_what_goes_on_without_end_is_noticed_and_tests_that_cannot_run_are_not_taken_for_it(
    workshop: mutants.Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("coverage")
    (mutant,) = (m for m in mutants_of("small/code.py", CODE.encode()) if m.after == "if (a != b):")
    endless = replace(mutant, replacement="all(1 for _ in iter(int, 1))")
    with monkeypatch.context() as patched:
        patched.setattr(mutants, "_LEAST_S", 1)
        assert workshop.attempt(endless, tmp_path / "case").detail == "hung"
    monkeypatch.setattr(mutants.Tests, "total", lambda *_: 0)
    (workshop.copy / "tests" / "test_broken.py").write_text("import nothing_of_this_name")
    for test, problem in (("both.py::test_that_is_not_there", "not found"), ("broken.py::test_any", "broken.py")):
        monkeypatch.setattr(mutants.Tests, "of", lambda *_, test=test: [[f"tests/test_{test}"]])
        with pytest.raises(RuntimeError, match=rf"they do not pass either: [\s\S]*{problem}"):
            workshop.attempt(mutant, tmp_path / "case")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_busy_machine_is_not_taken_for_a_slow_test(workshop: mutants.Workshop, tmp_path: Path) -> None:
    def profile() -> int:
        from hypothesis import settings

        settings.register_profile("theirs", max_examples=7)
        settings.load_profile("theirs")
        print(settings().deadline, settings().derandomize, [check.name for check in settings().suppress_health_check])
        return 0

    ended = workshop._fork(profile, tmp_path / "case", 60)
    assert ended.out == "None True ['too_slow']\n", ended.err


def test_figures_leave_out_what_no_test_can_notice() -> None:
    ends = [("right", "FAILED a"), ("failed", "survived"), ("right", "explained: the same"), ("right", "hung")]
    records = [Record("mutants", 6 * n, "", Outcome(verdict, detail)) for n, (verdict, detail) in enumerate(ends)]
    assert mutants.figures(records).startswith("67% noticed (methods/hp 2/3, inference/engine 0/0")
    assert mutants.figures(records).endswith("1 more cannot be, with reasons")


def test_what_is_explained_is_still_there() -> None:
    files = {name.partition(" ")[0] for name in mutants.explained()}
    names = {mutant.name for file in files for mutant in mutants_of(file, (mutants.ROOT / file).read_bytes())}
    assert set(mutants.explained()) <= names


def test_a_case_is_the_same_mutant_whenever_it_is_asked_for() -> None:
    first = [mutants.case(number).name for number in range(12)]
    mutants.package_mutants.cache_clear()
    assert first == [mutants.case(number).name for number in range(12)]
    assert [name.split()[0].rpartition("/")[0].removeprefix("geohp/") for name in first[:6]] == list(mutants.PACKAGES)


def test_defects_that_are_planted_by_hand_have_their_place() -> None:
    """tests/planted_defects.py, which is too slow for the suite."""
    spec = importlib.util.spec_from_file_location("planted_defects", mutants.ROOT / "tests" / "planted_defects.py")
    assert spec is not None
    assert spec.loader is not None
    planted = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = planted  # its dataclass asks for it
    spec.loader.exec_module(planted)
    sources = {defect.file: (mutants.ROOT / defect.file).read_text() for defect in planted.DEFECTS}
    assert [defect.name for defect in planted.DEFECTS if sources[defect.file].count(defect.right) != 1] == []
    tests = {file for defect in planted.DEFECTS for file in defect.tests.split()}
    assert all((mutants.ROOT / file).is_file() for file in tests)
