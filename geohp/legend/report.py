"""A naming in words and tables, for the terminal."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geohp.legend.file import spell_out

if TYPE_CHECKING:
    from geohp.legend.naming import Naming

_COLUMNS = 8  # classes that a table of all of them is still read for
_LARGEST = 3  # classes shown of each label where there are more


def written(naming: Naming, width: int) -> str:
    """See :meth:`geohp.legend.naming.Naming.report`."""
    file = StringIO()
    console = Console(file=file, width=width, color_system=None, legacy_windows=False)
    console.print(_labels(naming))
    console.print(_classes(naming))
    named, classes = len(naming.legend.labels), len(naming.legend.classes)
    of_all = f"{named} of {len(naming.confusion)} label{'s' if len(naming.confusion) > 1 else ''}"
    console.print(f"{of_all} named, as {classes} class{'es' if classes > 1 else ''} ({naming.matching}).")
    if naming.unnamed:
        untouched = [label for label in naming.unnamed if not naming.confusion.loc[label].any()]
        left = [label for label in naming.unnamed if label not in untouched]
        if untouched:
            console.print(f"Without any reference, and so without a name: {spell_out(untouched)}.")
        if left:
            console.print(f"Left over by one label a class, and so without a name: {spell_out(left)}.")
    for note in naming.notes:
        console.print(escape(note))
    console.print(
        f"Overall accuracy {naming.accuracy:.1f} %, measured on the very reference used for naming: "
        "an independent one would find less."
    )
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _labels(naming: Naming) -> Table:
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
    names = {one.id: one.name for one in naming.legend.classes}
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


def _classes(naming: Naming) -> Table:
    """A row for each class of the reference."""
    table = Table(title="Classes of the reference", title_justify="left")
    table.add_column("class")
    for text in (naming.unit, "recall %", "IoU %"):
        table.add_column(text, justify="right")
    for name, row in naming.per_class.iterrows():
        table.add_row(escape(str(name)), f"{int(row['count']):,}", f"{row['recall']:.1f}", f"{row['iou']:.1f}")
    return table
