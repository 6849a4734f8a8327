"""The first pass over a label raster: which parts of its blocks belong together, and what the regions are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geohp.files import temporary_failure
from geohp.raster.block import Block
from geohp.raster.blocks import BlockGrid
from geohp.raster.read.labels import LabelRaster
from geohp.vector.cleaning import Edges, contract, merge_small, shared_borders, sum_pairs
from geohp.vector.measures import PixelAreas
from geohp.vector.regions import Regions, find_regions, rank_by_first

Step = Callable[[], None]


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


class Runs:
    """The runs of every block in a temporary file: to unpack them is faster than to find them again."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="geohp-")  # noqa: SIM115 - closed, and gone, with this object
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


class Margin(NamedTuple):
    """The pieces along a block's four sides; 0 for none."""

    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


class Survey:
    """How the pieces of blocks make up the regions of a raster.

    A piece is the part of a region that is connected within one block; pieces are numbered from 1 through all blocks.

    Attributes:
        layout: the blocks.
        table: the regions, numbered in the order of their first pixels, row by row through the raster.
        blocks_left: (n + 1,) in how many blocks a region has pieces.
    """

    def __init__(
        self, layout: BlockGrid, runs: Runs, offsets: NDArray[np.int64], margins: list[Margin],
        regions: NDArray[np.int64], table: RegionTable,
    ) -> None:  # fmt: skip
        """Put together what was found; see :func:`survey`."""
        self.layout, self.table = layout, table
        self._runs, self._offsets, self._margins = runs, offsets, margins
        self._regions = regions  # of every piece, 0 for piece 0
        self.blocks_left = np.zeros(len(table) + 1, np.int64)
        for number in range(len(layout.blocks)):
            self.blocks_left[self.regions_in(number)] += 1

    def regions_in(self, number: int) -> NDArray[np.int64]:
        """The regions that have pieces in a block, ascending."""
        return np.unique(self._regions[self._offsets[number] + 1 : self._offsets[number + 1] + 1])

    def _regions_of_runs(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The region of each run of a block, 0 where there is no data, and its pixels."""
        lookup = self._regions[self._offsets[number] : self._offsets[number + 1] + 1].astype(np.int32)
        lookup[0] = 0
        pieces, lengths = self._runs.read(number)
        return lookup[pieces], lengths

    def parts(self, number: int) -> Regions:
        """The parts of regions that lie in a block, each as one whether connected there or not.

        Returns:
            the parts, counted from 1 in the order of :meth:`regions_in`.
        """
        _, _, rows, cols = self.layout.blocks[number]
        regions, lengths = self._regions_of_runs(number)
        numbers = self.regions_in(number)
        of_run = np.where(regions > 0, np.searchsorted(numbers, regions) + 1, 0).astype(np.int32)
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        nowhere = np.empty(0, np.int64)
        return Regions((rows, cols), starts, of_run, self.table.values[numbers - 1], nowhere)

    def regions(self, number: int) -> NDArray[np.int32]:
        """The regions of a block's pixels and of those around it.

        Returns:
            (rows + 2, cols + 2), 0 where there is no data or no raster.
        """
        _, _, rows, cols = self.layout.blocks[number]
        around = np.zeros((rows + 2, cols + 2), np.int32)
        around[1:-1, 1:-1] = np.repeat(*self._regions_of_runs(number)).reshape(rows, cols)
        for down, right, place, side in _AROUND:
            other = self.layout.neighbour(number, down, right)
            if other is not None:
                found = self._regions[getattr(self._margins[other], side)]
                around[place] = found if down == 0 or right == 0 else found[0 if right > 0 else -1]
        return around


# Where the pixels around a block lie in it and in the neighbour: steps down and right, place, side of the neighbour.
_AROUND = (
    (-1, 0, (0, slice(1, -1)), "bottom"),
    (1, 0, (-1, slice(1, -1)), "top"),
    (0, -1, (slice(1, -1), 0), "right"),
    (0, 1, (slice(1, -1), -1), "left"),
    (-1, -1, (0, 0), "bottom"),
    (-1, 1, (0, -1), "bottom"),
    (1, -1, (-1, 0), "top"),
    (1, 1, (-1, -1), "top"),
)


def survey(
    raster: LabelRaster,
    layout: BlockGrid,
    areas: PixelAreas,
    *,
    min_area_m2: float = 0,
    step: Step = lambda: None,
) -> Survey:
    """Go through a raster once and find its regions; memory grows with their number, not with that of the pixels.

    Args:
        raster: the labels.
        layout: its blocks.
        areas: of its pixels.
        min_area_m2: smaller regions go to a neighbour, see :func:`geohp.vector.cleaning.merge_small`.
        step: called after every block.

    Raises:
        SceneError: when a raster cannot be read.
    """
    gathered = _Gathered(layout, bordering=min_area_m2 > 0)
    for number, block in enumerate(layout.blocks):
        gathered.add(number, block, find_regions(*raster.read(block)), areas)
        step()
    return gathered.joined(areas.unit_m2, min_area_m2)


class _Gathered:
    """Pieces of the blocks seen so far."""

    def __init__(self, layout: BlockGrid, *, bordering: bool) -> None:
        self._layout, self._bordering = layout, bordering
        self._runs = Runs()
        self._offsets = [0]
        self._margins: list[Margin] = []
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._same: list[NDArray[np.int64]] = []
        self._edges: list[Edges] = []

    def add(self, number: int, block: Block, pieces: Regions, areas: PixelAreas) -> None:
        offset = self._offsets[-1]
        self._offsets.append(offset + pieces.count)
        row, col = np.divmod(pieces.first, block.width)
        columns: dict[str, NDArray[Any]] = {
            "values": pieces.values,
            "pixels": pieces.pixel_counts(),
            "first": (row + block.row) * self._layout.width + col + block.col,
        }
        columns["units"] = pieces.sums(areas.units(block)).astype(np.int64)  # exact: below 2^53
        for name, found in columns.items():
            self._columns.setdefault(name, []).append(found)

        def numbered(ids: NDArray[np.int32]) -> NDArray[np.int64]:
            return np.where(ids > 0, ids.astype(np.int64) + offset, 0)

        self._runs.append(pieces.of_run, pieces.lengths)
        top, left = np.arange(block.width), np.arange(block.height) * block.width
        sides = (top, top + left[-1], left, left + top[-1])
        self._margins.append(Margin(*(numbered(pieces.at(side)) for side in sides)))
        if self._bordering:
            a, b, length = shared_borders(pieces.ids)
            self._edges.append((a + offset, b + offset, length))
        for down, right, mine, theirs in ((-1, 0, "top", "bottom"), (0, -1, "left", "right")):
            other = self._layout.neighbour(number, down, right)
            if other is not None:
                self._touch(other, number, getattr(self._margins[other], theirs), getattr(self._margins[number], mine))

    def _touch(self, other: int, number: int, theirs: NDArray[np.int64], mine: NDArray[np.int64]) -> None:
        """Note which pieces of two blocks go on in each other, and which only border."""
        both = (theirs > 0) & (mine > 0)
        pairs, length = np.unique(np.stack([theirs[both], mine[both]]), axis=1, return_counts=True)
        one = self._columns["values"][other][pairs[0] - 1 - self._offsets[other]]
        two = self._columns["values"][number][pairs[1] - 1 - self._offsets[number]]
        self._same.append(pairs[:, one == two] - 1)
        if self._bordering:
            a, b = pairs[:, one != two] - 1
            self._edges.append((a, b, length[one != two]))

    def joined(self, unit_m2: float, min_area_m2: float) -> Survey:
        count = self._offsets[-1]
        columns = {name: np.concatenate(found) for name, found in self._columns.items()}
        same = np.concatenate([np.empty((2, 0), np.int64), *self._same], axis=1)
        graph = coo_array((np.ones(same.shape[1], np.int8), (same[0], same[1])), shape=(count, count))
        component = connected_components(graph, directed=False)[1] if count else np.empty(0, np.int64)
        # Regions are numbered by their first pixels: pieces looked at in that order, which blocks are not.
        order = np.argsort(columns["first"])
        ranked, first = rank_by_first(component[order]) if count else (component, component)
        region = np.empty(count, np.int64)
        region[order] = ranked
        region -= 1
        values = columns["values"][order[first]]
        if self._bordering and count:
            units = _summed(columns["units"], region, len(values))
            edges = contract(sum_pairs(*(np.concatenate(parts) for parts in zip(*self._edges, strict=True))), region)
            merged, values = merge_small(values, units, edges, min_area_m2 / unit_m2)
            region = merged[region]
        pixels, units = (_summed(columns[name], region, len(values)) for name in ("pixels", "units"))
        table = RegionTable(values, pixels, np.asarray(units * unit_m2, np.float64))
        numbers = np.concatenate([np.zeros(1, np.int64), region + 1])
        return Survey(self._layout, self._runs, np.array(self._offsets), self._margins, numbers, table)


def _summed(values: NDArray[Any], group: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    sums = np.zeros(n, np.int64)
    np.add.at(sums, group, values)
    return sums
