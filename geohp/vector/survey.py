"""The first pass over a label raster: which parts of its blocks belong together, and what the regions are."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geohp.errors import VectorError
from geohp.files.atomic import temporary_failure
from geohp.progress import Progress, no_progress
from geohp.raster.block import Block, BlockGrid
from geohp.raster.read.labels import LabelRaster, too_many_values
from geohp.vector.cleaning import Borders, contract, merge_small, shared_borders
from geohp.vector.measures import PixelAreas
from geohp.vector.regions import Regions, find_regions, rank_by_first


def survey(
    raster: LabelRaster,
    blocks: BlockGrid,
    areas: PixelAreas,
    *,
    min_area_m2: float = 0,
    most_values: int | None = None,
    progress: Progress = no_progress,
) -> Survey:
    """Go through a raster once and find its regions; memory grows with their number, not with that of the pixels.

    Args:
        raster: the labels.
        blocks: how it is cut.
        areas: of its pixels.
        min_area_m2: smaller regions go to a neighbour, see :func:`geohp.vector.cleaning.merge_small`.
        most_values: how many different ones labels may have; any number by default.
        progress: called after every block, as half of the stage "polygons".

    Raises:
        SceneError: when a raster cannot be read.
        VectorError: it has more values.
    """
    pieces = _Pieces(blocks, with_borders=min_area_m2 > 0)
    values = set[int]()
    for number, block in enumerate(blocks.blocks):
        regions = find_regions(*raster.read(block))
        if most_values is not None:
            values.update(np.unique(regions.values).tolist())
            _refuse_measurements(values, most_values, raster.name)
        pieces.add(number, block, regions, areas)
        progress("polygons", number + 1, 2 * len(blocks.blocks))
    return pieces.joined(areas.unit_m2, min_area_m2)


def _refuse_measurements(values: set[int], most: int, name: str) -> None:
    if len(values) > most:
        raise VectorError(
            too_many_values(name, most),
            "give a label map, name its labels in a legend, or polygonize it all the same with {option}",
            option="any_values",
            value=True,
        )


@dataclass(frozen=True)
class RegionTable:
    """What is known of regions 1, 2, ... (row 0 is region 1).

    Attributes:
        values: (n,) labels.
        pixels: (n,) numbers of pixels.
        areas_m2: (n,) true areas.
    """

    values: NDArray[Any]
    pixels: NDArray[np.int64]
    areas_m2: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)


class Survey:
    """How the pieces of blocks make up the regions of a raster.

    A piece is the part of a region that is connected within one block; pieces are numbered from 1 through all blocks.

    Attributes:
        blocks: how the raster is cut.
        table: the regions, numbered in the order of their first pixels, row by row through the raster.
        blocks_left: (n + 1,) in how many blocks a region has pieces.
    """

    def __init__(self, pieces: _PieceIndex, region_of_piece: NDArray[np.int64], table: RegionTable) -> None:
        """Put together what was found; see :func:`survey`."""
        self.blocks, self.table = pieces.blocks, table
        self._pieces, self._region_of_piece = pieces, region_of_piece  # of all pieces, 0 for piece 0
        self.blocks_left = np.zeros(len(table) + 1, np.int64)
        for number in range(len(self.blocks.blocks)):
            self.blocks_left[self.regions_in(number)] += 1

    def regions_in(self, number: int) -> NDArray[np.int64]:
        """The regions that have pieces in a block, ascending."""
        first, last = self._pieces.offsets[number : number + 2]
        return np.unique(self._region_of_piece[first + 1 : last + 1])

    def parts(self, number: int) -> Regions:
        """The parts of regions that lie in a block, each as one whether connected there or not.

        Returns:
            the parts, counted from 1 in the order of :meth:`regions_in`.
        """
        regions, lengths = self._regions_of_runs(number)
        numbers = self.regions_in(number)
        of_run = np.where(regions > 0, np.searchsorted(numbers, regions) + 1, 0).astype(np.int32)
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        return Regions(self.blocks.blocks[number].shape, starts, of_run, self.table.values[numbers - 1])

    def regions(self, number: int) -> NDArray[np.int32]:
        """The regions of a block's pixels and of those around it.

        Returns:
            (rows + 2, cols + 2), 0 where there is no data or no raster.
        """
        rows, cols = self.blocks.blocks[number].shape
        around = np.zeros((rows + 2, cols + 2), np.int32)
        around[1:-1, 1:-1] = np.repeat(*self._regions_of_runs(number)).reshape(rows, cols)
        place: dict[int, int | slice] = {-1: 0, 0: slice(1, -1), 1: -1}
        for down, right in product(place, repeat=2):
            neighbour = self.blocks.neighbour(number, down, right)
            if neighbour not in (None, number):
                pieces = self._pieces.margins[neighbour].facing(-down, -right)
                around[place[down], place[right]] = self._region_of_piece[pieces]
        return around

    def _regions_of_runs(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The region of each run of a block, 0 where there is no data, and its pixels."""
        first, last = self._pieces.offsets[number : number + 2]
        lookup = self._region_of_piece[first : last + 1].astype(np.int32)
        lookup[0] = 0
        pieces, lengths = self._pieces.runs.read(number)
        return lookup[pieces], lengths


class _Runs:
    """The runs of every block in a temporary file: to unpack them is faster than to find them again."""

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="geohp-")  # noqa: SIM115 - closed, and gone, with this object
        except OSError as error:
            raise temporary_failure(error) from error
        self._offsets = [0]

    def append(self, pieces: NDArray[np.int32], lengths: NDArray[np.int64]) -> None:
        """Keep the next block's: the piece of each run, and its pixels.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self._file.write(pieces.astype(np.int32).tobytes())
            self._file.write(lengths.astype(np.int32).tobytes())
            self._file.flush()
        except OSError as error:
            raise temporary_failure(error) from error
        self._offsets.append(self._offsets[-1] + len(pieces))

    def read(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Pieces and lengths of a block's runs."""
        start, count = self._offsets[number], self._offsets[number + 1] - self._offsets[number]
        self._file.seek(8 * start)
        both = np.frombuffer(self._file.read(8 * count), np.int32)
        return both[:count], both[count:]


class _Margin(NamedTuple):
    """The pieces along a block's four sides; 0 for none."""

    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Regions, offset: int) -> _Margin:
        """That of a block whose pieces are numbered on from ``offset``."""
        rows, cols = pieces.shape
        if not pieces.count:  # most of a raster may be empty: no memory for that
            none = np.zeros(1, np.int64)
            return cls(*(np.broadcast_to(none, side) for side in (cols, cols, rows, rows)))
        top, left = np.arange(cols), np.arange(rows) * cols
        sides = (pieces.at(pixels).astype(np.int64) for pixels in (top, top + left[-1], left, left + top[-1]))
        return cls(*(np.where(ids > 0, ids + offset, 0) for ids in sides))

    def facing(self, down: int, right: int) -> NDArray[np.int64]:
        """Those next to the block that lies so many blocks down and right: a side, or the piece in a corner."""
        if down == 0:
            return self.left if right < 0 else self.right
        side = self.top if down < 0 else self.bottom
        return side if right == 0 else side[0 if right < 0 else -1]


@dataclass(frozen=True)
class _PieceIndex:
    """Where the pieces are.

    Attributes:
        blocks: how the raster is cut.
        runs, margins: of each block.
        offsets: how many pieces lie in the blocks before each, and in all.
    """

    blocks: BlockGrid
    runs: _Runs = field(default_factory=_Runs)
    margins: list[_Margin] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])


class _PieceTable(NamedTuple):
    """Of every piece: label, pixels, area in units, and first pixel, counted row by row through the raster."""

    values: NDArray[Any]
    pixels: NDArray[np.int64]
    units: NDArray[np.int64]
    first: NDArray[np.int64]


class _Pieces:
    """The pieces of the blocks gone through so far."""

    def __init__(self, blocks: BlockGrid, *, with_borders: bool) -> None:
        self._index = _PieceIndex(blocks)
        self._tables: list[_PieceTable] = []
        self._same_region: list[NDArray[np.int64]] = []  # (2, n) pieces of two blocks, from 0
        self._borders: list[Borders] | None = [] if with_borders else None

    def add(self, number: int, block: Block, pieces: Regions, areas: PixelAreas) -> None:
        """Take in the next block."""
        index, offset = self._index, self._index.offsets[-1]
        index.offsets.append(offset + pieces.count)
        row, col = np.divmod(pieces.first, block.width)
        first = (row + block.row) * index.blocks.width + col + block.col
        units = pieces.sums(areas.units(block)).astype(np.int64)  # exact: below 2^53
        self._tables.append(_PieceTable(pieces.values, pieces.pixel_counts(), units, first))
        index.runs.append(pieces.of_run, pieces.lengths)
        index.margins.append(_Margin.of(pieces, offset))
        if self._borders is not None and pieces.count:
            low, high, length = shared_borders(pieces.ids)
            self._borders.append(Borders(low + offset, high + offset, length))
        for down, right in ((-1, 0), (0, -1)):
            neighbour = index.blocks.neighbour(number, down, right)
            if neighbour is not None:
                sides = index.margins[neighbour].facing(-down, -right), index.margins[number].facing(down, right)
                self._touch((neighbour, number), np.stack(sides))

    def _touch(self, numbers: tuple[int, int], sides: NDArray[np.int64]) -> None:
        """Note which pieces of two blocks, (2, pixels) along their common side, go on in each other or only border."""
        pairs, length = np.unique(sides[:, (sides > 0).all(axis=0)], axis=1, return_counts=True)
        values = [
            self._tables[number].values[pieces - 1 - self._index.offsets[number]]
            for number, pieces in zip(numbers, pairs, strict=True)
        ]
        same = values[0] == values[1]
        self._same_region.append(pairs[:, same] - 1)
        if self._borders is not None:
            one, other = pairs[:, ~same] - 1
            self._borders.append(Borders(one, other, length[~same]))

    def joined(self, unit_m2: float, min_area_m2: float) -> Survey:
        """The regions that the pieces make up, small ones merged."""
        table = _PieceTable(*(np.concatenate(column) for column in zip(*self._tables, strict=True)))
        region, values = self._regions(table)
        if self._borders and len(values):
            units = _summed(table.units, region, len(values))
            borders = contract(Borders.joined(self._borders), region)
            merged, values = merge_small(values, units, borders, min_area_m2 / unit_m2)
            region = merged[region]
        pixels, units = (_summed(column, region, len(values)) for column in (table.pixels, table.units))
        regions = RegionTable(values, pixels, np.asarray(units * unit_m2, np.float64))
        return Survey(self._index, np.concatenate([np.zeros(1, np.int64), region + 1]), regions)

    def _regions(self, table: _PieceTable) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The region, from 0, of each piece, and the labels of the regions."""
        count = self._index.offsets[-1]
        if not count:
            return np.empty(0, np.int64), table.values
        same = np.concatenate([np.empty((2, 0), np.int64), *self._same_region], axis=1)
        graph = coo_array((np.ones(same.shape[1], np.int8), (same[0], same[1])), shape=(count, count))
        _, component = connected_components(graph, directed=False)
        # Regions are numbered by their first pixels: pieces looked at in that order, which blocks are not.
        order = np.argsort(table.first)
        ranked, first = rank_by_first(component[order])
        region = np.empty(count, np.int64)
        region[order] = ranked - 1
        return region, table.values[order[first]]


def _summed(values: NDArray[Any], group: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    sums = np.zeros(n, np.int64)
    np.add.at(sums, group, values)
    return sums
