"""A picture of what has changed: both dates side by side, and the change between them in the colours of what became."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.comparison.alignment import look_at
from geohp.comparison.dates import DateMap, Dates
from geohp.comparison.matrix import ChangeMatrix
from geohp.comparison.transitions import NODATA, Transitions
from geohp.credentials import without_credentials
from geohp.raster.grid import Grid
from geohp.raster.read.labels import open_labels, opened_raster
from geohp.raster.read.scene import open_scene
from geohp.reporting.figures import as_rgb, colourise, draw_panels, legend_handles

_SIDE_PX = 900


def draw_change(dates: Dates, change: Path, matrix: ChangeMatrix, transitions: Transitions) -> bytes:
    """The picture as the bytes of a PNG file.

    Args:
        dates: both of them; of scenes the images are shown, of maps the labels.
        change: the raster of transitions.
        matrix: how much there is of each.
        transitions: what its numbers mean.
    """
    with opened_raster(change) as (dataset, _):
        grid, shape = Grid.of(dataset), _decimated(dataset.shape)
        codes = dataset.read(1, out_shape=shape, resampling=Resampling.nearest)
    old, new = (look_at(*_image(date, transitions), grid, shape) for date in (dates.old, dates.new))
    changed = _overlaid(old, codes, transitions)
    names = [Path(without_credentials(date.name)).name for date in (dates.old, dates.new)]
    panels = [(names[0], old), (names[1], new), ("change", changed)]
    return draw_panels(panels, legend_handles(_legend(matrix, all_classes=not dates.old.is_scene)))


def _legend(matrix: ChangeMatrix, *, all_classes: bool) -> list[LandCoverClass]:
    """What has become of ground that changed, and how much; of maps with the classes that nothing has become."""
    gained = (matrix.values * ~np.eye(len(matrix.classes), dtype=bool)).sum(axis=0)
    return [
        replace(entry, name=f"{entry.name}: {size:,.4g} {matrix.unit} gained" if size else entry.name)
        for entry, size in zip(matrix.classes, gained.tolist(), strict=True)
        if size or all_classes
    ]


def _decimated(shape: tuple[int, int]) -> tuple[int, int]:
    factor = min(1.0, _SIDE_PX / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _image(date: DateMap, transitions: Transitions) -> tuple[NDArray[Any], Grid]:
    """A decimated look at a date, (rows, cols, 3), and the grid of all of it."""
    if date.is_scene:
        with open_scene(date.name) as scene:
            data, valid = scene.thumbnail(_SIDE_PX)
            image = as_rgb(data).copy()
            image[~valid] = 1
            return (255 * image).round().astype(np.uint8), scene.grid
    with open_labels(date.labels) as raster, opened_raster(date.labels) as (dataset, _):
        labels = dataset.read(raster.band, out_shape=_decimated(dataset.shape), resampling=Resampling.nearest)
        known = np.isin(labels, [entry.id for entry in transitions.classes])
        return colourise(np.where(known, labels, NODATA_LABEL).astype(np.uint8), transitions.classes), raster.grid


def _overlaid(image: NDArray[np.uint8], codes: NDArray[np.uint16], transitions: Transitions) -> NDArray[np.uint8]:
    """What has changed in colour over the old date, pale and grey."""
    pale = 110 + 0.55 * image.mean(axis=2, keepdims=True).repeat(3, 2)
    shown: NDArray[np.uint8] = pale.round().astype(np.uint8)
    shown[codes == NODATA] = 255
    for code in np.unique(codes[codes != NODATA]).tolist():
        entry = transitions.described([code])[0]
        then, now = transitions.ids(code)
        if then != now:
            shown[codes == code] = entry.rgb
    return shown
