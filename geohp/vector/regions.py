"""Regions: the 4-connected pieces of equal label that become one polygon each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Regions:
    """A raster cut into regions, held as horizontal runs of pixels: there are far fewer of them.

    Regions count from 1 in the order of their first pixel (row by row); 0 is where there is no data.

    Attributes:
        shape: rows and columns.
        starts: (runs,) first pixel of every run, counted row by row.
        of_run: (runs,) int32, the region of each.
        values: (count,) label value of region 1, 2, ...: ``values[i]`` belongs to region ``i + 1``.
    """

    shape: tuple[int, int]
    starts: NDArray[np.int64]
    of_run: NDArray[np.int32]
    values: NDArray[Any]

    @property
    def count(self) -> int:
        """How many regions there are."""
        return len(self.values)

    @property
    def ids(self) -> NDArray[np.int32]:
        """(rows, cols) the region of every pixel."""
        return np.repeat(self.of_run, self.lengths).reshape(self.shape)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(runs,) pixels of each run."""
        return np.diff(self.starts, append=self.shape[0] * self.shape[1])

    @property
    def first(self) -> NDArray[np.int64]:
        """(count,) each region's first pixel, counted row by row."""
        first = np.empty(self.count + 1, np.int64)
        first[self.of_run[::-1]] = self.starts[::-1]  # of several, the last assigned stays
        return first[1:]

    def at(self, pixels: NDArray[np.int64]) -> NDArray[np.int32]:
        """The regions of pixels, counted row by row."""
        return self.of_run[np.searchsorted(self.starts, pixels, side="right") - 1]

    def pixel_counts(self) -> NDArray[np.int64]:
        """(count,) pixels of each region."""
        return np.bincount(self.of_run, self.lengths, self.count + 1)[1:].astype(np.int64)

    def sums(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """(count,) sum over each region's pixels of ``weights``, which is broadcast to (rows, cols)."""
        if weights.size == 1:
            of_runs: NDArray[Any] = self.lengths * weights.ravel()[0]
        elif weights.shape[1] == 1:
            of_runs = self.lengths * weights[self.starts // self.shape[1], 0]
        else:
            dtype = np.int64 if weights.dtype.kind in "bui" else np.float64
            of_runs = np.add.reduceat(np.broadcast_to(weights, self.shape).ravel(), self.starts, dtype=dtype)
        sums: NDArray[Any] = np.bincount(self.of_run, of_runs, self.count + 1)[1:]
        return sums

    def minima(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(count,) smallest of ``values``, (rows, cols), in each region."""
        least = np.full(self.count + 1, np.inf)
        np.minimum.at(least, self.of_run, np.minimum.reduceat(values.ravel(), self.starts))
        return least[1:]


def find_regions(values: NDArray[Any], valid: NDArray[np.bool_]) -> Regions:
    """Label the 4-connected regions of equal value among the valid pixels.

    Pixels are first joined into horizontal runs, then runs that touch from row to row: the graph has one node
    a run instead of one a pixel, and its size does not depend on how many classes there are.

    Args:
        values: (rows, cols) integer labels, neither of these 0.
        valid: (rows, cols) False where there is no data.
    """
    if not valid.any():  # most of a scene may be empty
        none = np.zeros(1, np.int64), np.zeros(1, np.int32), np.empty(0, values.dtype)
        return Regions((values.shape[0], values.shape[1]), *none)
    begins = np.ones(values.shape, bool)
    begins[:, 1:] = (values[:, 1:] != values[:, :-1]) | (valid[:, 1:] != valid[:, :-1])
    starts = np.flatnonzero(begins)

    # Two runs above one another overlap in an interval whose first column is where one of them starts.
    touch = begins[1:] | begins[:-1]
    touch &= values[1:] == values[:-1]
    touch &= valid[1:]
    touch &= valid[:-1]
    upper = np.flatnonzero(touch)
    above = np.searchsorted(starts, upper, side="right") - 1
    below = np.searchsorted(starts, upper + values.shape[1], side="right") - 1
    graph = coo_array((np.ones(len(above), np.int8), (above, below)), shape=(len(starts), len(starts)))
    _, component = connected_components(graph, directed=False)

    run_valid = valid.ravel()[starts]
    ids, first = rank_by_first(component[run_valid])
    of_run = np.zeros(len(starts), np.int32)
    of_run[run_valid] = ids
    return Regions((values.shape[0], values.shape[1]), starts, of_run, values.ravel()[starts[run_valid][first]])


def rank_by_first(keys: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Number equal keys 1, 2, ... in the order in which they first occur; also where that is."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), np.int32)
    rank[order] = np.arange(1, len(first) + 1, dtype=np.int32)
    return rank[inverse], first[order]
