"""How much of each class has become how much of which: counted in pixels and areas, as a table and as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import LandCoverClass
from geohp.comparison.reading import Compared
from geohp.comparison.transitions import Transitions
from geohp.inference.areas import HECTARE_M2, hectares, pixel_areas
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.reporting.text_tables import align_rows

BlockCounts = Mapping[str, Any]
"""What a block adds, for the note of a finished one: ``transitions``, by transition its pixels and area, and ``unsure``
and ``small``, pixels and area of the change that was suppressed. Areas are in units of
:class:`geohp.vector.measures.PixelAreas`."""


@dataclass(frozen=True)
class Amount:
    """So much ground.

    Attributes:
        pixels: how many.
        area_ha: true area on the ellipsoid; ``None`` where the rasters do not lie on the Earth.
    """

    pixels: int
    area_ha: float | None


@dataclass(frozen=True)
class ChangeMatrix:
    """What has become what.

    Attributes:
        classes: in the order of rows (then) and columns (now).
        pixels: (K, K), those that have not changed on the diagonal.
        areas_ha: (K, K); ``None`` where the rasters do not lie on the Earth.
        unsure: change that was suppressed because a date was not sure enough of its class.
        small: change that was suppressed because its region was too small.
    """

    classes: tuple[LandCoverClass, ...]
    pixels: NDArray[np.int64]
    areas_ha: NDArray[np.float64] | None
    unsure: Amount
    small: Amount

    @property
    def changed(self) -> Amount:
        """All change that counts."""
        off = ~np.eye(len(self.classes), dtype=bool)
        area = None if self.areas_ha is None else float(self.areas_ha[off].sum())
        return Amount(int(self.pixels[off].sum()), area)

    @property
    def compared(self) -> Amount:
        """All ground that has data at both dates."""
        return Amount(int(self.pixels.sum()), None if self.areas_ha is None else float(self.areas_ha.sum()))

    @property
    def suppressed_share(self) -> float:
        """Of all pixels that differ, the share whose change was suppressed, from 0 to 1."""
        suppressed = self.unsure.pixels + self.small.pixels
        return suppressed / max(1, suppressed + self.changed.pixels)

    @property
    def values(self) -> NDArray[Any]:
        """(K, K) hectares, or pixels where there are none."""
        return self.pixels if self.areas_ha is None else self.areas_ha

    @property
    def unit(self) -> str:
        """Of the values: ``ha`` or ``px``."""
        return "px" if self.areas_ha is None else "ha"

    def largest(self, count: int) -> list[tuple[LandCoverClass, LandCoverClass, float]]:
        """The largest changes, at most so many: then, now, and how much in the matrix's unit."""
        values = self.values * ~np.eye(len(self.classes), dtype=bool)
        order = np.argsort(-values, axis=None, kind="stable")[:count]
        pairs = (np.unravel_index(place, values.shape) for place in order)
        return [(self.classes[a], self.classes[b], float(values[a, b])) for a, b in pairs if values[a, b] > 0]

    def to_csv(self) -> str:
        """A table with a row for each class then, a column for each class now, and sums."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([f"from \\ to ({self.unit})", *(_plain(entry.name) for entry in self.classes), "sum"])
        values = self.values.tolist()
        for entry, row in zip(self.classes, values, strict=True):
            writer.writerow([_plain(entry.name), *map(_number, row), _number(sum(row))])
        sums = self.values.sum(axis=0).tolist()
        writer.writerow(["sum", *map(_number, sums), _number(sum(sums))])
        return text.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {
            "classes": [entry.name for entry in self.classes],
            "pixels": self.pixels.tolist(),
            "areas_ha": None if self.areas_ha is None else self.areas_ha.tolist(),
            **{name: vars(getattr(self, name)) for name in ("compared", "changed", "unsure", "small")},
            "suppressed_share": self.suppressed_share,
        }


class Counter:
    """Counts transitions block by block."""

    def __init__(self, grid: Grid, transitions: Transitions) -> None:
        self._areas, self._transitions = pixel_areas(grid), transitions

    def count(self, block: Block, compared: Compared, kept: NDArray[np.bool_]) -> BlockCounts:
        """What a block adds.

        Args:
            block: where it lies.
            compared: both dates.
            kept: which pixels (rows, cols) have changed and count.
        """
        units = np.ones((1, 1), np.int64) if self._areas is None else self._areas.units(block)
        weights = np.broadcast_to(units, block.shape)
        codes = self._transitions.codes(compared.old, np.where(kept, compared.new, compared.old))
        here = compared.old != 255
        unsure = compared.changed & ~compared.trusted
        suppressed = {"unsure": unsure, "small": compared.changed & compared.trusted & ~kept}
        present, place = np.unique(codes[here], return_inverse=True)
        pixels = np.bincount(place, minlength=len(present))
        areas = np.bincount(place, weights[here], len(present))  # whole numbers below 2^53
        rows = zip(present.tolist(), pixels.tolist(), areas.tolist(), strict=True)
        return {
            "transitions": {str(code): [count, int(area)] for code, count, area in rows},
            **{name: [int(mask.sum()), int(weights[mask].sum())] for name, mask in suppressed.items()},
        }

    def matrix(self, counts: Iterable[BlockCounts]) -> ChangeMatrix:
        """The sum of all blocks."""
        classes = self._transitions.classes
        place = {entry.id: number for number, entry in enumerate(classes)}
        totals = np.zeros((2, len(classes), len(classes)), np.int64)
        suppressed = {"unsure": np.zeros(2, np.int64), "small": np.zeros(2, np.int64)}
        for each in counts:
            for code, amounts in each["transitions"].items():
                old, new = self._transitions.ids(int(code))
                totals[:, place[old], place[new]] += amounts
            for name, total in suppressed.items():
                total += each[name]
        pixels, units = totals
        unit_ha = None if self._areas is None else self._areas.unit_m2 / HECTARE_M2
        amounts = {
            name: Amount(int(total[0]), None if unit_ha is None else float(total[1] * unit_ha))
            for name, total in suppressed.items()
        }
        return ChangeMatrix(
            classes, pixels, None if unit_ha is None else np.float64(unit_ha) * units.astype(np.float64), **amounts
        )


def _number(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in "=+-@" else name


def matrix_table(matrix: ChangeMatrix, width: int) -> str:
    """The matrix as lines for a terminal; where it is wider than that, the largest changes instead."""
    values = matrix.values
    rows = [[f"from \\ to ({matrix.unit})", *(entry.name for entry in matrix.classes), "sum"]]
    for entry, row in zip(matrix.classes, values, strict=True):
        rows.append([entry.name, *map(_short, row), _short(row.sum())])
    rows.append(["sum", *map(_short, values.sum(axis=0)), _short(values.sum())])
    lines = align_rows(rows)
    if len(lines[0]) <= width:
        return "\n".join(lines)
    largest = [[then.name, "→", now.name, f"{_short(size)} {matrix.unit}"] for then, now, size in matrix.largest(12)]
    return "\n".join(align_rows(largest)) if largest else ""


def _short(value: float) -> str:
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return hectares(value)
