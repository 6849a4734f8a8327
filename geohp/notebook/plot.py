"""A label map as matplotlib draws it: the colours of its classes, their names beside it, coordinates around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geohp.classes import LandCoverClass
from geohp.raster.grid import Grid, is_upright
from geohp.raster.read.labels import occurring_classes
from geohp.reporting.figures import colourise, legend_handles
from geohp.reporting.fonts import use_fonts_that_have_its_letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 5


def draw_labels(
    labels: NDArray[np.uint8],
    classes: Sequence[LandCoverClass],
    grid: Grid,
    axes: Axes | None = None,
    *,
    legend: bool = True,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw labels.

    Args:
        labels: (rows, cols), evenly spaced over the grid; 255 without data.
        classes: as the map declares them; others get a name and a colour.
        grid: of the whole map.
        axes: where to; a new figure by default.
        legend: of the classes that occur.
        figsize: of a new figure, in inches.
    """
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.subplots(figsize=figsize, layout="constrained")[1]
    seen = occurring_classes(classes, labels)
    axes.imshow(colourise(labels, seen), extent=_extent(grid), interpolation="nearest")
    _mark_axes(axes, grid)
    if legend and seen:
        names = axes.legend(handles=legend_handles(seen), loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        use_fonts_that_have_its_letters(names)
    return axes


def _extent(grid: Grid) -> tuple[float, float, float, float] | None:
    """Left, right, bottom and top of a map whose rows are parallels; ``None`` counts pixels."""
    affine = grid.affine
    if not grid.is_georeferenced or not is_upright(affine):
        return None
    (left, top), (right, bottom) = affine * (0, 0), affine * (grid.width, grid.height)
    return left, right, bottom, top


def _mark_axes(axes: Axes, grid: Grid) -> None:
    """Name the coordinates, with all their digits."""
    if _extent(grid) is None:
        axes.set(xlabel="column", ylabel="row")
        return
    units = "degrees" if grid.crs is not None and grid.crs.is_geographic else None
    if grid.crs is not None and grid.crs.is_projected:
        units = grid.crs.linear_units
    axes.set(xlabel=f"x [{units}]" if units else "x", ylabel=f"y [{units}]" if units else "y")
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.locator_params(nbins=_TICKS)
