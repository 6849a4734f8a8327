"""The table of docs/reliability.md, from what was tried and from the list of defects found."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import journal
from benchmarks.reliability.part import Part, Record

DEFECTS = Path(__file__).with_name("defects.csv")
"""Every defect found by a part and mended, with the test that would notice it."""
BEGIN, END = "<!-- figures: written by benchmarks.reliability -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Defect:
    """A defect that was found and mended.

    Attributes:
        part: that found it.
        defect: what was wrong, in a sentence.
        test: that fails where it comes back, ``tests/FILE.py::NAME``.
    """

    part: str
    defect: str
    test: str


def read_defects() -> list[Defect]:
    """All defects found so far."""
    with DEFECTS.open(newline="") as file:
        return [Defect(**row) for row in csv.DictReader(file)]


def markdown(parts: Sequence[Part], records: Sequence[Record]) -> str:
    """A row a part: cases, how they ended, defects mended, figures; cases beyond its count are left out."""
    mended = Counter(defect.part for defect in read_defects())
    lines = [
        "| attack | cases | right | refused | failed | defects found and mended | figures |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in parts:
        tried = [record for record in journal.of_part(records, part.name) if record.number < part.count]
        ends = Counter(record.outcome.verdict for record in tried)
        cells = (
            part.title, f"{len(tried):,}", f"{ends['right']:,}", f"{ends['refused']:,}", f"{ends['failed']:,}",
            str(mended[part.name]), part.figures(tried) if tried else "not run",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fresh_cases(parts: Sequence[Part], records: Sequence[Record]) -> list[str]:
    """A line a part of which cases beyond its count were tried."""
    lines = []
    for part in parts:
        tried = [record for record in journal.of_part(records, part.name) if record.number >= part.count]
        if tried:
            ends = Counter(record.outcome.verdict for record in tried)
            verdicts = ", ".join(f"{ends[verdict]:,} {verdict}" for verdict in ("right", "refused", "failed"))
            lines.append(f"{part.name}, {len(tried):,} fresh: {verdicts}; {part.figures(tried)}")
    return lines


def write(page: Path, table: str) -> None:
    """Put the table between its marks in a page, in place of the one there."""
    text = page.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    page.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")
