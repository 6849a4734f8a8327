"""The records as one table for people."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu.record import Figure, Record
from geohp.reporting.text_tables import align_rows

_VERDICTS = {True: "met", False: "MISSED", None: ""}


def text(records: Sequence[Record]) -> str:
    """Figures, what they are held against, and whether they keep it; then errors and notes."""
    rows = [["figure", "value", "held against", ""]]
    for record in records:
        rows += [[f"{record.part}: {f.name}", _value(f), _bound(f), _VERDICTS[f.met]] for f in record.figures]
    lines = align_rows(rows)
    for record in records:
        if not record.finished:
            lines.append(f"{record.part}: did not finish: {record.error or 'stopped'}")
        lines += [f"{record.part}: {note}" for note in record.notes]
    cards = sorted({record.card for record in records})
    return "\n".join([", ".join(cards), *lines, ""])


def _value(figure: Figure) -> str:
    if isinstance(figure.value, str):
        return figure.value
    return f"{figure.value:.4g} {figure.unit}".strip()


def _bound(figure: Figure) -> str:
    bounds = (("at most", figure.most), ("at least", figure.least))
    return ", ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
