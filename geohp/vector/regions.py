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
    """A raster cut into regions.

    Attributes:
        ids: (rows, cols) int32, the region of every pixel; 0 where there is no data, regions count from 1 in
            the order of their first pixel (row by row).
        values: (count,) label value of region 1, 2, ...: ``values[i]`` belongs to region ``i + 1``.
    """

    ids: NDArray[np.int32]
    values: NDArray[Any]

    @property
    def count(self) -> int:
        """How many regions there are."""
        return len(self.values)

    def pixel_counts(self) -> NDArray[Any]:
        """(count,) pixels of each region."""
        return np.bincount(self.ids.ravel(), minlength=self.count + 1)[1:]

    def sums(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """(count,) sum over each region's pixels of ``weights``, which is broadcast to (rows, cols)."""
        rows, cols = self.ids.shape
        if weights.size == 1:
            return np.asarray(self.pixel_counts() * float(weights.ravel()[0]), np.float64)
        full = np.broadcast_to(weights, (rows, cols))
        sums: NDArray[Any] = np.bincount(self.ids.ravel(), weights=full.ravel(), minlength=self.count + 1)[1:]
        return sums


def find_regions(values: NDArray[Any], valid: NDArray[np.bool_]) -> Regions:
    """Label the 4-connected regions of equal value among the valid pixels.

    Pixels are first joined into horizontal runs, then runs that touch from row to row: the graph has one node
    a run instead of one a pixel, and its size does not depend on how many classes there are.

    Args:
        values: (rows, cols) integer labels.
        valid: (rows, cols) False where there is no data.
    """
    if not valid.any():
        return Regions(np.zeros(values.shape, np.int32), values[:0, :0].ravel())
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = (values[:, 1:] != values[:, :-1]) | (valid[:, 1:] != valid[:, :-1])
    run = (np.cumsum(starts, dtype=np.int32) - 1).reshape(values.shape)

    # Two runs above one another overlap in an interval whose first column is where one of them starts.
    touch = (values[1:] == values[:-1]) & valid[1:] & valid[:-1] & (starts[1:] | starts[:-1])
    above, below = run[:-1][touch], run[1:][touch]
    n_runs = int(run[-1, -1]) + 1
    graph = coo_array((np.ones(len(above), np.int8), (above, below)), shape=(n_runs, n_runs))
    _, component = connected_components(graph, directed=False)

    run_valid = valid[starts]
    run_values = values[starts]
    ids, first = rank_by_first(component[run_valid])
    of_run = np.zeros(n_runs, np.int32)
    of_run[run_valid] = ids
    return Regions(of_run[run], run_values[run_valid][first])


def rank_by_first(keys: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Number equal keys 1, 2, ... in the order in which they first occur; also where that is."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), np.int32)
    rank[order] = np.arange(1, len(first) + 1, dtype=np.int32)
    return rank[inverse], first[order]
