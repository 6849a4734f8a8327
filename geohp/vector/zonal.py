"""Zonal statistics: what other rasters say of the pixels of each region."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling

from geohp.errors import VectorError
from geohp.raster.block import Block
from geohp.raster.gdal import numpy_dtype
from geohp.raster.grid import Grid, parse_crs, transformer
from geohp.raster.read.arrays import quantity_scale
from geohp.raster.read.labels import LabelRaster, opened_raster, warped_to
from geohp.raster.read.quantities import QuantityRaster
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles
from geohp.raster.read.validity import alpha_bands
from geohp.raster.sources.paths import is_remote
from geohp.raster.turns import continued, crosses_seam, turn_of
from geohp.vector.regions import Regions
from geohp.vector.value_counts import ValueCounts

if TYPE_CHECKING:
    from xarray import DataArray

Values = Callable[[Block], tuple[NDArray[Any], NDArray[np.bool_]]]
"""Gives numbers and validity, both (rows, cols), of a block."""

_MOMENTS = ("count", "sum", "mean", "std", "min", "max")
_EXAMPLE = "as in dsm.tif:mean,p90"
_FINER = 0.99  # share of another pixel that a smaller one covers
_OWN_CONFIDENCE = "give the confidence written with these labels"


@dataclass(frozen=True)
class Statistics:
    """Which statistics of which raster.

    Attributes:
        raster: a path or URL that GDAL opens, or an array with rioxarray's CRS and transform; its first band.
        operations: out of count, sum, mean, std, min, max, median and p0 to p100 (percentiles, to four digits).
        columns: what they are called; by default the raster's name, an underscore and the operation's.
        of_map: whether the raster must be of the label map, and lie on its pixel grid.
    """

    raster: str | Path | DataArray
    operations: Sequence[str] = ("mean",)
    columns: Sequence[str] | None = None
    of_map: bool = False

    def __post_init__(self) -> None:
        """Raises VectorError: an operation that is none."""
        for operation in self.operations:
            if operation not in _MOMENTS and _percentile(operation) is None:
                known = f"{', '.join(_MOMENTS)}, median and p0 to p100"
                raise VectorError(f"{operation!r} is no statistic", f"choose from {known}, {_EXAMPLE}")
        if not self.operations:
            raise VectorError(f"{self.name}: name the statistics to compute, {_EXAMPLE}")
        if self.columns is not None and len(self.columns) != len(self.operations):
            problem = f"{self.name}: {len(self.columns)} columns are named for {len(self.operations)} statistics"
            raise VectorError(problem, "name one for each")

    @classmethod
    def parse(cls, text: str) -> Statistics:
        """From the form ``RASTER:OPERATION,OPERATION``.

        Raises:
            VectorError: another form, or an operation that is none.
        """
        raster, colon, operations = text.rpartition(":")
        if not colon or not raster or "/" in operations or "\\" in operations:
            raise VectorError(f"{text!r}: name a raster and its statistics, {_EXAMPLE}")
        return cls(raster, tuple(operation.strip() for operation in operations.split(",") if operation.strip()))

    @property
    def name(self) -> str:
        """What the raster is called in columns."""
        if isinstance(self.raster, str | Path):
            text = str(self.raster)
            place = text.partition("?")[0] if is_remote(text) else text  # what follows may be a signature
            return re.sub(r"\W+", "_", Path(place).stem).strip("_") or "raster"
        return str(getattr(self.raster, "name", None) or "raster")

    @property
    def names(self) -> list[str]:
        """The columns."""
        default = [f"{self.name}_{operation}" for operation in self.operations]
        return default if self.columns is None else list(self.columns)


def confidence_of(raster: str | Path | DataArray) -> Statistics:
    """Mean and minimum of a confidence raster, which must be of the label map."""
    return Statistics(raster, ("mean", "min"), ("mean_confidence", "min_confidence"), of_map=True)


class _Sums(NamedTuple):
    """What adds up over the blocks of a region; squares are those of deviations from the mean."""

    pixels: float
    total: float
    squares: float
    least: float
    most: float

    def plus(self, other: _Sums) -> _Sums:
        """Those of both together."""
        squares = self.squares + other.squares
        if self.pixels and other.pixels:  # the deviations of their means are added (Chan, Golub and LeVeque)
            apart = other.total / other.pixels - self.total / self.pixels
            squares += apart**2 * (self.pixels * other.pixels / (self.pixels + other.pixels))
        return _Sums(
            self.pixels + other.pixels, self.total + other.total, squares,
            min(self.least, other.least), max(self.most, other.most),
        )  # fmt: skip


class ZonalAccumulator:
    """Statistics of one raster over the regions of a label map, gathered block by block.

    Attributes:
        unchanged: tells whether the raster's files are still what they were when it was opened.
    """

    def __init__(
        self,
        read: Values,
        operations: Sequence[str],
        columns: Sequence[str],
        unchanged: UnchangedFiles = NOTHING_TO_WATCH,
    ) -> None:
        """Take what gives values; for rasters see :func:`open_statistics`.

        Args:
            read: gives values and validity (rows, cols) of a block of the label map.
            operations: see :class:`Statistics`.
            columns: what each is called.
            unchanged: the files that the values come from.
        """
        self.unchanged = unchanged
        self._read, self._operations, self._columns = read, operations, columns
        ranks = {operation: _percentile(operation) for operation in operations}
        self._ranks = {operation: rank for operation, rank in ranks.items() if rank is not None}
        self._sums: dict[int, _Sums] = {}
        self._values = ValueCounts()

    def add(self, block: Block, parts: Regions, regions: NDArray[np.int64]) -> None:
        """Take in a block.

        Args:
            block: where it lies.
            parts: the parts of regions in it, counted from 1.
            regions: (parts.count,) which regions of the label map they are.

        Raises:
            SceneError: the raster cannot be read.
        """
        values, valid = self._read(block)
        counts, totals = parts.sums(valid), parts.sums(np.where(valid, values, 0))
        # From the mean: squares of large values, such as times, have not the digits for what they differ by.
        means = np.append(0, totals / np.maximum(counts, 1))[parts.ids]
        columns = (
            counts,
            totals,
            parts.sums(np.where(valid, values - means, 0) ** 2),
            parts.minima(np.where(valid, values, np.inf)),
            -parts.minima(np.where(valid, -values, np.inf)),
        )
        for region, *row in zip(regions.tolist(), *(column.tolist() for column in columns), strict=True):
            before = self._sums.get(region)
            self._sums[region] = _Sums(*row) if before is None else _Sums(*row).plus(before)
        if self._ranks:
            self._values.add(parts, regions, values, valid)

    def take(self, regions: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """The columns of regions that are complete, which are forgotten; NaN where a region has no valid pixel."""
        sums = np.array([self._sums.pop(region) for region in regions.tolist()], np.float64).reshape(-1, 5)
        columns = _moments(sums)
        if self._ranks:  # rounded a little, but never beyond all values
            percentiles = np.clip(self._values.take(regions, [*self._ranks.values()]), columns["min"], columns["max"])
            columns |= zip(self._ranks, percentiles, strict=True)
        return {name: columns[operation] for name, operation in zip(self._columns, self._operations, strict=True)}


def _moments(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Operations that are no percentiles, each (n,), of (n, 5) sums."""
    count, total, squares, least, most = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        some = np.where(count > 0, 1.0, np.nan)
        return {
            "count": count,
            "sum": total * some,
            "mean": mean,
            "std": np.sqrt(squares / count),
            "min": least * some,
            "max": most * some,
        }


@contextmanager
def open_statistics(request: Statistics, labels: LabelRaster) -> Iterator[ZonalAccumulator]:
    """Open the raster that statistics are asked of.

    A raster on another grid is resampled to the label map's as it is read: averaged where its pixels are smaller, the
    nearest pixel where they are larger, or the map lies across the antimeridian.

    Raises:
        SceneError: a raster that cannot be opened.
        VectorError: it cannot be brought to the label map's grid, or must lie on it and does not.
    """
    with opened_raster(request.raster) as (dataset, name):
        unchanged = UnchangedFiles(name, dataset.files)
        if request.of_map:
            check_of_map(dataset, name, labels)
        with dataset_on_grid(dataset, name, labels.grid, fractions=True) as resampled:
            scale = None if isinstance(request.raster, str | Path) else quantity_scale(request.raster, name)
            read = QuantityRaster(resampled, name, scale).read
            yield ZonalAccumulator(read, request.operations, request.names, unchanged)


def check_of_map(dataset: Any, name: str, labels: LabelRaster) -> None:
    """Refuse a raster of confidence that does not lie on the label map's grid, or was made of another map.

    Raises:
        VectorError: with the remedy.
    """
    check_made_alike(dataset, name, labels)
    own, grid = Grid.of(dataset), labels.grid
    if not own.coincides_with(grid):
        raise VectorError(
            f"{name} does not lie on the label map's pixel grid ({own.height} x {own.width} pixels instead of "
            f"{grid.height} x {grid.width}, or elsewhere)",
            _OWN_CONFIDENCE,
        )


def check_made_alike(dataset: Any, name: str, labels: LabelRaster) -> None:
    """Refuse a raster of confidence that says that it was made of another map.

    Raises:
        VectorError: with the remedy.
    """
    if (difference := labels.made_apart(dataset)) is not None:
        raise VectorError(f"{name} is of another map than {labels.name} ({difference})", _OWN_CONFIDENCE)


@contextmanager
def dataset_on_grid(dataset: Any, name: str, grid: Grid, *, fractions: bool = False) -> Iterator[Any]:
    """An open raster, resampled to a label map's grid as it is read unless it lies on it.

    Means of integers are rounded to such, unless ``fractions`` are asked for, so that its bands hold what they held;
    the numbers of a colour table, which stand for no quantities, have no mean then.

    Raises:
        VectorError: it cannot be brought there.
    """
    own = Grid.of(dataset)
    if own.coincides_with(grid):
        yield dataset
        return
    if grid.crs is None or own.crs is None or grid.gcps or own.gcps:
        raise VectorError(
            f"{name} cannot be brought to the label map's pixel grid, for one of them has no coordinate reference "
            "system, or ground control points",
            "warp it to the same grid first (gdalwarp)",
        )
    with _warped(dataset, name, own, grid, fractions=fractions) as warped:
        yield warped


def _warped(dataset: Any, name: str, own: Grid, grid: Grid, *, fractions: bool) -> Any:
    try:
        covered, meets = _pixels_covered(own, grid)
        finer = covered < _FINER if meets else _pixels_covered(grid, own)[0] > 1 / _FINER
        finer = finer and not crosses_seam(own, grid)
    except VectorError as error:
        raise VectorError(
            f"{name} cannot be brought to the label map's pixel grid ({error.problem})",
            "give rasters whose coordinate reference systems belong together",
        ) from error
    nodata = dataset.nodata if dataset.nodata is not None or numpy_dtype(dataset.dtypes[0]).kind != "f" else np.nan
    of_colours = not fractions and ColorInterp.palette in dataset.colorinterp
    resampling = Resampling.average if finer and not of_colours else Resampling.nearest
    add_alpha = nodata is None and not alpha_bands(dataset)
    means = {"dtype": "float64"} if finer and fractions else {}  # of a mask that are shares, not 0 and 1
    return warped_to(grid, dataset, name, resampling=resampling, nodata=nodata, add_alpha=add_alpha, **means)


def _pixels_covered(grid: Grid, other: Grid) -> tuple[float, bool]:
    """How many of another raster's pixels the middle one of a grid covers, and whether it lies on that.

    Raises:
        VectorError: nothing leads from one coordinate reference system to the other.
    """
    to_map: Any = grid.affine
    to_pixels: Any = ~other.affine
    corners = np.array([[0, 1, 0], [0, 0, 1]]) + np.floor([[grid.width / 2], [grid.height / 2]])
    x, y = transformer(grid.crs, other.crs).transform(*(to_map * corners))
    if (turn := turn_of(parse_crs(other.crs))) is not None:
        x = continued(x, np.zeros(3, np.int64), turn)
    cols, rows = to_pixels * (x, y)
    with np.errstate(invalid="ignore"):
        (right, sinks), (leans, down) = np.subtract([cols[1:], rows[1:]], [cols[:1], rows[:1]]).T
        return abs(right * down - sinks * leans), bool(0 <= cols[0] < other.width and 0 <= rows[0] < other.height)


def _percentile(operation: str) -> float | None:
    """The rank in per cent, or ``None`` where the operation is no percentile."""
    if operation == "median":
        return 50.0
    match = re.fullmatch(r"p(\d+(?:\.\d+)?)", operation)
    return float(match[1]) if match and float(match[1]) <= 100 else None
