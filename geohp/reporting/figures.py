"""The single figures of a run's report, each as the bytes of a PNG file: charts, and images with patches marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geohp.classes import LandCoverClass
from geohp.reporting.plots import Series, as_png, as_rgb, draw_series, new_figure

AGNOSTIC, SPECIFIC, BOTH = "#0077bb", "#ee7733", "#aa1155"
"""Colours of positives that are task-agnostic only, task-specific only, and both."""
LINES = ("#332288", "#cc6677", "#117733", "#88ccee")
_SIDE = 224
"""Pixels of an image's longer side, as shown."""
_TONES = 128
"""Colours of a photograph in a report: a third of the bytes, and no eye sees it at this size."""
_NUMBERED = 12
"""Up to so many classes, a matrix has room for its figures."""
_NAMED = 60
"""Up to so many rows, each is named."""
_AROUND = 2
"""Patches shown to each side of the one whose neighbourhood is drawn."""


def draw_curve(
    title: str, lines: Mapping[str, Series], *, legend: bool = False, bound: float | None = None, shares: bool = False
) -> bytes:
    """Lines over the steps, smoothed.

    Args:
        title: above.
        lines: by name.
        legend: name the lines.
        bound: a level to mark, where values come near it.
        shares: values lie between 0 and 1.
    """
    axes = _chart()
    for colour, (name, series) in zip(LINES, lines.items(), strict=False):
        draw_series(axes, series, colour, name)
    if bound is not None and max(values.max() for _, values in lines.values()) > bound / 3:
        axes.axhline(bound, color="#777777", linestyle="--", linewidth=1)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("step")
    if shares:
        axes.set_ylim(-0.05, 1.05)
    if legend:
        axes.legend(frameon=False, fontsize=9)
    return _chart_png(axes)


def draw_scores(title: str, lines: Mapping[str, Series]) -> bytes:
    """Percentages by epoch, a dot each."""
    axes = _chart()
    for colour, (name, (epochs, values)) in zip(LINES, lines.items(), strict=False):
        axes.plot(epochs, values, "o-", color=colour, label=name, markersize=4)
    axes.set_title(title, fontsize=11)
    axes.set(xlabel="epoch", ylabel="%")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return _chart_png(axes)


def draw_similarity(cosines: NDArray[np.float32], classes: Sequence[LandCoverClass]) -> bytes:
    """Cosines (K, K) of centroids as a map of colours, with figures where there is room for them."""
    count = len(cosines)
    side = min(9.0, 1.8 + 0.45 * count)
    figure = new_figure(side + 0.9, side)
    axes = figure.subplots()
    shown = axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    ticks = range(0, count, -(-count // _NAMED))
    names = [classes[number].name for number in ticks]
    size = 9 if count <= _NUMBERED else 6
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    if count <= _NUMBERED:
        for row, col in np.ndindex(*cosines.shape):
            colour = "white" if abs(cosines[row, col]) > 0.6 else "black"
            axes.text(col, row, f"{cosines[row, col]:.2f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(shown, ax=axes, label="cosine", shrink=0.8)
    return as_png(figure)


def draw_image(pixels: NDArray[np.float32] | NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, 3), in [0, 1] or of 8 bits, at the size of a report's images."""
    return _png(_enlarged(pixels, Image.Resampling.NEAREST if pixels.dtype == np.uint8 else Image.Resampling.BILINEAR))


def draw_positives(
    image: NDArray[np.float32],
    agnostic: NDArray[np.bool_],
    specific: NDArray[np.bool_],
    anchor: tuple[int, int] | None = None,
) -> bytes:
    """An image (bands, H, W), pale and grey, with positives (h, w) in colour, and the anchor's patch framed if here."""
    photo = _enlarged(as_rgb(image), Image.Resampling.BILINEAR)
    pale = 90 + 0.65 * np.asarray(photo.convert("L"), np.float32)[:, :, None].repeat(3, 2)
    kinds = agnostic.astype(np.uint8) + 2 * specific.astype(np.uint8)
    marked = np.asarray(Image.fromarray(kinds).resize(photo.size, Image.Resampling.NEAREST))
    for kind, colour in ((1, AGNOSTIC), (2, SPECIFIC), (3, BOTH)):
        there = marked == kind
        pale[there] = 0.3 * pale[there] + 0.7 * _rgb(colour)
    drawn = Image.fromarray(pale.clip(0, 255).astype(np.uint8))
    if anchor is not None:
        _frame(drawn, anchor, agnostic.shape)
    return _png(drawn)


def draw_anchor(image: NDArray[np.float32], anchor: tuple[int, int], grid: tuple[int, int]) -> bytes:
    """An image (bands, H, W) in its colours with a patch, by row and column of the grid, framed."""
    drawn = _enlarged(as_rgb(image), Image.Resampling.BILINEAR)
    _frame(drawn, anchor, grid)
    return _png(drawn)


def draw_neighbourhood(
    image: NDArray[np.float32], shares: NDArray[np.float32], patch: tuple[int, int], grid: tuple[int, int]
) -> bytes:
    """The nine weights of a patch over what lies around it.

    Args:
        image: (bands, H, W) in [0, 1].
        shares: (9,) in percent, raster order; 0 outside the image.
        patch: row and column in the grid.
        grid: rows and columns of patches.
    """
    (row, col), pixels = patch, as_rgb(image)
    high, wide = image.shape[-2] / grid[0], image.shape[-1] / grid[1]
    figure = new_figure(2.5, 2.5)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels, extent=(0, grid[1], grid[0], 0), aspect=high / wide, interpolation="nearest")
    axes.set_facecolor("#e8e8e8")
    axes.set(xlim=(col - _AROUND, col + _AROUND + 1), ylim=(row + _AROUND + 1, row - _AROUND), xticks=[], yticks=[])
    for number, share in enumerate(shares):
        y, x = row + number // 3 - 1, col + number % 3 - 1
        if 0 <= y < grid[0] and 0 <= x < grid[1]:
            style = {"boxstyle": "round,pad=0.12", "facecolor": "white", "alpha": 0.75, "edgecolor": "none"}
            axes.text(x + 0.5, y + 0.5, f"{share:.0f}", ha="center", va="center", fontsize=11, bbox=style)
            axes.add_patch(_square(x, y, "white", 0.8))
    axes.add_patch(_square(col, row, "#ffdd00", 2.2))
    return as_png(figure, 96)


def _chart() -> Axes:
    """Of fixed margins: laying out a chart anew takes longer than drawing it."""
    figure = new_figure(4.4, 2.9)
    figure.set_layout_engine("none")
    return figure.add_axes((0.15, 0.17, 0.82, 0.72))


def _chart_png(axes: Axes) -> bytes:
    figure = axes.figure
    assert isinstance(figure, Figure)
    return as_png(figure, 120)


def _square(x: float, y: float, colour: str, width: float) -> Rectangle:
    return Rectangle((x, y), 1, 1, fill=False, edgecolor=colour, linewidth=width)


def _frame(drawn: Image.Image, patch: tuple[int, int], grid: tuple[int, int]) -> None:
    """A yellow square around a patch, black within and without so that it shows on anything."""
    draw = ImageDraw.Draw(drawn)
    high, wide = drawn.height / grid[0], drawn.width / grid[1]
    top, left = patch[0] * high, patch[1] * wide
    for margin, colour in ((5, "#000000"), (4, "#ffdd00"), (3, "#ffdd00"), (2, "#ffdd00"), (1, "#000000")):
        draw.rectangle((left - margin, top - margin, left + wide + margin - 1, top + high + margin - 1), outline=colour)


def _enlarged(pixels: NDArray[np.float32] | NDArray[np.uint8], how: Image.Resampling) -> Image.Image:
    if pixels.dtype != np.uint8:
        pixels = (255 * np.nan_to_num(pixels).clip(0, 1)).round().astype(np.uint8)
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    factor = _SIDE / max(photo.size)
    return photo.resize((max(1, round(photo.width * factor)), max(1, round(photo.height * factor))), how)


def _png(drawn: Image.Image) -> bytes:
    file = BytesIO()
    drawn.quantize(_TONES, Image.Quantize.FASTOCTREE).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _rgb(colour: str) -> NDArray[np.float32]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
