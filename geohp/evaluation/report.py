"""The report of an evaluation: tables, pictures and one HTML page that needs no network."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import Patch

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.data.base import ImageSet
from geohp.evaluation.checks import CONFUSION, NUMBERS, PAGE, SAMPLES, TABLE
from geohp.evaluation.metrics import SegmentationScores
from geohp.evaluation.predict import Predictor
from geohp.evaluation.results import LAST, Evaluation
from geohp.evaluation.tables import percent
from geohp.files.atomic import folder_in_progress
from geohp.reporting.figures import Pixels, as_rgb, colourise, draw_samples, legend_handles, spread
from geohp.reporting.pages import Picture, render_page
from geohp.reporting.plots import draw_confusion

_SAMPLES = 6
_UNKNOWN = (200, 200, 200)


def write_report(
    evaluation: Evaluation, folder: Path, images: ImageSet, predictor: Predictor, device: torch.device
) -> None:
    """Write ``evaluation.json``, ``results.csv``, pictures and ``index.html``, whole or not at all.

    A report that is there is replaced. Samples are of the images that were judged, by the predictor of the first model.
    """
    with folder_in_progress(folder, replace=True) as work:
        (work / NUMBERS).write_text(json.dumps(evaluation.as_dict(), indent=2), encoding="utf-8")
        _write_csv(evaluation, work / TABLE)
        pictures = _pictures(evaluation, images, predictor, device)
        for name, picture in pictures.items():
            (work / name).write_bytes(picture.png)
        (work / PAGE).write_text(_page(evaluation, list(pictures.values())), encoding="utf-8")


def confusion_png(
    scores: SegmentationScores, classes: Sequence[LandCoverClass], title: str, *, clusters: bool
) -> bytes:
    """Confusion, accuracy and mean IoU as a picture; matched ``clusters`` are named beside their classes."""
    return draw_confusion(
        scores["confusion"],
        scores["unlabelled"],
        [entry.name for entry in classes],
        f"{title}\naccuracy {scores['accuracy']:.1f} %, mIoU {scores['miou']:.1f} %",
        scores["assignment"] if clusters else None,
    )


def _write_csv(evaluation: Evaluation, path: Path) -> None:
    """One row for each result, IoU by class in columns of their own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        by_class = [f"iou {entry.name}" for entry in evaluation.classes]
        writer.writerow(["model", "checkpoint", "probe", "crf", "accuracy", "miou", *by_class])
        for result in evaluation.results:
            figures = [result.scores["accuracy"], result.scores["miou"], *result.scores["class_iou"]]
            cells = ["" if np.isnan(figure) else f"{figure:.4f}" for figure in figures]
            writer.writerow([result.model, result.checkpoint, result.mode.probe, int(result.mode.crf), *cells])


def _pictures(
    evaluation: Evaluation, images: ImageSet, predictor: Predictor, device: torch.device
) -> dict[str, Picture]:
    """By the name of their files: samples, and the confusion of the first model for each checkpoint and mode."""
    about = "Samples: image, labels, and what was found, in the colours of the classes"
    pictures = {SAMPLES: Picture(_samples_png(evaluation, images, predictor, device), about, about)}
    for number, row in enumerate(evaluation.rows):
        first, title = evaluation.of(*row)[0], "{}, {}".format(*row)
        png = confusion_png(first.scores, evaluation.classes, title, clusters=first.mode.probe != "linear")
        about = f"Confusion: {title}, {first.model.parent.name}"
        pictures[CONFUSION.format(number)] = Picture(png, about, about)
    return pictures


def _samples_png(evaluation: Evaluation, images: ImageSet, predictor: Predictor, device: torch.device) -> bytes:
    first = evaluation.results[0].model
    assignments = {each.mode: each.scores["assignment"] for each in evaluation.results if each.model == first}
    rows: dict[str, list[Pixels]] = {"image": [], "labels": []}
    for index in spread(len(images), _SAMPLES):
        item = images[index]
        mask = item["mask"].numpy()
        known = (mask >= 0) & (mask < len(evaluation.classes))
        truth = colourise(np.where(known, mask, NODATA_LABEL).astype(np.uint8), evaluation.classes)
        truth[~known] = _UNKNOWN
        rows["image"].append(as_rgb(item["image"].numpy()))
        rows["labels"].append(truth)
        for mode, clusters in predictor(item["image"][None].to(device)).items():
            numbers, classes = clusters[0].cpu().numpy(), assignments[mode]
            labels = np.full(numbers.shape, NODATA_LABEL, np.uint8)
            labels[numbers < len(classes)] = classes[numbers[numbers < len(classes)]]
            rows.setdefault(str(mode), []).append(colourise(labels, evaluation.classes))
    unlabelled = Patch(facecolor="#{:02x}{:02x}{:02x}".format(*_UNKNOWN), label="unlabelled")
    return draw_samples(list(rows.items()), [*legend_handles(evaluation.classes), unlabelled])


def _page(evaluation: Evaluation, pictures: Sequence[Picture]) -> str:
    ious = evaluation.class_ious()
    classes = []
    for number, (entry, share) in enumerate(zip(evaluation.classes, evaluation.class_shares, strict=True)):
        cells = [percent([iou[number] for iou in by_model], deviation=False) for by_model in ious.values()]
        classes.append((entry, f"{100 * share:.1f}", cells))
    return render_page(
        "evaluation.html.j2",
        title=f"Evaluation on {evaluation.protocol.benchmark or 'own data'}",
        summary=f"{evaluation.summary}. {evaluation.protocol.text}",
        scores=evaluation.score_rows(),
        columns=[str(mode) if checkpoint == LAST else f"{checkpoint}, {mode}" for checkpoint, mode in ious],
        classes=classes,
        notes=evaluation.notes,
        pictures=pictures,
    )
