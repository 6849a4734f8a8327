"""How much of a map each class covers, counted while the map is written: nothing is read again for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, QUANTITY_STEPS, LandCoverClass
from geohp.errors import VectorError
from geohp.raster.block import Block, BlockGrid
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster, complete_classes
from geohp.vector.measures import PixelAreas

TALLY = "classes"
"""Key of a finished block's note: by label, its pixels, their area in units of :class:`.PixelAreas`, and the sum of
their confidence in steps."""

HECTARE_M2 = 1e4

Tally = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class ClassArea:
    """How much of a map a class covers.

    Attributes:
        id, name: of the class.
        pixels: that have it.
        share: of the area that holds data, from 0 to 1.
        area_ha: true area on the ellipsoid in hectares; ``None`` of a map that does not lie on the Earth.
        mean_confidence: mean share of the class where it wins, from 0 to 1; ``None`` where it never does.
    """

    id: int
    name: str
    pixels: int
    share: float
    area_ha: float | None
    mean_confidence: float | None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> ClassArea:
        """What ``asdict`` made.

        Raises:
            TypeError, ValueError, KeyError, OverflowError: it is nothing of the kind.
        """
        share = float(stored["share"])
        area_ha, mean = (
            None if stored[name] is None else float(stored[name]) for name in ("area_ha", "mean_confidence")
        )
        pixels = int(stored["pixels"])
        if pixels >= 1 << 63:
            raise ValueError(f"{pixels:.3g} pixels")
        return cls(int(stored["id"]), str(stored["name"]), pixels, share, area_ha, mean)


def pixel_areas(grid: Grid) -> PixelAreas | None:
    """Areas of a map's pixels; ``None`` where it does not lie on the Earth."""
    if grid.pixel_size_m is None:
        return None
    try:
        return PixelAreas(grid)
    except VectorError:
        return None


def tally(block: Block, layers: Mapping[str, NDArray[np.uint8]], areas: PixelAreas | None) -> Tally:
    """What a finished block adds to the classes, for its note.

    Args:
        block: where it lies.
        layers: ``labels`` and ``confidence`` (rows, cols) uint8, 255 without data; without confidence its sums are 0.
        areas: of the map's pixels.
    """
    labels = layers["labels"].ravel()
    # One pass over both: pixels by label and confidence.
    pairs = labels.astype(np.uint16) << 8
    if "confidence" in layers:
        pairs |= layers["confidence"].ravel()
    counts = np.bincount(pairs, minlength=1 << 16).reshape(NODATA_LABEL + 1, -1)
    pixels, steps = counts.sum(1), counts @ np.arange(counts.shape[1])
    units = np.ones((1, 1), np.int64) if areas is None else areas.units(block)
    if units.size == 1:
        covered = pixels * units[0, 0]
    else:  # whole numbers below 2^53, so that the sum is exact
        weights = np.broadcast_to(units, block.shape).ravel()
        covered = np.bincount(labels, weights=weights, minlength=NODATA_LABEL + 1).astype(np.int64)
    return {
        str(label): [int(pixels[label]), int(covered[label]), int(steps[label])]
        for label in np.flatnonzero(pixels[:NODATA_LABEL])
    }


def class_areas(tallies: Iterable[Tally], classes: Sequence[LandCoverClass], grid: Grid) -> tuple[ClassArea, ...]:
    """The areas of all classes of a map, from the tallies of its blocks."""
    totals = {entry.id: np.zeros(3, np.int64) for entry in classes}
    for each in tallies:
        for label, counts in each.items():
            totals[int(label)] = totals.get(int(label), np.zeros(3, np.int64)) + np.array(counts, np.int64)
    areas = pixel_areas(grid)
    everything = max(1, sum(int(units) for _, units, _ in totals.values()))
    return tuple(
        ClassArea(
            id=entry.id,
            name=entry.name,
            pixels=int(pixels),
            share=int(units) / everything,
            area_ha=None if areas is None else int(units) * areas.unit_m2 / HECTARE_M2,
            mean_confidence=float(steps / QUANTITY_STEPS / pixels) if pixels else None,
        )
        for entry in classes
        for pixels, units, steps in [totals[entry.id]]
    )


def label_areas(raster: LabelRaster) -> tuple[ClassArea, ...]:
    """The areas of the classes of a label map, gone through block by block; of their confidence nothing is known.

    Args:
        raster: labels from 0 to 254. Those that it does not declare are classes, too.

    Raises:
        SceneError: it cannot be read.
        VectorError: labels beyond 254.
    """
    grid, areas = raster.grid, pixel_areas(raster.grid)
    blocks = BlockGrid(grid.height, grid.width).blocks
    tallies = [tally(block, {"labels": raster.read_bytes(block)}, areas) for block in blocks]
    occurring = sorted({int(label) for each in tallies for label in each})
    classes = complete_classes(raster.classes, np.array(occurring, np.int64))
    return tuple(replace(area, mean_confidence=None) for area in class_areas(tallies, classes, grid))


def area_columns(areas: Sequence[ClassArea]) -> dict[str, list[str]]:
    """Areas in words: by heading, a word for each class."""
    on_earth = all(area.area_ha is not None for area in areas)
    sizes = [f"{area.pixels:,}" if area.area_ha is None or not on_earth else hectares(area.area_ha) for area in areas]
    columns = {"ha" if on_earth else "px": sizes, "%": [f"{100 * area.share:.1f}" for area in areas]}
    if any(area.mean_confidence is not None for area in areas):
        means = (area.mean_confidence for area in areas)
        columns["mean confidence"] = ["-" if mean is None else f"{mean:.2f}" for mean in means]
    return columns if areas else {}


def hectares(area: float) -> str:
    """An area in hectares as people write it."""
    return f"{area:,.2f}" if area >= 1 or area == 0 else f"{area:.4f}"


def total_areas(maps: Sequence[Sequence[ClassArea]]) -> tuple[ClassArea, ...]:
    """The areas of several maps with the same classes together; where they overlap, twice.

    Where one of them does not lie on the Earth, or has no areas, shares are of pixels.
    """
    if not maps or not all(maps):
        return ()
    columns = list(zip(*maps, strict=True))
    on_earth = all(each.area_ha is not None for column in columns for each in column)

    def size(column: Sequence[ClassArea]) -> float:
        return sum(each.area_ha or 0.0 for each in column) if on_earth else sum(each.pixels for each in column)

    everything = sum(map(size, columns)) or 1.0
    return tuple(_joined(column, size(column) / everything, on_earth=on_earth) for column in columns)


def _joined(column: Sequence[ClassArea], share: float, *, on_earth: bool) -> ClassArea:
    pixels = sum(each.pixels for each in column)
    confidence = sum(each.pixels * (each.mean_confidence or 0.0) for each in column)
    area_ha = sum(each.area_ha or 0.0 for each in column) if on_earth else None
    return ClassArea(column[0].id, column[0].name, pixels, share, area_ha, confidence / pixels if pixels else None)


def tallies_in(notes: Iterable[Mapping[str, Any]]) -> list[Tally]:
    """The tallies in the notes of finished blocks."""
    return [note[TALLY] for note in notes if TALLY in note]
