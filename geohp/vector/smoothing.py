"""Smoothing that keeps a coverage a coverage: corners are cut, on both sides of a border alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.vector.outlines import Chains, Place
from geohp.vector.rings import Rings


def fixed_corners(ids: NDArray[np.int32], *, outer: bool = False) -> NDArray[np.bool_]:
    """Corners of a block that smoothing must leave where they are.

    These are junctions, where outlines of more than two regions meet, and the block's margin, so that outlines of
    neighbouring blocks still meet.

    Args:
        ids: (rows + 2, cols + 2) regions, with those around the block; 0 for none.
        outer: whether outlines that have no data on the other side may move.

    Returns:
        (rows + 1, cols + 1)
    """
    nw, ne, sw, se = ids[:-1, :-1], ids[:-1, 1:], ids[1:, :-1], ids[1:, 1:]
    borders = (nw != ne).astype(np.int8) + (ne != se) + (se != sw) + (sw != nw)
    fixed = np.asarray(borders > 2)
    fixed[[0, -1], :] = fixed[:, [0, -1]] = True
    if not outer:
        fixed |= (nw == 0) | (ne == 0) | (sw == 0) | (se == 0)
    return fixed


def crossings(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Where outlines cross a block's margin: there they need a corner that holds them when others move.

    Args:
        ids: (rows + 2, cols + 2) regions, with those around the block; 0 for none.

    Returns:
        (rows + 1, cols + 1)
    """
    beside, below = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    across, down = beside[:-1] | beside[1:], below[:, :-1] | below[:, 1:]
    found = np.zeros(across.shape, bool)
    found[[0, -1], :] = across[[0, -1], :]
    found[:, [0, -1]] |= down[:, [0, -1]]
    return found


def smooth(rings: Rings, chains: Chains, fixed: NDArray[np.bool_], place: Place, rounds: int) -> tuple[Rings, Chains]:
    """Cut corners, as Chaikin does: each becomes two, a quarter of the way to its neighbours, in every round.

    A corner is cut only where the triangle that it forms with its neighbours holds no other corner. Cuts then stay
    within triangles that no border enters, and of neighbouring ones each has its half of the common side: no outline
    can come to touch another, and every polygon stays valid.

    Args:
        rings, chains: a block's outlines; chains must begin and end on the block's margin with a corner.
        fixed: (rows + 1, cols + 1) corners to leave, see :func:`fixed_corners`.
        place: where the block lies.
        rounds: how often; twice the corners each time.

    Returns:
        the outlines with corners between those of pixels.
    """
    n = len(rings.lengths)
    # A chain's last corner belongs to the chain that follows, but has its part in the shape of this one.
    whole = np.insert(chains.corners, np.cumsum(chains.lengths), chains.ends, axis=0)
    points = np.concatenate([rings.corners, whole]).astype(np.float64)
    lengths = np.concatenate([rings.lengths, chains.lengths + 1])
    if not rounds or not len(points):
        return rings, chains
    closed = np.arange(len(lengths)) < n
    cut = _free(points, lengths, closed, fixed, place)
    for _ in range(rounds):
        points, lengths, cut = _cut(points, lengths, closed, cut)
    split = int(lengths[:n].sum())
    longer = lengths[n:]
    without_last = np.delete(points[split:], np.cumsum(longer) - 1, axis=0)
    return (
        Rings(rings.regions, lengths[:n], points[:split]),
        chains._replace(lengths=longer - 1, corners=without_last),
    )


def _neighbours(
    lengths: NDArray[np.int64], closed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Which points come before and after each, and which have both."""
    starts = np.cumsum(lengths) - lengths
    some = lengths > 0
    first, last = starts[some], (starts + lengths - 1)[some]
    before, after = np.arange(lengths.sum()) - 1, np.arange(lengths.sum()) + 1
    before[first], after[last] = last, first
    both = np.ones(len(before), bool)
    ends = ~closed[some]
    both[first[ends]] = both[last[ends]] = False
    return before, after, both


def _free(
    points: NDArray[np.float64], lengths: NDArray[np.int64], closed: NDArray[np.bool_],
    fixed: NDArray[np.bool_], place: Place,
) -> NDArray[np.bool_]:  # fmt: skip
    """Which points may be cut."""
    before, after, both = _neighbours(lengths, closed)
    col, row = np.rint(points).astype(np.int64).T
    lattice = (row - place.row) * fixed.shape[1] + col - place.col
    free = both & ~fixed.ravel()[lattice]
    # The outline of the region on the other side has the same corner: one triangle does for both.
    corners, first = np.unique(lattice, return_index=True)
    asked = first[free[first]]
    triangles = shapely.polygons(np.stack([points[before[asked]], points[asked], points[after[asked]]], axis=1))
    tree = shapely.STRtree(shapely.points(points[first]))
    triangle, inside = tree.query(triangles, predicate="intersects")
    own = np.stack([lattice[before[asked]], lattice[asked], lattice[after[asked]]])
    other = (corners[inside][None] != own[:, triangle]).all(axis=0)
    occupied = np.zeros(len(asked), bool)
    occupied[triangle[other]] = True
    flat = shapely.area(triangles) == 0
    allowed = np.zeros(fixed.size, bool)
    allowed[lattice[asked[~occupied & ~flat]]] = True
    return np.asarray(free & allowed[lattice])


def _cut(
    points: NDArray[np.float64], lengths: NDArray[np.int64], closed: NDArray[np.bool_], cut: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """One round."""
    before, after, _ = _neighbours(lengths, closed)
    count = 1 + cut
    at = np.cumsum(count) - count
    found: NDArray[Any] = np.empty((int(count.sum()), 2))
    found[at] = points
    found[at[cut]] = points[cut] + (points[before[cut]] - points[cut]) / 4
    found[at[cut] + 1] = points[cut] + (points[after[cut]] - points[cut]) / 4
    outline = np.repeat(np.arange(len(lengths)), lengths)
    longer = lengths + np.bincount(outline[cut], minlength=len(lengths))
    return found, longer, np.repeat(cut, count)
