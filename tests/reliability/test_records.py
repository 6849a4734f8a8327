"""The reliability command: parts take turns, what was tried stays tried, the table says what was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.reliability import journal, table
from benchmarks.reliability.__main__ import case_numbers, run
from benchmarks.reliability.isolation import Limits, run_function
from benchmarks.reliability.part import Case, Outcome, Part, case_of_kinds
from benchmarks.reliability.parts import PARTS

ROOT = Path(__file__).resolve().parents[2]


def part(tried: list[int], count: int = 3) -> Part:
    def case(number: int) -> Case:
        def attack(folder: Path) -> Outcome:
            tried.append(number)
            (folder / "left.txt").write_text("behind")
            if number == 1:
                raise ValueError("by itself")
            return Outcome("right", measures={"seconds": 1.0})

        return Case(f"case {number}", attack)

    return Part("made", "Made up", case, count, lambda records: f"{len(records)} of them")


def test_what_was_tried_is_not_tried_again_but_for_what_failed(tmp_path: Path) -> None:
    tried: list[int] = []
    path = tmp_path / "records.jsonl"
    for again in (False, False, True):
        run([part(tried)], path, time.time() + 60, again=again)
    assert tried == [0, 1, 2, 1]
    with path.open("a") as file:
        file.write('{"part": "made", "num')  # killed as it wrote
    records = journal.read(path)
    assert [r.outcome.verdict for r in records] == ["right", "failed", "right"]
    assert "by itself" in records[1].outcome.detail
    assert "| Made up | 3 | 2 | 0 | 1 | 0 | 3 of them |" in table.markdown([part([])], records)


def test_no_case_begins_after_the_time_is_over(tmp_path: Path) -> None:
    tried: list[int] = []
    run([part(tried)], tmp_path / "records.jsonl", time.time(), again=False)
    assert tried == []


def test_a_command_is_stopped_at_its_limits(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    slow = run_function(lambda: time.sleep(60), folder, Limits(seconds=0.2))
    assert (slow.broke, slow.code) == ("time", -9)

    def greedy() -> None:
        held = bytearray(300 << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(60)

    assert run_function(greedy, folder, Limits(seconds=30, memory_mb=100)).broke == "memory"


def test_a_command_ends_with_its_words_and_its_code(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()

    def refuse() -> None:
        print("geohp: no", file=__import__("sys").stderr)
        raise SystemExit(2)

    assert run_function(refuse, folder, Limits()).refused
    broken = run_function(lambda: 1 / 0, folder, Limits())
    assert broken.traceback
    assert not broken.refused
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("defect", table.read_defects(), ids=lambda defect: defect.test)
def test_every_defect_found_has_a_test_that_is_there(defect: table.Defect) -> None:
    file, _, name = defect.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_parts_have_names_of_their_own() -> None:
    names = [part.name for part in PARTS]
    assert len(set(names)) == len(names)
    assert {defect.part for defect in table.read_defects()} <= set(names)


def test_cases_beyond_the_count_are_drawn_where_a_part_has_them_and_stay_out_of_the_table(tmp_path: Path) -> None:
    tried: list[int] = []
    path, cases = tmp_path / "records.jsonl", case_numbers("2-4,7")
    assert cases == {2, 3, 4, 7}
    parts = [replace(part(tried), endless=True), replace(part(tried), name="other")]
    run(parts, path, time.time() + 60, again=False, cases=cases)
    assert tried == [2, 3, 4, 7, 2]
    records = journal.read(path)
    assert "| Made up | 1 | 1 | 0 | 0 | 0 | 1 of them |" in table.markdown(parts[:1], records)
    assert table.fresh_cases(parts, records) == ["made, 3 fresh: 3 right, 0 refused, 0 failed; 3 of them"]


@pytest.mark.parametrize("part", [part for part in PARTS if part.endless], ids=lambda part: part.name)
def test_a_fresh_case_is_the_same_whenever_it_is_asked_for(part: Part) -> None:
    numbers = range(part.count, part.count + 60)
    names = [part.case(number).name for number in numbers]
    assert names == [part.case(number).name for number in numbers]


def test_kinds_that_are_drawn_take_turns_beyond_all_cases() -> None:
    def kind(name: str) -> Callable[[int], Case]:
        return lambda number: Case(f"{name} {number}", lambda folder: Outcome("right"))

    kinds = ((2, kind("listed")), (3, kind("drawn")))
    case = partial(case_of_kinds, kinds, ((3, kind("drawn")), (0, kind("new"))))
    names = [case(number).name for number in range(9)]
    assert names[:5] == ["listed 0", "listed 1", "drawn 0", "drawn 1", "drawn 2"]
    assert names[5:] == ["drawn 3", "new 0", "drawn 4", "new 1"]
