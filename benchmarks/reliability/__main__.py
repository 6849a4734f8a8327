"""Try to break geohp, for as many hours as are given, and write what was found into docs/reliability.md.

    python -m benchmarks.reliability --hours 3
    python -m benchmarks.reliability --only rasters,kills --hours 0.5 --out reliability
    python -m benchmarks.reliability --only load --cases 1,8
    python -m benchmarks.reliability --only rasters,vectors,models,configurations --cases 90000-90999

Parts take turns, so that every part has been tried however short the time; a case that was tried is not tried again
(OUT/records.jsonl), and a part ends with its count. ``--again`` tries what failed once more. ``--table`` only writes
the table into the page. The exit code is 1 where a case failed.

Of rasters, vectors, models and configurations any number beyond the count is a case that was drawn afresh; those are
kept beside the others, counted in a line each, and not in the table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

from benchmarks.reliability import journal, table
from benchmarks.reliability.isolation import import_everything
from benchmarks.reliability.part import Outcome, Part, Record
from benchmarks.reliability.parts import PARTS, part_named

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_TURN_S = 60.0
"""A part's turn: as many cases as begin within it."""


def attempt(part: Part, number: int) -> Record:
    """Try a case, in a folder of its own that is removed.

    The calling process should have no threads: forks of one that has wait without end for those that they lack.
    """
    case = part.case(number)
    folder = Path(tempfile.mkdtemp(prefix=f"{part.name}-"))
    try:
        inner = folder / "case"
        inner.mkdir()
        outcome = case.run(inner)
    except Exception:
        outcome = Outcome("failed", "the attack itself: " + traceback.format_exc(limit=-3))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Record(part.name, number, case.name, outcome)


def attempt_named(name: str, number: int) -> Record:
    """Try a case of the part of a name, as another process may ask for it."""
    return attempt(part_named(name), number)


def run(parts: Sequence[Part], path: Path, end: float, *, again: bool, cases: Collection[int] | None = None) -> None:
    """Give each part its turn until all are whole, or their cases of these numbers, or the time is over."""
    records = journal.read(path)
    waiting = {part.name: _untried(part, records, cases, again=again) for part in parts}
    while any(waiting.values()) and time.time() < end:
        for part in parts:
            turn = min(end, time.time() + _TURN_S)
            numbers = waiting[part.name]
            while numbers and time.time() < turn:
                record = attempt(part, numbers.pop(0))
                journal.append(path, record)
                if record.outcome.verdict == "failed":
                    print(f"{part.name} {record.number} ({record.case}): {record.outcome.detail}", file=sys.stderr)


def _untried(part: Part, records: Sequence[Record], cases: Collection[int] | None, *, again: bool) -> list[int]:
    """Numbers of its cases, or of these cases, without a record."""
    past = {r.number: r.outcome.verdict for r in journal.of_part(records, part.name)}
    numbers = range(part.count) if cases is None else sorted(n for n in cases if n < part.count or part.endless)
    return [n for n in numbers if n not in past or (again and past[n] == "failed")]


def case_numbers(text: str) -> frozenset[int]:
    """Numbers by comma, or ranges of them: ``7,90-99``."""
    ranges = ([int(number) for number in word.split("-")] for word in text.split(","))
    return frozenset(number for first, *last in ranges for number in range(first, (last or [first])[0] + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="how long, at most (default: 3)")
    parser.add_argument("--only", help=f"parts, by comma: {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--cases", type=case_numbers, metavar="N,M-K", help="numbers of cases, from 0 (default: all)")
    parser.add_argument("--out", type=Path, default=Path("reliability"), help="folder of the records")
    parser.add_argument("--again", action="store_true", help="try what failed once more")
    parser.add_argument("--table", action="store_true", help="try nothing, write the table")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else [part.name for part in PARTS]
    if unknown := set(names) - {part.name for part in PARTS}:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}")
    path = given.out / "records.jsonl"
    if not given.table:
        import_everything()
        chosen = [part for part in PARTS if part.name in names]
        run(chosen, path, time.time() + 3600 * given.hours, again=given.again, cases=given.cases)
    records = journal.read(path)
    text = table.markdown(PARTS, records)
    table.write(PAGE, text)
    print("\n".join([text, *table.fresh_cases(PARTS, records)]))
    return int(any(record.outcome.verdict == "failed" for record in records))


if __name__ == "__main__":
    sys.exit(main())
