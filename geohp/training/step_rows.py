"""Tables with a row a step, as what ended a training has left them."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path


def read_step_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file that were written whole, in order: each has a value for every name, and a step.

    The last may have been cut off by what ended the training, and a disk may give back anything.

    Raises:
        FileNotFoundError: it is not there.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    rows: list[dict[str, str]] = []
    with suppress(csv.Error):
        for row in csv.DictReader(line for line in lines if line.endswith("\n")):
            if None not in row and None not in row.values() and (row.get("step") or "").isdecimal():
                rows.append(row)
    return rows
