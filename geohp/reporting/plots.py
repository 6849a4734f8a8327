"""Charts of numbers, each as the bytes of a PNG file: curves, scores, similarities, confusion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from geohp.reporting.fonts import use_fonts_that_have_its_letters

LINES = ("#332288", "#cc6677", "#117733", "#88ccee")
_NUMBERED = 12
"""Up to so many classes, a matrix has room for its figures."""
_NAMED = 60
"""Up to so many rows, each is named."""

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, both (n,)."""


def plain(text: str) -> str:
    """A text that is shown as it is: between dollars matplotlib would look for formulas."""
    return text.replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as the bytes of a PNG file."""
    use_fonts_that_have_its_letters(figure)
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # where no font has it there is a box
        figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def draw_losses(terms: Mapping[str, Series]) -> bytes:
    """Loss terms over the steps, side by side; an empty picture where there are none."""
    figure = new_figure(4.2 * max(1, len(terms)), 3.4)
    for number, (term, series) in enumerate(terms.items(), start=1):
        axes = figure.add_subplot(1, len(terms), number)
        _draw_series(axes, series, LINES[0])
        axes.set(title=term, xlabel="step")
    return as_png(figure)


def draw_curve(
    title: str, lines: Mapping[str, Series], *, legend: bool = False, bound: float | None = None, shares: bool = False
) -> bytes:
    """Lines over the steps by name, smoothed.

    ``bound`` is a level to mark where values come near it; ``shares`` lie between 0 and 1.
    """
    figure, axes = _chart(title, "step")
    for colour, (name, series) in zip(LINES, lines.items(), strict=False):
        _draw_series(axes, series, colour, name)
    if bound is not None and max(values.max() for _, values in lines.values()) > bound / 3:
        axes.axhline(bound, color="#777777", linestyle="--", linewidth=1)
    if shares:
        axes.set_ylim(-0.05, 1.05)
    if legend:
        axes.legend(frameon=False, fontsize=9)
    return as_png(figure, 120)


def draw_scores(title: str, lines: Mapping[str, Series]) -> bytes:
    """Percentages by step, a dot each."""
    figure, axes = _chart(title, "step")
    for colour, (name, (steps, values)) in zip(LINES, lines.items(), strict=False):
        axes.plot(steps, values, "o-", color=colour, label=name, markersize=4)
    axes.set_ylabel("%")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return as_png(figure, 120)


def draw_counts(
    counts: Sequence[int], curves: Mapping[str, tuple[Sequence[float], Sequence[float] | None]], recommended: int
) -> bytes:
    """What four measures say of numbers of classes.

    Args:
        counts: the numbers.
        curves: by title, values and their standard deviations; the first is a number of classes itself.
        recommended: the number to mark.
    """
    figure = new_figure(10, 6.4)
    panels = figure.subplots(2, 2, sharex=True)
    panels[0, 0].plot(counts, counts, color="#999999", linewidth=0.9, linestyle=":", label="all of them")
    style = {"color": LINES[0], "ecolor": "#77aadd", "marker": "o", "markersize": 4, "linewidth": 1.5, "capsize": 3}
    for axes, (title, (values, deviations)) in zip(panels.flat, curves.items(), strict=True):
        axes.errorbar(counts, values, yerr=deviations, **style)
        axes.axvline(recommended, color=LINES[1], linewidth=1.2, linestyle="--", label="recommended")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    for axes in panels[1]:
        axes.set_xlabel("number of classes")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0, 0].set_ylim(bottom=0)
    panels[0, 1].set_ylim(top=1.05)
    panels[0, 0].legend(fontsize=8, frameon=False, loc="upper left")
    figure.suptitle(f"{recommended} classes are recommended", fontsize=12)
    return as_png(figure)


def draw_similarity(cosines: NDArray[np.float32], names: Sequence[str]) -> bytes:
    """Cosines (K, K) of the named centroids as a map of colours, with figures where there is room for them."""
    ticks = range(0, len(cosines), -(-len(cosines) // _NAMED))
    size = 9 if len(cosines) <= _NUMBERED else 6
    side = min(9.0, 1.8 + 0.45 * len(cosines))
    names = [plain(name) for name in names]
    figure, axes = _matrix(cosines, (side + 0.9, side), "cosine", "RdBu_r", (-1, 1))
    axes.set_xticks(ticks, [names[tick] for tick in ticks], rotation=90, fontsize=size)
    axes.set_yticks(ticks, [names[tick] for tick in ticks], fontsize=size)
    _number_cells(axes, cosines, ".2f", np.abs(cosines) > 0.6)
    return as_png(figure)


def draw_confusion(
    confusion: NDArray[np.int64],
    unlabelled: NDArray[np.int64],
    names: Sequence[str],
    title: str,
    assignment: NDArray[np.int64] | None = None,
) -> bytes:
    """Rows are true classes, in percent of each; below, as what they were found.

    Args:
        confusion: (classes, classes) pixels, predicted class by true class.
        unlabelled: (classes,) pixels of each true class for which nothing was predicted.
        names: of the classes.
        title: what was judged.
        assignment: (clusters,) class of every cluster, where clusters were matched: they stand beside the classes.
    """
    pixels = confusion.T.astype(float)
    total = pixels.sum(1, keepdims=True) + unlabelled[:, None]
    shares = 100 * np.divide(pixels, total, out=np.zeros_like(pixels), where=total > 0)
    side = 2.5 + 0.34 * len(names)
    figure, axes = _matrix(shares, (side + 0.6, side), "percent", "Blues", (0, 100))
    predicted = names = [plain(name) for name in names]
    if assignment is not None:
        clusters = [", ".join(map(str, np.flatnonzero(assignment == number))) for number in range(len(names))]
        predicted = [f"{name} ({ids})" if ids else name for name, ids in zip(names, clusters, strict=True)]
    axes.set_xticks(range(len(names)), predicted, rotation=90)
    axes.set_xlabel("found" if assignment is None else "found (cluster)")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    _number_cells(axes, shares, ".0f", shares > 55)
    return as_png(figure)


def _matrix(
    values: NDArray[np.floating], inches: tuple[float, float], label: str, colours: str, limits: tuple[float, float]
) -> tuple[Figure, Axes]:
    """Values (K, K) as a map of colours, and beside it what they mean."""
    figure = new_figure(*inches)
    axes = figure.subplots()
    shown = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    figure.colorbar(shown, ax=axes, label=label, shrink=0.8)
    return figure, axes


def _number_cells(axes: Axes, values: NDArray[np.floating], form: str, dark: NDArray[np.bool_]) -> None:
    """Write the values into the cells of a matrix, white on dark ones, where there is room for them."""
    if len(values) > _NUMBERED:
        return
    for (row, col), value in np.ndenumerate(values):
        colour = "white" if dark[row, col] else "black"
        axes.text(col, row, f"{value:{form}}", ha="center", va="center", color=colour, fontsize=8)


def _draw_series(axes: Axes, series: Series, colour: str, label: str | None = None) -> None:
    """Thin as logged, bold as a running mean over a twentieth of the run."""
    steps, values = series
    width = max(1, len(values) // 20)
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    axes.plot(steps, values, color=colour, alpha=0.35, linewidth=0.7)
    first = (width - 1) // 2
    axes.plot(steps[first : first + len(smooth)], smooth, color=colour, linewidth=1.8, label=label)
    axes.grid(alpha=0.3)


def _chart(title: str, xlabel: str) -> tuple[Figure, Axes]:
    """Of fixed margins: laying out a chart anew takes longer than drawing it."""
    figure = new_figure(4.4, 2.9)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.15, 0.17, 0.82, 0.72))
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    return figure, axes
