"""An evaluation in numbers: as text for the terminal, as plain values for JSON and as rows for CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geohp.evaluation.predict import BEST, LAST, PredictionMode
from geohp.evaluation.published import PublishedRow, published_rows

if TYPE_CHECKING:
    from geohp.evaluation.evaluate import Evaluation, Result

_BOTH = ("cluster", "linear")


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the sample's standard deviation (n - 1) where there are several values."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def as_dict(made: Evaluation) -> dict[str, Any]:
    """Everything in plain values: NaN (no such pixel) is null."""
    benchmark = made.protocol.benchmark
    return {
        "benchmark": benchmark,
        "protocol": {"same_data": made.protocol.same, "text": made.protocol.text},
        "images": made.images,
        "side_px": made.side_px,
        "labelled_px": made.labelled_px,
        "classes": [{"id": c.id, "name": c.name, "colour": c.colour} for c in made.classes],
        "settings": made.settings,
        "notes": list(made.notes),
        "summary": [_summary(made, checkpoint, mode) for checkpoint, mode in made.rows],
        "results": [_result(one) for one in made.results],
        "published": [
            {
                "method": row.method,
                "backbone": row.backbone,
                "cluster": {"accuracy": row.cluster_accuracy, "miou": row.cluster_miou},
                "linear": {"accuracy": row.linear_accuracy, "miou": row.linear_miou},
                "remark": row.remark,
            }
            for row in (published_rows(benchmark) if benchmark else ())
        ],
    }


def as_csv(made: Evaluation) -> str:
    """One row for each result, IoU by class in columns of their own."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    by_class = [f"iou {entry.name}" for entry in made.classes]
    writer.writerow(["model", "checkpoint", "probe", "crf", "accuracy", "miou", *by_class])
    for one in made.results:
        figures = [one.scores["accuracy"], one.scores["miou"], *one.scores["class_iou"]]
        shown = ["" if np.isnan(value) else f"{value:.4f}" for value in figures]
        writer.writerow([one.model, one.checkpoint, one.mode.probe, int(one.mode.crf), *shown])
    return file.getvalue()


def written(made: Evaluation, width: int) -> str:
    """See :meth:`geohp.evaluation.evaluate.Evaluation.report`."""
    file = StringIO()
    console = Console(file=file, width=width, color_system=None, legacy_windows=False)
    title = made.protocol.benchmark or "own data"
    console.print(f"{title}: {made.images:,} images of {made.side_px} px, {made.labelled_px:,} labelled pixels")
    console.print(escape(made.protocol.text))
    console.print(scores_table(made))
    console.print(_by_class(made))
    for note in made.notes:
        console.print(f"Note: {escape(note)}.")
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def own_rows(made: Evaluation) -> list[tuple[str, list[str]]]:
    """Name and figures (accuracy, mIoU by clusters; accuracy, mIoU by linear probe) of every row of our own."""
    kinds = dict.fromkeys((checkpoint, mode.crf) for checkpoint, mode in made.rows)
    rows = []
    for checkpoint, crf in kinds:
        name = f"{checkpoint} + CRF" if crf else checkpoint
        seeds = len(made.of(checkpoint, PredictionMode("cluster", crf)))
        figures: list[str] = []
        for probe in _BOTH:
            results = made.of(checkpoint, PredictionMode(probe, crf))
            figures += [_figure(results, "accuracy"), _figure(results, "miou")]
        rows.append((f"{name} ({seeds} models)" if seeds > 1 else name, figures))
    return rows


def all_rows(made: Evaluation) -> list[tuple[str, list[str], str]]:
    """Name, figures and remark of our own rows and then of the published ones."""
    chosen = "the checkpoint was chosen by these very labels"
    rows = [(name, figures, chosen if name.startswith(BEST) else "") for name, figures in own_rows(made)]
    benchmark = made.protocol.benchmark
    published = published_rows(benchmark) if benchmark else ()
    return rows + [(row.title, _published_figures(row), row.remark) for row in published]


def _mark(number: int) -> str:
    return "abcdefgh"[number]


def _published_figures(row: PublishedRow) -> list[str]:
    """The same four figures as published."""
    values = (row.cluster_accuracy, row.cluster_miou, row.linear_accuracy, row.linear_miou)
    return ["" if value is None else f"{value:.1f}" for value in values]


def column_title(checkpoint: str, mode: PredictionMode) -> str:
    """What a column of figures is of; the last checkpoint goes without saying."""
    return str(mode) if checkpoint == LAST else f"{checkpoint}, {mode}"


def scores_table(made: Evaluation) -> Table:
    """Ours above, published below."""
    table = Table(title="In percent", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("accuracy", "mIoU", "linear: accuracy", "mIoU"):
        table.add_column(name, justify="right")
    remarks = list(dict.fromkeys(remark for _, _, remark in all_rows(made) if remark))
    table.add_column("")
    own = len(own_rows(made))
    for number, (name, figures, remark) in enumerate(all_rows(made)):
        if number == own:
            table.add_section()
        table.add_row(escape(name), *figures, f"({_mark(remarks.index(remark))})" if remark else "")
    table.caption = "\n".join(f"({_mark(number)}) {remark}" for number, remark in enumerate(remarks)) or None
    table.caption_justify = "left"
    table.caption_style = ""
    return table


def _by_class(made: Evaluation) -> Table:
    table = Table(title="IoU by class, in percent", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    table.add_column("share", justify="right")
    shown = [(checkpoint, mode) for checkpoint, mode in made.rows if checkpoint == LAST]
    for checkpoint, mode in shown:
        table.add_column(column_title(checkpoint, mode), justify="right")
    shares = made.class_shares
    for number, entry in enumerate(made.classes):
        cells = [_shown([r.scores["class_iou"][number] for r in made.of(*one)]) for one in shown]
        table.add_row(escape(entry.name), f"{100 * shares[number]:.1f}", *cells)
    return table


def _figure(results: Sequence[Result], key: Literal["accuracy", "miou"]) -> str:
    return _shown([r.scores[key] for r in results])


def _shown(values: Sequence[float]) -> str:
    if not values or np.isnan(values).any():
        return ""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def _summary(made: Evaluation, checkpoint: str, mode: PredictionMode) -> dict[str, Any]:
    results = made.of(checkpoint, mode)
    accuracy, accuracy_deviation = mean_and_deviation([r.scores["accuracy"] for r in results])
    miou, miou_deviation = mean_and_deviation([r.scores["miou"] for r in results])
    return {
        "checkpoint": checkpoint,
        "probe": mode.probe,
        "crf": mode.crf,
        "models": len(results),
        "accuracy": _plain(accuracy),
        "accuracy_deviation": accuracy_deviation,
        "miou": _plain(miou),
        "miou_deviation": miou_deviation,
    }


def _result(one: Result) -> dict[str, Any]:
    scores = one.scores
    return {
        "model": str(one.model),
        "checkpoint": one.checkpoint,
        "probe": one.mode.probe,
        "crf": one.mode.crf,
        "accuracy": _plain(scores["accuracy"]),
        "miou": _plain(scores["miou"]),
        "class_iou": [_plain(float(value)) for value in scores["class_iou"]],
        "assignment": scores["assignment"].tolist(),
        "confusion": scores["confusion"].tolist(),
        "counts": scores["counts"].tolist(),
        "unlabelled": scores["unlabelled"].tolist(),
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value
