"""What was tried already: a line of JSON a case, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.reliability.part import Outcome, Record


def append(path: Path, record: Record) -> None:
    """Add a record, in one write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(record)) + "\n")


def read(path: Path) -> list[Record]:
    """All records; a last line that was cut is left out. Of a case tried twice the later one counts."""
    if not path.exists():
        return []
    records: dict[tuple[str, int], Record] = {}
    for line in path.read_text().splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        record = Record(**{**fields, "outcome": Outcome(**fields["outcome"])})
        records[record.part, record.number] = record
    return list(records.values())


def of_part(records: Sequence[Record], name: str) -> list[Record]:
    """The records of a part, in order of their numbers."""
    return sorted((record for record in records if record.part == name), key=lambda record: record.number)
