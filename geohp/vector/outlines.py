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


class Place(NamedTuple):
    """Where a block lies: its first row and column in a raster, and that raster's width in pixels."""

    row: int = 0
    col: int = 0
    raster_width: int = 2**31


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
    place: Place | None = None,
) -> tuple[Rings, Chains]:
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
        place: where the block lies.

    Returns:
        the rings that lie within the block, and the chains.
    """
    width = ids.shape[1]
    flat = ids.ravel()
    ahead = np.array((1, width, -1, -width))  # east, south, west, north as steps in the flat raster
    place = Place() if place is None else place
    vertices = corners if vertices is None else vertices
    first, last, direction = _stretches(ids, corners)
    if not len(first):
        return Rings.none(), Chains(*(np.empty(0, np.int64),) * 4, *(np.empty((0, 2), np.int64),) * 2)

    forward = ahead[direction]
    leftward = ahead[(direction + 3) % 4]
    own = flat[last]
    left_pixel, front_pixel = last + forward + leftward, last + forward
    # Turning left wherever possible crosses over to a pixel of the region that touches only at the corner.
    # Because the region is 4-connected that closes a ring before it could touch itself.
    turn_left = flat[left_pixel] == own
    straight = ~turn_left & (flat[front_pixel] == own)
    next_pixel = np.where(turn_left, left_pixel, np.where(straight, front_pixel, last))
    next_direction = np.where(turn_left, direction + 3, np.where(straight, direction, direction + 1)) % 4
    following = _find(first * 4 + direction, next_pixel * 4 + next_direction)

    order, starts = _walks(following)
    begins = np.zeros(len(order), bool)
    begins[starts] = True
    begins = np.append(np.flatnonzero(begins[order]), len(order))
    walk = np.repeat(np.arange(len(starts)), np.diff(begins))
    ends = order[begins[1:] - 1]
    is_open = following[ends] < 0

    def corner(pixel: NDArray[np.int64], way: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column, within the block, at which a side of a pixel begins."""
        row, col = np.divmod(pixel, width)
        return row - 1 + (way >= 2), col - 1 + ((way == 1) | (way == 2))

    row, col = corner(first[order], direction[order])
    kept = vertices[row, col]
    path = np.column_stack([col + place.col, row + place.row])[kept]
    out = ends[is_open]
    end_row, end_col = corner(last[out], (direction[out] + 1) % 4)
    lengths = np.bincount(walk[kept], minlength=len(starts))
    of_chain = is_open[walk[kept]]
    regions = flat[first[starts]].astype(np.int64)

    def steps(pixel: NDArray[np.int64], way: NDArray[Any]) -> NDArray[np.int64]:
        row, col = np.divmod(pixel, width)
        return np.asarray(((row - 1 + place.row) * place.raster_width + (col - 1 + place.col)) * 4 + way)

    chains = Chains(
        steps(first[starts[is_open]], direction[starts[is_open]]),
        steps(next_pixel[out], next_direction[out]),
        regions[is_open],
        lengths[is_open],
        path[of_chain],
        np.column_stack([end_col + place.col, end_row + place.row]),
    )
    return Rings(regions[~is_open], lengths[~is_open], path[~of_chain]), chains


def _stretches(
    ids: NDArray[np.int32], corners: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First pixel, last pixel (flat indices) and direction of every straight stretch of outline within the block."""
    height, width = corners.shape
    margin = np.zeros_like(corners)
    margin[[0, -1], :] = margin[:, [0, -1]] = True
    at = np.flatnonzero(corners | margin)
    row, col = np.divmod(at, width)
    # At the block's margin stretches are cut; the corner becomes no vertex for that.
    corner = corners.ravel()[at]
    across = corner | (col == 0) | (col == width - 1)
    down = corner | (row == 0) | (row == height - 1)
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
    for way, ends in enumerate(sides):
        # Along a row (or, going south and north, along a column) stretches do not interleave: the n-th
        # beginning belongs to the n-th end.
        for (own, behind, which), found in zip(ends, (first, last), strict=True):
            there = (across if way % 2 == 0 else down) & inner[which[0]] & inner[which[1]]
            there &= (flat[own] > 0) & (flat[own] != flat[behind])
            found.append(own[there] if way % 2 == 0 else own[column_by_column][there[column_by_column]])
    direction = np.repeat(np.arange(4), [len(f) for f in first])
    return np.concatenate(first), np.concatenate(last), direction


def _find(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int32]:
    """Where each wanted key is among the keys; -1 where it is not."""
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found = order[place]
    return np.where(keys[found] == wanted, found, -1).astype(np.int32)


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
    tails = np.full(walk.max() + 1, -1, np.int64)
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
    there = following >= 0
    indptr = np.concatenate([[0], np.cumsum(there)]).astype(np.int32)
    n = len(following)
    return csr_array((np.ones(int(indptr[-1]), np.int8), following[there], indptr), shape=(n, n))
