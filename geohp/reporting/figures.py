"""Images and what was found in them, each as the bytes of a PNG file: samples, and photographs with patches marked."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.reporting.plots import as_png, new_figure, plain

AGNOSTIC, SPECIFIC, BOTH = "#0077bb", "#ee7733", "#aa1155"
"""Colours of positives that are task-agnostic only, task-specific only, and both."""
ANCHOR = "#ffdd00"
_SIDE = 224
"""Pixels of an image's longer side, as shown."""
_TONES = 128
"""Colours of a photograph in a report: a third of the bytes, and no eye sees it at this size."""
_AROUND = 2
"""Patches shown to each side of the one whose neighbourhood is drawn."""

Pixels = NDArray[np.float32] | NDArray[np.uint8]
"""(H, W, 3), in [0, 1] or of 8 bits."""


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
    return [
        Patch(facecolor=entry.colour, edgecolor="#777777", linewidth=0.6, label=plain(entry.name)) for entry in classes
    ]


def spread(count: int, most: int) -> list[int]:
    """Up to ``most`` indices spread evenly over ``count``."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def draw_samples(rows: Sequence[tuple[str, Sequence[Pixels]]], handles: Sequence[Patch]) -> bytes:
    """Rows of images under one another, each with its title, and a legend below."""
    images = len(rows[0][1])
    columns = max(1, min(6, images))
    lines = -(-len(handles) // columns)
    figure = new_figure(2.3 * max(2, images), 2.1 * len(rows) + 0.6 + 0.22 * lines)
    grid = figure.subplots(len(rows), images, squeeze=False)
    for axes_of_row, (title, pictures) in zip(grid, rows, strict=True):
        for axes, pixels in zip(axes_of_row, pictures, strict=True):
            axes.imshow(pixels)
            axes.set(xticks=[], yticks=[])
        axes_of_row[0].set_ylabel(title)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return as_png(figure)


def draw_panels(panels: Sequence[tuple[str, Pixels]], handles: Sequence[Patch]) -> bytes:
    """Images of one shape side by side, each under its title, and a legend below."""
    height, width = panels[0][1].shape[:2]
    columns = max(1, min(4, len(handles)))
    lines = -(-len(handles) // columns)
    figure = new_figure(4.2 * len(panels), 4.2 * height / width + 0.6 + 0.22 * lines)
    for axes, (title, pixels) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10, parse_math=False)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return as_png(figure)


def draw_image(pixels: Pixels) -> bytes:
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
        pale[marked == kind] = 0.3 * pale[marked == kind] + 0.7 * np.array(ImageColor.getrgb(colour), np.float32)
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
    axes.add_patch(_square(col, row, ANCHOR, 2.2))
    return as_png(figure, 96)


def _square(x: float, y: float, colour: str, width: float) -> Rectangle:
    return Rectangle((x, y), 1, 1, fill=False, edgecolor=colour, linewidth=width)


def _frame(drawn: Image.Image, patch: tuple[int, int], grid: tuple[int, int]) -> None:
    """A yellow square around a patch, black within and without so that it shows on anything."""
    draw = ImageDraw.Draw(drawn)
    high, wide = drawn.height / grid[0], drawn.width / grid[1]
    top, left = patch[0] * high, patch[1] * wide
    for margin, colour in ((5, "#000000"), (4, ANCHOR), (3, ANCHOR), (2, ANCHOR), (1, "#000000")):
        draw.rectangle((left - margin, top - margin, left + wide + margin - 1, top + high + margin - 1), outline=colour)


def _enlarged(pixels: Pixels, how: Image.Resampling) -> Image.Image:
    if pixels.dtype != np.uint8:
        pixels = (255 * np.nan_to_num(pixels).clip(0, 1)).round().astype(np.uint8)
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    factor = _SIDE / max(photo.size)
    return photo.resize((max(1, round(photo.width * factor)), max(1, round(photo.height * factor))), how)


def _png(drawn: Image.Image) -> bytes:
    file = BytesIO()
    drawn.quantize(_TONES, Image.Quantize.FASTOCTREE).save(file, format="PNG", optimize=True)
    return file.getvalue()
