"""Two dates on one pixel grid: the old date's, onto which the new one is brought by its nearest pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.errors import SceneError
from geohp.raster.grid import Grid, transformer

_ALONG_EDGE = 32  # points an edge of a raster, which bends in another projection


def check_overlap(old: Grid, new: Grid, names: tuple[str, str]) -> None:
    """Refuse two dates that do not show the same ground.

    Args:
        old, new: their grids.
        names: theirs, for messages.

    Raises:
        SceneError: they show different ground, or nobody knows whether they do.
    """
    if old == new:
        return
    placed = [grid.is_georeferenced for grid in (old, new)]
    if not any(placed):
        if old.shape == new.shape:
            return
        sizes = " and ".join(f"{grid.width} x {grid.height}" for grid in (old, new))
        problem = f"{names[0]} and {names[1]} say nothing of where they lie, and are of different sizes ({sizes} px)"
        raise SceneError(problem, "georeference them, or bring them to one size")
    if not all(placed) or (old.crs is None) != (new.crs is None):
        lacking = names[placed.index(False) if not all(placed) else int(new.crs is None)]
        raise SceneError(
            f"{lacking} does not say where on Earth it lies, but the other date does", "assign its CRS first"
        )
    here, there = _outline(old, old), _outline(new, old)
    if here is None or there is None or shapely.area(shapely.intersection(here, there)) <= 0:
        raise SceneError(f"{names[0]} and {names[1]} show different ground", "give two dates of one place")


def _outline(grid: Grid, frame: Grid) -> Any:
    """A raster's outline in the CRS of another; ``None`` where that does not reach so far."""
    x, y = _placed(grid, frame, *grid.edges(_ALONG_EDGE))
    finite = np.isfinite(x) & np.isfinite(y)
    return shapely.make_valid(shapely.Polygon(np.column_stack([x, y]))) if finite.all() else None


def _placed(grid: Grid, frame: Grid, cols: Any, rows: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places on a raster in the CRS of another."""
    places: Any = (cols, rows)
    x, y = grid.affine * places
    if grid.crs is not None and frame.crs is not None and grid.crs != frame.crs:
        x, y = transformer(grid.crs, frame.crs).transform(x, y)
    return np.asarray(x, float), np.asarray(y, float)


def look_at(image: NDArray[Any], grid: Grid, frame: Grid, shape: tuple[int, int]) -> NDArray[Any]:
    """A decimated image as the frame of another raster shows it, by the nearest pixels; white beyond.

    Args:
        image: (rows, cols, 3), of the whole of ``grid``.
        grid: of the raster that the image was made of.
        frame: of the other one.
        shape: rows and columns wanted.
    """
    rows, cols = (np.arange(count) + 0.5 for count in shape)
    col, row = np.meshgrid(cols * frame.width / shape[1], rows * frame.height / shape[0])
    x, y = _placed(frame, grid, col, row)
    inverse: Any = ~grid.affine
    col, row = inverse * (x, y)
    with np.errstate(invalid="ignore"):
        col, row = col * image.shape[1] / grid.width, row * image.shape[0] / grid.height
        inside = (col >= 0) & (row >= 0) & (col < image.shape[1]) & (row < image.shape[0])
    shown = np.full((*shape, 3), 255 if image.dtype == np.uint8 else 1, image.dtype)
    shown[inside] = image[row[inside].astype(int), col[inside].astype(int)]
    return shown
