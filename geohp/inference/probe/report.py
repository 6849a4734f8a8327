"""A probe and what can be expected of it, as values and in words and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geohp.evaluation.metrics import class_ious
from geohp.inference.probe.labelled_codes import LabelledCodes
from geohp.inference.probe.validation import Doubt, Estimate, Scores
from geohp.inference.segmenter import Segmenter
from geohp.reporting.summaries import preformatted

ENOUGH = 5
"""Polygons (points, squares) of a class below which its scores are said to be a guess."""


@dataclass(frozen=True)
class Probe:
    """A model that knows the classes of a reference, and how right it was on labels it had not seen.

    Attributes:
        segmenter: the model, ready to map scenes; :func:`geohp.model.file.save_model` writes its ``model``.
        per_class: by class: ``objects`` (polygons, points or squares), ``pixels`` (or points) labelled, and, in per
            cent of what was left out, ``recall``, ``precision`` and ``iou``, with ``taken_for``, the class it is
            mistaken for most; nan and "" where a class has too few objects to be tested.
        accuracy, miou: expected where labels like these lie, in per cent; ``None`` where nothing could be left out.
        confusion: of labels left out, true classes in rows, those found in columns; ``None`` likewise.
        doubts: labels that the others contradict.
        shrinkage: strength of the regularisation that cross-validation chose.
        unit: "polygons", "points" or "squares".
        notes: what was left out, in sentences.
    """

    segmenter: Segmenter
    per_class: pd.DataFrame
    accuracy: Estimate | None
    miou: Estimate | None
    confusion: pd.DataFrame | None
    doubts: tuple[Doubt, ...]
    shrinkage: float
    unit: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, segmenter: Segmenter, labelled: LabelledCodes, scores: Scores | None, shrinkage: float) -> Probe:
        """From what was labelled, and what validation says."""
        index = pd.Index(labelled.names, dtype=object, name="class")
        confusion = None if scores is None else pd.DataFrame(scores.confusion, index=index, columns=index)
        return cls(
            segmenter=segmenter,
            per_class=_per_class(labelled, scores, index),
            accuracy=None if scores is None else scores.accuracy,
            miou=None if scores is None else scores.miou,
            confusion=confusion,
            doubts=() if scores is None else scores.doubts,
            shrinkage=shrinkage,
            unit=labelled.unit,
            notes=labelled.notes,
        )

    def document(self) -> dict[str, Any]:
        """The same figures as plain values, for JSON; ``None`` for those that are not known."""
        table = self.per_class.astype(object).where(self.per_class.notna(), None)
        return {
            "unit": self.unit,
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            "miou": None if self.miou is None else asdict(self.miou),
            "per_class": [{"name": str(name), **row} for name, row in table.to_dict("index").items()],
            "doubts": [asdict(doubt) for doubt in self.doubts],
            "shrinkage": self.shrinkage,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return preformatted(self.report())

    def report(self, width: int = 100) -> str:
        """A table and sentences for a terminal of ``width`` columns, as plain text."""
        file = StringIO()
        console = Console(file=file, width=width, color_system=None, legacy_windows=False, force_jupyter=False)
        console.print(_table(self))
        for sentence in self._sentences():
            console.print(escape(sentence), highlight=False)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"

    def _sentences(self) -> Iterator[str]:
        one = self.unit.removesuffix("s")
        if self.accuracy is None:
            yield f"No class has two {self.unit} or more: nothing can be said about how right the maps will be."
        else:
            yield (
                f"Expected where the labels lie: accuracy {self.accuracy}, mIoU {self.miou} "
                f"(cross-validated, all of a {one} on one side; ± is the standard error). "
                "Elsewhere expect less."
            )
        objects = self.per_class["objects"]
        if lone := [str(name) for name in objects.index[objects < 2]]:
            yield f"Only one {one}, and so untested: {', '.join(lone)}. Label more of these first."
        if few := [str(name) for name in objects.index[(objects >= 2) & (objects < ENOUGH)]]:
            yield f"Fewer than {ENOUGH} {self.unit}, so that its scores are a guess: {', '.join(few)}."
        for doubt in self.doubts:
            which = f"a {one}" if doubt.feature is None else f"feature {doubt.feature}"
            yield (
                f"Look again at {which} near {doubt.x:.1f}, {doubt.y:.1f}: labelled {doubt.name}, "
                f"but it looks like {doubt.looks_like} ({100 * doubt.share:.0f} %)."
            )
        yield from self.notes


def _per_class(labelled: LabelledCodes, scores: Scores | None, index: pd.Index[str]) -> pd.DataFrame:
    count = len(labelled.names)
    pixels = np.bincount(labelled.classes, labelled.pixels, minlength=count)
    objects = [len(np.unique(labelled.groups[labelled.classes == k])) for k in range(count)]
    nothing = np.full(count, np.nan)
    columns = {"recall": nothing, "precision": nothing, "iou": nothing, "taken_for": np.full(count, "", object)}
    if scores is not None:
        table, tested = scores.confusion, scores.tested
        right = np.diag(table)
        wrong = table - np.diag(right)
        names = np.array(labelled.names, object)
        columns = {
            "recall": np.where(tested, 100 * right / np.maximum(table.sum(1), 1e-9), np.nan),
            "precision": np.where(tested, 100 * right / np.maximum(table.sum(0), 1e-9), np.nan),
            "iou": np.where(tested, class_ious(table), np.nan),
            "taken_for": np.where(tested & wrong.any(1), names[wrong.argmax(1)], ""),
        }
    return pd.DataFrame({"objects": objects, "pixels": np.round(pixels).astype(np.int64), **columns}, index=index)


def _table(probe: Probe) -> Table:
    """A row for each class."""
    table = Table(title="Classes, tested on labels left out", title_justify="left")
    table.add_column("class")
    points = probe.unit == "points"
    for text in (probe.unit, *(() if points else ("pixels",)), "recall %", "precision %", "IoU %"):
        table.add_column(text, justify="right")
    table.add_column("mistaken most for")
    for name, row in probe.per_class.iterrows():
        counts = (row["pixels"],) if points else (row["objects"], row["pixels"])
        numbers = ["-" if np.isnan(row[key]) else f"{row[key]:.0f}" for key in ("recall", "precision", "iou")]
        table.add_row(escape(str(name)), *(f"{number:,}" for number in counts), *numbers, escape(row["taken_for"]))
    return table
