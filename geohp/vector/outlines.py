"""Outlines: the borders of regions, exactly along pixel edges, sharing every vertex with their neighbours.

GDAL's polygonizer keeps a vertex only where the outline of the one polygon turns. Where two neighbours meet on
the straight side of a third, the third then lacks the vertex at which they meet: the polygons are no valid
coverage, and a coverage simplification moves the shared sides apart. Here such junctions are vertices of all
polygons that touch them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from geohp.vector.rings import Rings

_STRIDE = 2**31  # no raster has more columns


class Chains(NamedTuple):
    """Stretches of outline that enter a block and leave it again.

    Which chain goes on where another ends is told by steps: a step is a pixel of the raster and the direction in which
    one of its sides is walked, as one number.

    Attributes:
        first: (n,) the step that a chain begins with.
        following: (n,) the step, in another block, that follows its last.
        regions: (n,) whose outline it is.
        lengths: (n,) number of corners; may be none.
        corners: (sum of lengths, 2) column and row in the raster.
        ends: (n, 2) where they leave the block; the first corner, if it is one, of what follows.
    """

    first: NDArray[np.int64]
    following: NDArray[np.int64]
    regions: NDArray[np.int64]
    lengths: NDArray[np.int64]
    corners: NDArray[Any]
    ends: NDArray[np.int64]


class Outlines(NamedTuple):
    """All outlines of a block: those that close within it, and those that go on in others."""

    rings: Rings
    chains: Chains


def junctions(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The corners at which outlines turn or meet.

    Args:
        ids: (rows + 2, cols + 2) regions, with those around the block.

    Returns:
        (rows + 1, cols + 1) of the block's pixel corners.
    """
    beside, below = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    # A corner in the middle of a straight border needs no vertex; anything else is a turn or a junction.
    return np.asarray((beside[:-1] | beside[1:]) & (below[:, :-1] | below[:, 1:]))


def trace(
    ids: NDArray[np.int32],
    corners: NDArray[np.bool_],
    vertices: NDArray[np.bool_] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Outlines:
    """Walk around all regions of a block at once.

    Every pixel side with another region (or nothing) behind it is walked with its own pixel on the right: the
    top side eastward, the right side southward, and so on. Straight stretches between two corners are one step.
    Which step follows which is a permutation, and its cycles are the rings; steps that leave the block break it
    into chains.

    A region's pixels that touch only at a corner are told apart so that no ring touches itself: what lies between
    becomes a hole that touches the shell in a point.

    Args:
        ids: (rows + 2, cols + 2) regions from 1, 0 for none, with those around the block; regions are 4-connected in
            the raster.
        corners: (rows + 1, cols + 1) where steps end: :func:`junctions` at least.
        vertices: (rows + 1, cols + 1) which corners the outlines keep; all by default.
        origin: the block's first row and column in the raster.
    """
    steps = _stretches(ids, corners)
    if not len(steps.first):
        return Outlines(Rings.none(), Chains(*(np.empty(0, np.int64),) * 4, *(np.empty((0, 2), np.int64),) * 2))
    next_pixel, next_direction = _turns(ids.ravel(), ids.shape[1], steps)
    following = _find(steps.first * 4 + steps.direction, next_pixel * 4 + next_direction)
    order, starts = _walks(following)
    is_start = np.zeros(len(order), bool)
    is_start[starts] = True
    begins = np.append(np.flatnonzero(is_start[order]), len(order))
    walk = np.repeat(np.arange(len(starts)), np.diff(begins))
    ends = order[begins[1:] - 1]
    is_open = following[ends] < 0

    place = _Place(ids.shape[1], *origin)
    path = place.corners(steps.first[order], steps.direction[order])
    vertices = corners if vertices is None else vertices
    is_vertex = vertices[path[:, 1] - place.row, path[:, 0] - place.col]
    path, walk = path[is_vertex], walk[is_vertex]
    lengths = np.bincount(walk, minlength=len(starts))
    of_chain = is_open[walk]
    regions = ids.ravel()[steps.first[starts]].astype(np.int64)
    heads, tails = starts[is_open], ends[is_open]
    chains = Chains(
        first=place.steps(steps.first[heads], steps.direction[heads]),
        following=place.steps(next_pixel[tails], next_direction[tails]),
        regions=regions[is_open],
        lengths=lengths[is_open],
        corners=path[of_chain],
        ends=place.corners(steps.last[tails], (steps.direction[tails] + 1) % 4),
    )
    return Outlines(Rings(regions[~is_open], lengths[~is_open], path[~of_chain]), chains)


class _Stretches(NamedTuple):
    """Straight stretches of outline: (n,) first and last pixel (flat indices) and direction, 0 to 3 for E, S, W, N."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    direction: NDArray[np.int64]


class _Place(NamedTuple):
    """Where a block lies: the width of its array of regions, and its first row and column in the raster."""

    width: int
    row: int
    col: int

    def corners(self, pixel: NDArray[np.int64], direction: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) column and row in the raster at which sides of (n,) pixels begin."""
        row, col = np.divmod(pixel, self.width)
        east, south = (direction == 1) | (direction == 2), direction >= 2
        return np.column_stack([col - 1 + self.col + east, row - 1 + self.row + south])

    def steps(self, pixel: NDArray[np.int64], direction: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) sides of pixels as numbers that are the same in every block."""
        row, col = np.divmod(pixel, self.width)
        return np.asarray(((row - 1 + self.row) * _STRIDE + col - 1 + self.col) * 4 + direction)


def _turns(flat: NDArray[np.int32], width: int, steps: _Stretches) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixel and direction of the stretch that follows each."""
    ahead = np.array((1, width, -1, -width))  # the directions as steps in the flat array
    last, direction = steps.last, steps.direction
    front = last + ahead[direction]
    left = front + ahead[(direction + 3) % 4]
    # Turning left wherever possible crosses over to a pixel of the region that touches only at the corner.
    # Because the region is 4-connected that closes a ring before it could touch itself.
    turns_left = flat[left] == flat[last]
    straight = ~turns_left & (flat[front] == flat[last])
    next_pixel = np.where(turns_left, left, np.where(straight, front, last))
    return next_pixel, np.where(turns_left, direction + 3, np.where(straight, direction, direction + 1)) % 4


def _stretches(ids: NDArray[np.int32], corners: NDArray[np.bool_]) -> _Stretches:
    """The stretches within a block; arguments as for :func:`trace`."""
    height, width = corners.shape
    margin = np.zeros_like(corners)
    margin[[0, -1], :] = margin[:, [0, -1]] = True
    at = np.flatnonzero(corners | margin)
    row, col = np.divmod(at, width)
    # At the block's margin stretches are cut; the corner becomes no vertex for that.
    is_corner = corners.ravel()[at]
    across = is_corner | (col == 0) | (col == width - 1)
    down = is_corner | (row == 0) | (row == height - 1)
    se = (row + 1) * (width + 1) + col + 1
    sw, ne, nw = se - 1, se - width - 1, se - width - 2
    inner = {"n": row > 0, "s": row < height - 1, "w": col > 0, "e": col < width - 1}
    flat = ids.ravel()
    # The pixel whose side begins (ends) at the corner, the one behind that side, and where the first is of the block.
    sides = (
        ((se, ne, "se"), (sw, nw, "sw")),
        ((sw, se, "sw"), (nw, ne, "nw")),
        ((nw, sw, "nw"), (ne, se, "ne")),
        ((ne, nw, "ne"), (se, sw, "se")),
    )
    column_by_column = np.lexsort((row, col))
    first: list[NDArray[np.int64]] = []
    last: list[NDArray[np.int64]] = []
    for direction, ends in enumerate(sides):
        # Along a row (or, going south and north, along a column) stretches do not interleave: the n-th
        # beginning belongs to the n-th end.
        along_row = direction % 2 == 0
        for (own, behind, quarter), pixels in zip(ends, (first, last), strict=True):
            here = (across if along_row else down) & inner[quarter[0]] & inner[quarter[1]]
            here &= (flat[own] > 0) & (flat[own] != flat[behind])
            pixels.append(own[here] if along_row else own[column_by_column][here[column_by_column]])
    return _Stretches(
        np.concatenate(first), np.concatenate(last), np.repeat(np.arange(4), [len(pixels) for pixels in first])
    )


def _find(keys: NDArray[np.int64], sought: NDArray[np.int64]) -> NDArray[np.int32]:
    """Where each key sought is among the keys; -1 where it is not."""
    order = np.argsort(keys)
    index = order[np.minimum(np.searchsorted(keys, sought, sorter=order), len(keys) - 1)]
    return np.where(keys[index] == sought, index, -1).astype(np.int32)


def _walks(following: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cycles and paths of a map that is one to one, written out one after another.

    Args:
        following: (n,) which element follows; -1 at the end of a path.

    Returns:
        all elements walk by walk, and the first element of each walk in that order.
    """
    n = len(following)
    inner = np.flatnonzero(following >= 0)
    preceding = np.full(n, -1, np.int32)
    preceding[following[inner]] = inner
    _, walk = connected_components(_graph(following), directed=True, connection="weak")
    _, starts = np.unique(walk, return_index=True)
    heads = np.flatnonzero(preceding < 0)
    starts[walk[heads]] = heads
    starts.sort()

    # One walk over one long chain: each cycle is cut before its first element, and each walk hung to the next.
    tails = np.empty(walk.max() + 1, np.int64)
    tails[walk[starts]] = preceding[starts]  # of cycles
    paths = np.flatnonzero(following < 0)
    tails[walk[paths]] = paths
    chain = following.copy()
    ends = tails[walk[starts]]
    chain[ends[:-1]] = starts[1:]
    chain[ends[-1]] = -1
    order = breadth_first_order(_graph(chain), int(starts[0]), directed=True, return_predecessors=False)
    return order.astype(np.int64), starts.astype(np.int64)


def _graph(following: NDArray[np.int32]) -> csr_array:
    """The map as a graph with at most one edge out of every node."""
    has_edge = following >= 0
    indptr = np.concatenate([[0], np.cumsum(has_edge)]).astype(np.int32)
    n = len(following)
    return csr_array((np.ones(int(indptr[-1]), np.int8), following[has_edge], indptr), shape=(n, n))
