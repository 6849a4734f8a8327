"""The report of an evaluation: tables, pictures and one HTML page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.errors import OutputError
from geohp.evaluation.tables import all_rows, as_csv, column_title, own_rows
from geohp.files import folder_in_progress
from geohp.reporting import pages as html
from geohp.reporting.plots import as_rgb, colourise, legend_handles, new_figure, spread

if TYPE_CHECKING:
    from geohp.data.base import ImageSet
    from geohp.evaluation.evaluate import Evaluation, Result
    from geohp.evaluation.metrics import SegmentationScores
    from geohp.evaluation.predict import Predictor

_PAGE = "index.html"
_SHOWN = 6
_UNKNOWN = (200, 200, 200)
_NUMBERED_CLASSES = 12
"""Up to so many classes, a confusion matrix has room for its percentages."""


def check_report(folder: Path, *, overwrite: bool) -> None:
    """Refuse to replace what is there, or anything that is no report.

    Raises:
        OutputError: with the remedy.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / _PAGE).is_file() or not (folder / "evaluation.json").is_file():
        raise OutputError(f"{folder}: exists and is no report of an evaluation; choose another folder")
    if not overwrite:
        raise OutputError(f"{folder}: exists already; choose another folder or replace it with --overwrite")


def write_report(made: Evaluation, folder: Path, images: ImageSet, predictor: Predictor, device: torch.device) -> None:
    """Write ``evaluation.json``, ``results.csv``, pictures and ``index.html``, whole or not at all.

    Args:
        made: what was measured.
        folder: where; a report that is there is replaced.
        images: what was judged, for samples.
        predictor: of the first model, on ``device``, for samples.

    Raises:
        OutputError: the folder cannot be written.
    """
    with folder_in_progress(folder, replace=True) as work:
        (work / "evaluation.json").write_text(json.dumps(made.as_dict(), indent=2), encoding="utf-8")
        (work / "results.csv").write_text(as_csv(made), encoding="utf-8")
        pictures = {"samples.png": "Samples: image, labels, and what was found, in the colours of the classes"}
        _draw_samples(made, images, predictor, device, work / "samples.png")
        for number, one in enumerate(_first_of_each(made)):
            name = f"confusion-{number}.png"
            title = f"{one.checkpoint}, {one.mode}"
            clusters = one.mode.probe == "cluster"
            draw_confusion(one.scores, made.classes, title, clusters=clusters).savefig(work / name, dpi=110)
            pictures[name] = f"Confusion: {one.checkpoint}, {one.mode}, {one.model.parent.name}"
        (work / _PAGE).write_text(_page(made, work, pictures), encoding="utf-8")


def _first_of_each(made: Evaluation) -> list[Result]:
    return [made.of(checkpoint, mode)[0] for checkpoint, mode in made.rows]


def draw_confusion(
    scores: SegmentationScores, classes: Sequence[LandCoverClass], title: str, *, clusters: bool
) -> Figure:
    """Rows are true classes, in percent of each; below, which clusters each class was found as.

    Args:
        scores: pixel counts, and which class each cluster is.
        classes: of the labels.
        title: what was judged; accuracy and mean IoU are added.
        clusters: clusters were matched to classes, and are named beside them.
    """
    counts = scores["confusion"].T.astype(float)
    total = counts.sum(1, keepdims=True) + scores["unlabelled"][:, None]
    shares = 100 * np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    names = [entry.name for entry in classes]
    side = 2.5 + 0.34 * len(names)
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    found = [", ".join(map(str, np.flatnonzero(scores["assignment"] == k))) for k in range(len(names))]
    ticks = range(len(names))
    if clusters:
        axes.set_xticks(ticks, [f"{n} ({f})" if f else n for n, f in zip(names, found, strict=True)], rotation=90)
        axes.set_xlabel("found (cluster)")
    else:
        axes.set_xticks(ticks, names, rotation=90)
        axes.set_xlabel("found")
    axes.set_yticks(ticks, names)
    axes.set_ylabel("true")
    axes.set_title(f"{title}\naccuracy {scores['accuracy']:.1f} %, mIoU {scores['miou']:.1f} %", fontsize=10)
    if len(names) <= _NUMBERED_CLASSES:
        for row, col in np.ndindex(*shares.shape):
            colour = "white" if shares[row, col] > 55 else "black"
            axes.text(col, row, f"{shares[row, col]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(shown, ax=axes, label="percent", shrink=0.8)
    return figure


def _draw_samples(made: Evaluation, images: ImageSet, predictor: Predictor, device: torch.device, out: Path) -> None:
    chosen = spread(len(images), _SHOWN)
    first = made.results[0].model
    results = {one.mode: one for one in made.results if one.model == first}
    modes = [mode for mode in predictor.modes if mode in results]
    titles = ["image", "labels", *map(str, modes)]
    figure = new_figure(1.2 + 2.1 * len(chosen), 2.1 * len(titles) + 0.8)
    grid = figure.subplots(len(titles), len(chosen), squeeze=False)
    for column, index in enumerate(chosen):
        item = images[index]
        found = predictor(item["image"][None].to(device))
        mask = item["mask"].numpy()
        known = (mask >= 0) & (mask < len(made.classes))
        grid[0, column].imshow(as_rgb(item["image"].numpy()))
        truth = colourise(np.where(known, mask, NODATA_LABEL).astype(np.uint8), made.classes)
        truth[~known] = _UNKNOWN
        grid[1, column].imshow(truth)
        for row, mode in enumerate(modes, start=2):
            labels = results[mode].scores["assignment"][found[mode][0].cpu().numpy()]
            grid[row, column].imshow(colourise(labels.astype(np.uint8), made.classes))
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for row, title in enumerate(titles):
        grid[row, 0].set_ylabel(title)
    handles = [
        *legend_handles(made.classes),
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*_UNKNOWN), label="unlabelled"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.savefig(out, dpi=100)


_STYLE = "tr.published td { color: #555; } tr.first td { border-top: 1px solid #999; }"


def _page(made: Evaluation, work: Path, pictures: dict[str, str]) -> str:
    title = f"Evaluation on {made.protocol.benchmark or 'own data'}"
    parts = [
        html.element("h1", title),
        html.element(
            "p",
            f"{made.images:,} images of {made.side_px} px, {made.labelled_px:,} labelled pixels. {made.protocol.text}",
        ),
        _scores(made),
        _classes(made),
        *(html.element("p", f"{note[:1].upper()}{note[1:]}.", class_="note") for note in made.notes),
        *(html.picture(work / name, caption, caption) for name, caption in pictures.items()),
    ]
    return html.page(title, parts, _STYLE)


def _scores(made: Evaluation) -> html.Markup:
    own, every = len(own_rows(made)), all_rows(made)
    kinds = ["" if n < own else "published first" if n == own else "published" for n in range(len(every))]
    found = html.table(
        ["", "accuracy", "mIoU", "linear: accuracy", "mIoU", "protocol"],
        [[name, *figures, remark] for name, figures, remark in every],
        words=(0, 5),
        kinds=kinds,
    )
    return html.join([html.element("h2", "In percent"), found])


def _classes(made: Evaluation) -> html.Markup:
    rows = []
    for number, (entry, share) in enumerate(zip(made.classes, made.class_shares, strict=True)):
        cells = []
        for checkpoint, mode in made.rows:
            values = [one.scores["class_iou"][number] for one in made.of(checkpoint, mode)]
            cells.append("" if np.isnan(values).any() else f"{np.mean(values):.1f}")
        rows.append([html.join([html.swatch(entry.colour), entry.name]), f"{100 * share:.1f}", *cells])
    head = ["class", "share", *(column_title(checkpoint, mode) for checkpoint, mode in made.rows)]
    return html.join([html.element("h2", "IoU by class, in percent"), html.table(head, rows)])
