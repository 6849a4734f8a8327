"""What a run looks like: the loss curve, and sample patches beside their clusters."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.model import LandCoverModel


def draw_losses(metrics: Path, out: Path) -> None:
    """The loss terms in ``metrics.csv`` over the steps, thin as logged and bold as a running mean."""
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    terms = [name for name in ("contrastive", "consistency", "cluster", "linear") if name in (rows[0] if rows else {})]
    figure = Figure(figsize=(4.2 * max(1, len(terms)), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, term in zip(np.atleast_1d(figure.subplots(1, max(1, len(terms)))), terms, strict=False):
        points = [(int(row["step"]), float(row[term])) for row in rows if row[term]]
        steps, values = np.array(points).T
        width = max(1, len(values) // 20)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps, values, color="#77aadd", linewidth=0.7)
        axes.plot(steps[width - 1 :], smooth, color="#332288", linewidth=1.8)
        axes.set(title=term, xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def draw_samples(images: Sequence[Tensor], model: LandCoverModel, out: Path) -> None:
    """Images (bands, H, W) in [0, 1] in the upper row, the clusters of their pixels in the lower, and a legend."""
    figure = Figure(figsize=(2.3 * len(images), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(images), squeeze=False)
    for column, image in enumerate(images):
        scores = model(image[None].to(model.device))[:, : model.clusters]
        fine = F.interpolate(scores, size=image.shape[-2:], mode="bilinear", align_corners=False)
        labels = fine[0].argmax(0).cpu().numpy().astype(np.uint8)
        axes[0, column].imshow(as_rgb(image.numpy()))
        axes[1, column].imshow(colourise(labels, model.card.classes))
    for axis in axes.flat:
        axis.set_axis_off()
    figure.legend(handles=legend_handles(model.card.classes), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(out, dpi=110)


def as_rgb(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(bands, H, W) in [0, 1] to (H, W, 3): the first three bands, or the first as grey."""
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.moveaxis(shown, 0, -1)


def colourise(labels: NDArray[np.uint8], classes: Sequence[LandCoverClass]) -> NDArray[np.uint8]:
    """Labels (H, W) in the colours of their classes, (H, W, 3) uint8; white where there is no data."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for entry in classes:
        table[entry.id] = entry.rgb
    table[NODATA_LABEL] = 255
    colours: NDArray[np.uint8] = table[labels]
    return colours


def legend_handles(classes: Sequence[LandCoverClass]) -> list[Patch]:
    """One coloured patch a class, for a matplotlib legend."""
    return [Patch(facecolor=entry.colour, label=entry.name) for entry in classes]


def spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` indices spread evenly over ``count``."""
    return sorted(set(torch.linspace(0, count - 1, min(count, wanted)).round().int().tolist()))
