"""Outlines: the polygons of regions, exactly along pixel edges, sharing every vertex with their neighbours.

GDAL's polygonizer keeps a vertex only where the outline of the one polygon turns. Where two neighbours meet on
the straight side of a third, the third then lacks the vertex at which they meet: the polygons are no valid
coverage, and a coverage simplification moves the shared sides apart. Here such junctions are vertices of all
polygons that touch them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

Place = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Takes (n, 2) pixel-corner positions (column, row) to (n, 2) map coordinates (x, y)."""


def outline(ids: NDArray[np.int32], count: int, place: Place, *, every_corner: bool = False) -> NDArray[Any]:
    """The polygons of all regions.

    A region's pixels that touch only at a corner are told apart so that no ring touches itself (what lies
    between becomes a hole that touches the shell in a point): every polygon is valid.

    Args:
        ids: (rows, cols) regions 1 .. ``count``, each 4-connected; 0 is not covered.
        count: number of regions.
        place: where pixel corners lie on the map.
        every_corner: keep a vertex at every pixel corner, for a ``place`` that does not keep lines straight.

    Returns:
        (count,) shapely polygons, counter-clockwise shells, in the order of the regions.
    """
    if count == 0:
        return np.empty(0, object)
    corners, region_of_ring, ring_length = _trace(ids, every_corner)
    closed, ring_offsets = _close(corners, ring_length)
    polygon_offsets = np.concatenate([[0], np.cumsum(np.bincount(region_of_ring, minlength=count + 1)[1:])])
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, place(closed), (ring_offsets, polygon_offsets)
    )  # fmt: skip
    oriented: NDArray[Any] = shapely.orient_polygons(polygons)
    return oriented


def _trace(
    ids: NDArray[np.int32], every_corner: bool
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]:
    """Walk around all regions at once.

    Every pixel side with another region (or nothing) behind it is walked with its own pixel on the right: the
    top side eastward, the right side southward, and so on. Straight stretches between two kept corners are one
    step. Which step follows which is a permutation, and its cycles are the rings.

    Returns:
        the corners (column, row) of all rings one after another, the region of each ring, and each ring's
        number of corners; rings are sorted by region, the shell first.
    """
    padded = np.pad(ids, 1)
    width = padded.shape[1]
    flat = padded.ravel()
    ahead = (1, width, -1, -width)  # east, south, west, north as steps in the flat padded raster
    first, last, direction = _stretches(padded, every_corner)

    step_at = np.zeros((4, flat.size), np.int32)
    step_at[direction, first] = np.arange(len(first), dtype=np.int32)
    forward = np.array(ahead)[direction]
    leftward = np.array(ahead)[(direction + 3) % 4]
    own = flat[last]
    left_pixel, front_pixel = last + forward + leftward, last + forward
    # Turning left wherever possible crosses over to a pixel of the region that touches only at the corner.
    # Because the region is 4-connected that closes a ring before it could touch itself.
    turn_left = flat[left_pixel] == own
    straight = ~turn_left & (flat[front_pixel] == own)
    next_pixel = np.where(turn_left, left_pixel, np.where(straight, front_pixel, last))
    next_direction = np.where(turn_left, direction + 3, np.where(straight, direction, direction + 1)) % 4
    following = step_at[next_direction, next_pixel]

    order, ring_first, ring_length = _cycles(following, flat[first])
    row, col = np.divmod(first[order] - width - 1, width)
    turn = direction[order]
    corners = np.column_stack([col + ((turn == 1) | (turn == 2)), row + (turn >= 2)]).astype(np.float64)
    return corners, flat[first[ring_first]], ring_length


def _stretches(
    padded: NDArray[np.int32], every_corner: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """First pixel, last pixel (flat padded indices) and direction of every straight stretch of outline."""
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    # A corner between two straight halves needs no vertex; anything else is a turn or a junction.
    keep = ~((nw == ne) & (sw == se)) & ~((nw == sw) & (ne == se)) | every_corner
    centre = padded[1:-1, 1:-1]
    behind = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    starts_at = (keep[:-1, :-1], keep[:-1, 1:], keep[1:, 1:], keep[1:, :-1])
    width = padded.shape[1]
    first: list[NDArray[np.int64]] = []
    last: list[NDArray[np.int64]] = []
    for way in range(4):
        side = (centre > 0) & (behind[way] != centre)
        opening, closing = side & starts_at[way], side & starts_at[(way + 1) % 4]
        # Along a row (or, going south and north, along a column) stretches do not interleave: the n-th
        # opening belongs to the n-th closing.
        for mask, found in ((opening, first), (closing, last)):
            if way % 2 == 0:
                row, col = np.nonzero(mask)
            else:
                col, row = np.nonzero(mask.T)
            found.append((row + 1) * width + col + 1)
    direction = np.repeat(np.arange(4, dtype=np.int8), [len(f) for f in first])
    return np.concatenate(first), np.concatenate(last), direction


def _cycles(
    following: NDArray[np.int32], region: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The cycles of a permutation, written out one after another.

    Returns:
        all elements cycle by cycle, the first element of each cycle, and each cycle's length; cycles are
        sorted by region, then by first element, which puts a region's shell before its holes: elements are
        numbered top sides first and row by row, and the topmost side of a region lies on its shell.
    """
    n = len(following)
    indptr = np.arange(n + 1, dtype=np.int32)
    graph = csr_array((np.ones(n, np.int8), following, indptr), shape=(n, n))
    _, ring = connected_components(graph, directed=True, connection="weak")
    _, first, length = np.unique(ring, return_index=True, return_counts=True)
    sort = np.lexsort((first, region[first]))
    first, length = first[sort], length[sort]

    # One walk over one long chain: each cycle is cut before its first element and hung to the next cycle.
    preceding = np.empty(n, np.int32)
    preceding[following] = np.arange(n, dtype=np.int32)
    chain = following.copy()
    chain[preceding[first[:-1]]] = first[1:]
    end = int(preceding[first[-1]])
    chain = np.delete(chain, end)
    indptr[end + 1 :] -= 1
    path = csr_array((np.ones(n - 1, np.int8), chain, indptr), shape=(n, n))
    order = breadth_first_order(path, int(first[0]), directed=True, return_predecessors=False)
    return order.astype(np.int64), first, length


def _close(
    corners: NDArray[np.float64], ring_length: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Repeat each ring's first corner at its end; also the offsets of the closed rings."""
    offsets = np.concatenate([[0], np.cumsum(ring_length)])
    source = np.arange(len(corners) + len(ring_length))
    source -= np.repeat(np.arange(len(ring_length)), ring_length + 1)
    closed_offsets = offsets + np.arange(len(offsets))
    source[closed_offsets[1:] - 1] = offsets[:-1]
    return corners[source], closed_offsets
