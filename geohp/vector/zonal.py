"""Zonal statistics: what other rasters say of the pixels of each region."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geohp.errors import SceneError, VectorError
from geohp.raster.block import Block
from geohp.raster.gdal import FAILURES, gdal_message
from geohp.raster.grid import Grid
from geohp.raster.read.labels import opened_raster, warped_to
from geohp.vector.regions import Regions

if TYPE_CHECKING:
    from xarray import DataArray

_MOMENTS = ("count", "sum", "mean", "std", "min", "max")

# Bits of a 64-bit float that percentiles are told apart by: sign, exponent and 15 of the fraction. What a region's
# values amount to then stays small however many pixels it has.
_DROPPED_BITS = np.uint64(52 - 15)
_KEY_BITS = np.uint64(64 - 52 + 15 + 1)
_KEY_MASK = (np.uint64(1) << _KEY_BITS) - np.uint64(1)
_MIDDLE = np.uint64(1) << (_KEY_BITS - np.uint64(1))


@dataclass(frozen=True)
class Statistics:
    """Which statistics of which raster.

    Attributes:
        raster: a path or URL that GDAL opens, or an array with rioxarray's CRS and transform; its first band.
        operations: out of count, sum, mean, std, min, max, median and p0 to p100 (percentiles).
        columns: what they are called; by default the raster's name, an underscore and the operation's.
        same_grid: whether the raster must lie on the label map's pixel grid.
    """

    raster: str | Path | DataArray
    operations: Sequence[str] = ("mean",)
    columns: Sequence[str] | None = None
    same_grid: bool = False

    def __post_init__(self) -> None:
        """Raises VectorError: an operation that is none."""
        for one in self.operations:
            if one not in _MOMENTS and _percentile(one) is None:
                raise VectorError(
                    f"{one!r} is no statistic: choose from {', '.join(_MOMENTS)}, median and p0 to p100, as in "
                    "dsm.tif:mean,p90."
                )
        if not self.operations:
            raise VectorError(f"{self.name}: name the statistics to compute, as in dsm.tif:mean,p90.")

    @classmethod
    def parse(cls, text: str) -> Statistics:
        """From the form ``RASTER:OPERATION,OPERATION``.

        Raises:
            VectorError: another form, or an operation that is none.
        """
        raster, colon, operations = text.rpartition(":")
        if not colon or not raster or "/" in operations or "\\" in operations:
            raise VectorError(f"{text!r}: name a raster and its statistics, as in dsm.tif:mean,p90.")
        return cls(raster, tuple(one.strip() for one in operations.split(",") if one.strip()))

    @property
    def name(self) -> str:
        """What the raster is called in columns."""
        if isinstance(self.raster, str | Path):
            return re.sub(r"\W+", "_", Path(str(self.raster)).stem).strip("_") or "raster"
        return str(getattr(self.raster, "name", None) or "raster")

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self.columns) if self.columns is not None else [f"{self.name}_{one}" for one in self.operations]


def confidence_of(raster: str | Path | DataArray) -> Statistics:
    """Mean and minimum of a confidence raster, which must lie on the label map's grid."""
    return Statistics(raster, ("mean", "min"), ("mean_confidence", "min_confidence"), same_grid=True)


class _Sums(NamedTuple):
    """What adds up over the blocks of a region."""

    pixels: float
    total: float
    squares: float
    least: float
    most: float


class Zonal:
    """Statistics of one raster over the regions of a label map, gathered block by block."""

    def __init__(self, dataset: Any, wanted: Statistics, name: str) -> None:
        """Take an open dataset on the label map's grid; see :func:`open_statistics`."""
        self._dataset, self._wanted, self._name = dataset, wanted, name
        self._ranked = any(_percentile(one) is not None for one in wanted.operations)
        self._open: dict[int, _Sums] = {}
        self._values: dict[int, list[tuple[NDArray[np.uint64], NDArray[np.int64]]]] = {}

    def add(self, block: Block, pieces: Regions, numbers: NDArray[np.int64]) -> None:
        """Take in a block.

        Args:
            block: where it lies.
            pieces: its regions, counted from 1 within the block.
            numbers: (pieces.count,) which regions of the label map they are.

        Raises:
            SceneError: the raster cannot be read.
        """
        values, valid = self._read(block)
        zeroed = np.where(valid, values, 0)
        sums = (
            pieces.sums(valid),
            pieces.sums(zeroed),
            pieces.sums(zeroed * zeroed),
            pieces.minima(np.where(valid, values, np.inf)),
            -pieces.minima(np.where(valid, -values, np.inf)),
        )
        for number, *found in zip(numbers.tolist(), *(part.tolist() for part in sums), strict=True):
            one, other = _Sums(*found), self._open.get(number)
            self._open[number] = one if other is None else _Sums(
                one.pixels + other.pixels, one.total + other.total, one.squares + other.squares,
                min(one.least, other.least), max(one.most, other.most),
            )  # fmt: skip
        if self._ranked:
            self._rank(pieces, numbers, values, valid)

    def take(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """The columns of regions that are complete, which are forgotten; NaN where a region has no valid pixel."""
        sums = np.array([self._open.pop(number) for number in numbers.tolist()], np.float64).reshape(-1, 5)
        count, total, squares, least, most = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            some = np.where(count > 0, 1.0, np.nan)
            moments = {
                "count": count,
                "sum": total * some,
                "mean": mean,
                "std": np.sqrt(np.maximum(squares / count - mean**2, 0)),
                "min": least * some,
                "max": most * some,
            }
        wanted = [_percentile(one) for one in self._wanted.operations]
        ranks = [rank for rank in wanted if rank is not None]
        percentiles = self._percentiles(numbers, ranks) if ranks else {}
        return {
            column: moments[one] if rank is None else percentiles[rank]
            for column, one, rank in zip(self._wanted.names, self._wanted.operations, wanted, strict=True)
        }

    def _read(self, block: Block) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        try:
            stored = self._dataset.read(1, window=block.window)
            valid = self._dataset.read_masks(1, window=block.window) > 0
        except FAILURES as error:
            raise SceneError(
                f"{self._name} cannot be read at row {block.row}, column {block.col} of the label map "
                f"({gdal_message(error)}): the file may be damaged."
            ) from error
        values = stored.astype(np.float64) * self._dataset.scales[0] + self._dataset.offsets[0]
        return values, valid & np.isfinite(values)

    def _rank(
        self, pieces: Regions, numbers: NDArray[np.int64], values: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> None:
        """Count the different values of each region."""
        ids = pieces.ids
        chosen = valid & (ids > 0)
        # Piece and value in one number: sorting plain numbers is many times faster than sorting by two.
        both = np.sort((ids[chosen].astype(np.uint64) << _KEY_BITS) | _sortable(values[chosen]))
        at = np.flatnonzero(np.diff(both, prepend=np.uint64(0)))  # no number is 0, for pieces count from 1
        counts = np.diff(at, append=len(both))
        keys, owner = both[at] & _KEY_MASK, (both[at] >> _KEY_BITS).astype(np.int64)
        starts = np.flatnonzero(np.diff(owner, prepend=0))
        for piece, part, count in zip(
            owner[starts].tolist(), np.split(keys, starts[1:]), np.split(counts, starts[1:]), strict=False
        ):
            kept = self._values.setdefault(int(numbers[piece - 1]), [])
            kept.append((part, count))
            if len(kept) > 8:
                kept[:] = [_joined(kept)]

    def _percentiles(self, numbers: NDArray[np.int64], ranks: Sequence[float]) -> dict[float, NDArray[np.float64]]:
        found = np.full((len(ranks), len(numbers)), np.nan)
        for index, number in enumerate(numbers.tolist()):
            kept = self._values.pop(number, None)
            if kept:
                keys, counts = _joined(kept)
                last = np.cumsum(counts) - 1  # place of the last pixel of each value
                place = np.array(ranks) / 100 * last[-1]
                low, high = (keys[np.searchsorted(last, at)] for at in (np.floor(place), np.ceil(place)))
                low, high = _unsorted(low), _unsorted(high)
                found[:, index] = low + (high - low) * (place - np.floor(place))
        return dict(zip(ranks, found, strict=True))


@contextmanager
def open_statistics(wanted: Statistics, grid: Grid) -> Iterator[Zonal]:
    """Open the raster that statistics are wanted of.

    A raster on another grid is resampled to the label map's as it is read: averaged where its pixels are smaller, the
    nearest pixel where they are larger.

    Raises:
        SceneError: a raster that cannot be opened.
        VectorError: it cannot be brought to the label map's grid, or must lie on it and does not.
    """
    with opened_raster(wanted.raster) as (dataset, name):
        found = Grid.of(dataset)
        if _same(found, grid):
            yield Zonal(dataset, wanted, name)
            return
        if wanted.same_grid:
            raise VectorError(
                f"{name} does not lie on the label map's pixel grid ({found.height} x {found.width} pixels instead of "
                f"{grid.height} x {grid.width}, or elsewhere): give the confidence written with these labels."
            )
        if grid.crs is None or found.crs is None or grid.gcps or found.gcps:
            raise VectorError(
                f"{name} cannot be brought to the label map's pixel grid, for one of them has no coordinate reference "
                "system, or ground control points: warp it to the same grid first (gdalwarp)."
            )
        with _warped(dataset, name, found, grid) as warped:
            yield Zonal(warped, wanted, name)


def _same(one: Grid, other: Grid) -> bool:
    """Whether two rasters' pixels are the same places."""
    if one.shape != other.shape or len(one.gcps) != len(other.gcps):
        return False
    if one.gcps:
        mine, theirs = (np.array([(p.row, p.col, p.x, p.y) for p in grid.gcps]) for grid in (one, other))
        return bool(np.allclose(mine, theirs, rtol=1e-12))
    return bool(one.transform.almost_equals(other.transform, 1e-9))


def _warped(dataset: Any, name: str, found: Grid, grid: Grid) -> Any:
    pixel, *_ = rasterio.warp.calculate_default_transform(
        found.crs, grid.crs, found.width, found.height, *dataset.bounds
    )
    finer = abs(pixel.determinant) < 0.99 * abs(grid.transform.determinant)
    nodata = dataset.nodata if dataset.nodata is not None or np.dtype(dataset.dtypes[0]).kind != "f" else np.nan
    return warped_to(
        grid,
        dataset,
        name,
        resampling=Resampling.average if finer else Resampling.nearest,
        nodata=nodata,
        add_alpha=nodata is None,
    )


def _percentile(operation: str) -> float | None:
    """The rank in per cent, or ``None`` where the operation is no percentile."""
    if operation == "median":
        return 50.0
    match = re.fullmatch(r"p(\d+(?:\.\d+)?)", operation)
    return float(match[1]) if match and float(match[1]) <= 100 else None


def _sortable(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Floats as integers in the same order, rounded to the bits that count."""
    bits = (values + 0.0).view(np.uint64)  # adding makes -0 a 0
    half = np.uint64(1) << (_DROPPED_BITS - np.uint64(1))
    magnitude = ((bits & np.uint64(2**63 - 1)) + half) >> _DROPPED_BITS
    return np.where(bits >> np.uint64(63), _MIDDLE - magnitude, _MIDDLE + magnitude)


def _unsorted(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """What :func:`_sortable` made of floats, back."""
    negative = keys < _MIDDLE
    magnitude = np.where(negative, _MIDDLE - keys, keys - _MIDDLE) << _DROPPED_BITS
    return np.where(negative, -magnitude.view(np.float64), magnitude.view(np.float64))


def _joined(
    kept: Sequence[tuple[NDArray[np.uint64], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Different values, ascending, and how often each occurs."""
    if len(kept) == 1:
        return kept[0]
    keys, inverse = np.unique(np.concatenate([keys for keys, _ in kept]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, inverse, np.concatenate([counts for _, counts in kept]))
    return keys, counts
