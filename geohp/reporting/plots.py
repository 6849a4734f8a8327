"""What a run looks like: the loss curve, sample patches beside their clusters, and what all pictures are made with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.model.network import LandCoverModel

LOSS_TERMS = ("contrastive", "consistency", "cluster", "linear")

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, both (n,)."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def read_series(file: Path, over: str = "step") -> dict[str, Series]:
    """The columns of a CSV file that hold finite numbers, over one of them; ``{}`` where there is no such file."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    found: dict[str, Series] = {}
    for name in rows[0] if rows else ():
        values = np.array([(_number(row.get(over)), _number(row.get(name))) for row in rows])
        values = values[np.isfinite(values).all(1)]
        if name not in ("step", "epoch") and len(values):
            found[name] = (values[:, 0], values[:, 1])
    return found


def draw_series(axes: Axes, series: Series, colour: str = "#332288", label: str | None = None) -> None:
    """Thin as logged, bold as a running mean over a twentieth of the run."""
    steps, values = series
    width = max(1, len(values) // 20)
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    axes.plot(steps, values, color=colour, alpha=0.35, linewidth=0.7)
    first = (width - 1) // 2
    axes.plot(steps[first : first + len(smooth)], smooth, color=colour, linewidth=1.8, label=label)
    axes.grid(alpha=0.3)


def draw_losses(metrics: Path, out: Path) -> None:
    """The loss terms in ``metrics.csv`` over the steps; an empty picture where there are none."""
    terms = {name: series for name, series in read_series(metrics).items() if name in LOSS_TERMS}
    figure = new_figure(4.2 * max(1, len(terms)), 3.4)
    for number, (term, series) in enumerate(sorted(terms.items(), key=lambda item: LOSS_TERMS.index(item[0]))):
        axes = figure.add_subplot(1, len(terms), number + 1)
        draw_series(axes, series)
        axes.set(title=term, xlabel="step")
    figure.savefig(out, dpi=110)


def draw_samples(images: Sequence[Tensor], model: LandCoverModel, out: Path) -> None:
    """Images (bands, H, W) in [0, 1] in the upper row, the clusters of their pixels in the lower, and a legend."""
    columns = max(1, min(6, len(images)))
    width = 2.3 * max(2, len(images))
    lines = -(-len(model.card.classes) // columns)
    figure = new_figure(width, 4.8 + 0.22 * lines)
    axes = figure.subplots(2, len(images), squeeze=False)
    for column, image in enumerate(images):
        axes[0, column].imshow(as_rgb(image.numpy()))
        axes[1, column].imshow(colourise(predicted_labels(image, model), model.card.classes))
    for axis in axes.flat:
        axis.set_axis_off()
    figure.legend(handles=legend_handles(model.card.classes), loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(out, dpi=110)


def predicted_labels(image: Tensor, model: LandCoverModel) -> NDArray[np.uint8]:
    """Classes (H, W) of an image (bands, H, W) in [0, 1], from scores interpolated to its pixels."""
    scores = model(image[None].to(model.device))[:, : model.clusters]
    fine = F.interpolate(scores, size=image.shape[-2:], mode="bilinear", align_corners=False)
    labels: NDArray[np.uint8] = fine[0].argmax(0).cpu().numpy().astype(np.uint8)
    return labels


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
    return [Patch(facecolor=entry.colour, edgecolor="#777777", linewidth=0.6, label=entry.name) for entry in classes]


def spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` indices spread evenly over ``count``."""
    return sorted(set(torch.linspace(0, count - 1, min(count, wanted)).round().int().tolist()))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
