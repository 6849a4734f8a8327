"""Tables of text: our own scores above the published ones, and the IoU of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class ScoreRow:
    """A line of the table of scores.

    Attributes:
        name: what was scored.
        figures: accuracy and mean IoU by clusters, then by a linear probe, in percent; empty where there are none.
        remark: how it compares with the other lines.
        published: by others.
    """

    name: str
    figures: tuple[str, ...]
    remark: str = ""
    published: bool = False


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the sample's standard deviation (n - 1) where there are several values."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def percent(values: Sequence[float], *, deviation: bool = True) -> str:
    """Mean and standard deviation in words; empty where there is no value, or one that is undefined."""
    if not len(values) or np.isnan(values).any():
        return ""
    mean, spread = mean_and_deviation(values)
    return f"{mean:.1f} ± {spread:.1f}" if deviation and spread is not None else f"{mean:.1f}"


def scores_table(rows: Sequence[ScoreRow]) -> Table:
    """A line for each row, remarks below by letters."""
    table = _table("In percent", "", ["accuracy", "mIoU", "linear: accuracy", "mIoU"])
    remarks = list(dict.fromkeys(row.remark for row in rows if row.remark))
    letters = dict(zip(remarks, "abcdefgh", strict=False))
    for row, following in zip(rows, [*rows[1:], rows[-1]], strict=True):
        mark = f"({letters[row.remark]})" if row.remark else ""
        table.add_row(escape(row.name), *row.figures, mark, end_section=following.published and not row.published)
    table.caption = "\n".join(f"({letter}) {remark}" for remark, letter in letters.items()) or None
    table.caption_justify = "left"
    table.caption_style = ""
    return table


def class_table(
    names: Sequence[str], shares: NDArray[np.float64], columns: Mapping[str, Sequence[NDArray[np.float64]]]
) -> Table:
    """A line for each class.

    Args:
        names: of the classes.
        shares: (classes,) of the labelled pixels.
        columns: by title, for each model the IoU (classes,) in percent.
    """
    table = _table("IoU by class, in percent", "class", ["share", *columns])
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        cells = [percent([iou[number] for iou in ious]) for ious in columns.values()]
        table.add_row(escape(name), f"{100 * share:.1f}", *cells)
    return table


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
