"""What a reference says about the labels of a map, as values and in words and tables."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geohp.legend.file import Legend, spell_out

_COLUMNS = 8  # classes that a table of all of them is still read for
_LARGEST = 3  # classes shown of each label where there are more


@dataclass(frozen=True)
class Naming:
    """What a reference says about the labels of a map.

    Attributes:
        legend: the names found.
        confusion: rows are labels, columns the reference's classes in their order, values the pixels (or points) that
            have both. Labels that the map declares have a row, and others that occur where the reference was read.
        accuracy: per cent of the compared pixels (or points) whose label is named after their class. Pixels of labels
            without a name count as wrong.
        per_class: by class: ``count`` in the reference, ``recall`` and ``iou`` in per cent; 0 for classes that no label
            was named after.
        unnamed: labels without a name: those that the reference does not touch, and with "hungarian" those left over.
        unit: "pixels" or "points".
        notes: what was left out, in sentences.
        matching: "majority" or "hungarian".
    """

    legend: Legend
    confusion: pd.DataFrame
    accuracy: float
    per_class: pd.DataFrame
    unnamed: tuple[int, ...]
    unit: str
    notes: tuple[str, ...]
    matching: str

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Classes of the reference that no label is named after, and that no map will show."""
        found = {entry.name for entry in self.legend.classes}
        return tuple(name for name in map(str, self.per_class.index) if name not in found)

    def __repr__(self) -> str:
        named, classes = len(self.legend.labels), len(self.legend.classes)
        return f"<Naming: {named} of {len(self.confusion)} labels as {classes} classes, {self.accuracy:.1f} % right>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.report())}</pre>"

    def report(self, width: int = 100) -> str:
        """Tables and sentences for a terminal of ``width`` columns, as plain text."""
        file = StringIO()
        console = Console(file=file, width=width, color_system=None, legacy_windows=False, force_jupyter=False)
        console.print(_labels_table(self))
        console.print(_classes_table(self))
        for sentence in self._sentences():
            console.print(escape(sentence))
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"

    def _sentences(self) -> Iterator[str]:
        named, labels, classes = len(self.legend.labels), len(self.confusion), len(self.legend.classes)
        yield (
            f"{named} of {labels} label{'s' if labels > 1 else ''} named, "
            f"as {classes} class{'es' if classes > 1 else ''} ({self.matching})."
        )
        untouched = [label for label in self.unnamed if not self.confusion.loc[label].any()]
        left_over = [label for label in self.unnamed if label not in untouched]
        if untouched:
            yield f"Without any reference, and so without a name: {spell_out(untouched)}."
        if left_over:
            yield f"Left over by one label a class, and so without a name: {spell_out(left_over)}."
        if self.unmatched:
            yield (
                f"No label is named after {', '.join(self.unmatched)}: the map will not show it. Finer clusters may "
                "find it: more classes.extra_clusters in training, or more classes for a map without one."
            )
        yield from self.notes
        yield (
            f"Overall accuracy {self.accuracy:.1f} %, measured on the very reference used for naming: "
            "an independent one would find less."
        )


def _labels_table(naming: Naming) -> Table:
    """A row for each label: its name, its share of what was compared, and its classes in per cent."""
    table = Table(title=f"Labels, in per cent of each one's {naming.unit}", title_justify="left")
    table.add_column("label", justify="right")
    table.add_column("name")
    table.add_column("share", justify="right")
    texts = [str(name) for name in naming.confusion.columns]
    full = len(texts) <= _COLUMNS
    if full:
        for text in texts:
            table.add_column(escape(text), justify="right")
    else:
        table.add_column("most overlap")
    names = {entry.id: entry.name for entry in naming.legend.classes}
    counts = naming.confusion.to_numpy()
    for label, row in zip(naming.confusion.index.tolist(), counts, strict=True):
        number = naming.legend.labels.get(label)
        name = "-" if number is None else names[number]
        shares = 100 * row / max(row.sum(), 1)
        if full:
            cells = [f"{share:.1f}" if share else "" for share in shares]
        else:
            most = [place for place in np.argsort(-shares, kind="stable")[:_LARGEST] if shares[place]]
            cells = [", ".join(f"{escape(texts[place])} {shares[place]:.1f}" for place in most)]
        table.add_row(str(label), escape(name), f"{100 * row.sum() / counts.sum():.1f}", *cells)
    return table


def _classes_table(naming: Naming) -> Table:
    """A row for each class of the reference."""
    table = Table(title="Classes of the reference", title_justify="left")
    table.add_column("class")
    for text in (naming.unit, "recall %", "IoU %"):
        table.add_column(text, justify="right")
    for name, row in naming.per_class.iterrows():
        table.add_row(escape(str(name)), f"{int(row['count']):,}", f"{row['recall']:.1f}", f"{row['iou']:.1f}")
    return table
