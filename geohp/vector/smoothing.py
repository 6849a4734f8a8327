"""Smoothing that keeps a coverage a coverage: corners are cut, on both sides of a border alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geohp.vector.outlines import Outlines
from geohp.vector.rings import Rings


def fixed_corners(ids: NDArray[np.int32], *, simplify_boundary: bool) -> NDArray[np.bool_]:
    """Corners of a block that smoothing must leave where they are.

    These are junctions, where outlines of more than two regions meet, and the block's margin, so that outlines of
    neighbouring blocks still meet.

    Args:
        ids: (rows + 2, cols + 2) regions, with those around the block; 0 for none.
        simplify_boundary: whether outlines that have no data on the other side may move.

    Returns:
        (rows + 1, cols + 1)
    """
    nw, ne, sw, se = ids[:-1, :-1], ids[:-1, 1:], ids[1:, :-1], ids[1:, 1:]
    borders = (nw != ne).astype(np.int8) + (ne != se) + (se != sw) + (sw != nw)
    fixed = np.asarray(borders > 2)
    fixed[[0, -1], :] = fixed[:, [0, -1]] = True
    if not simplify_boundary:
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
    crossed = np.zeros(across.shape, bool)
    crossed[[0, -1], :] = across[[0, -1], :]
    crossed[:, [0, -1]] |= down[:, [0, -1]]
    return crossed


def smooth(outlines: Outlines, fixed: NDArray[np.bool_], origin: tuple[int, int], rounds: int) -> Outlines:
    """Cut corners, as Chaikin does: each becomes two, a quarter of the way to its neighbours, in every round.

    A corner is cut only where the triangle that it forms with its neighbours holds no other corner. Cuts then stay
    within triangles that no border enters, and of neighbouring ones each has its half of the common side: no outline
    can come to touch another, and every polygon stays valid.

    Args:
        outlines: a block's; chains must begin and end on the block's margin with a corner.
        fixed: (rows + 1, cols + 1) corners to leave, see :func:`fixed_corners`.
        origin: the block's first row and column.
        rounds: how often; twice the corners each time.

    Returns:
        the outlines with corners between those of pixels.
    """
    rings, chains = outlines
    n = len(rings.lengths)
    # A chain's last corner belongs to the chain that follows, but has its part in the shape of this one.
    chain_corners = np.insert(chains.corners, np.cumsum(chains.lengths), chains.ends, axis=0)
    lengths = np.concatenate([rings.lengths, chains.lengths + 1])
    lines = _Lines(
        np.concatenate([rings.corners, chain_corners]).astype(np.float64), lengths, np.arange(len(lengths)) < n
    )
    if not len(lines.points):
        return outlines
    may_cut = _may_cut(lines, fixed, origin)
    for _ in range(rounds):
        lines, may_cut = _cut(lines, may_cut)
    ring_lengths, chain_lengths = lines.lengths[:n], lines.lengths[n:]
    ring_corners, chain_corners = np.split(lines.points, [ring_lengths.sum()])
    without_last = np.delete(chain_corners, np.cumsum(chain_lengths) - 1, axis=0)
    return Outlines(
        Rings(rings.regions, ring_lengths, ring_corners),
        chains._replace(lengths=chain_lengths - 1, corners=without_last),
    )


class _Lines(NamedTuple):
    """Lines one after another: all points (sum of lengths, 2), (n,) numbers of points, and (n,) which are closed."""

    points: NDArray[np.float64]
    lengths: NDArray[np.int64]
    closed: NDArray[np.bool_]

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Which points come before and after each, and which have both."""
        starts = np.cumsum(self.lengths) - self.lengths
        some = self.lengths > 0
        first, last = starts[some], (starts + self.lengths - 1)[some]
        before, after = np.arange(len(self.points)) - 1, np.arange(len(self.points)) + 1
        before[first], after[last] = last, first
        has_both = np.ones(len(before), bool)
        ends = ~self.closed[some]
        has_both[first[ends]] = has_both[last[ends]] = False
        return before, after, has_both


def _may_cut(lines: _Lines, fixed: NDArray[np.bool_], origin: tuple[int, int]) -> NDArray[np.bool_]:
    """Which points may be cut."""
    before, after, has_both = lines.neighbours()
    col, row = np.rint(lines.points).astype(np.int64).T
    lattice = (row - origin[0]) * fixed.shape[1] + col - origin[1]
    free = has_both & ~fixed.ravel()[lattice]
    # The outline of the region on the other side has the same corner: one triangle does for both.
    corners, first = np.unique(lattice, return_index=True)
    tips = first[free[first]]
    around = [before[tips], tips, after[tips]]
    triangles = shapely.polygons(np.stack([lines.points[at] for at in around], axis=1))
    tree = shapely.STRtree(shapely.points(lines.points[first]))
    triangle, inside = tree.query(triangles, predicate="intersects")
    own = np.stack([lattice[at] for at in around])
    is_other = (corners[inside][None] != own[:, triangle]).all(axis=0)
    occupied = np.zeros(len(tips), bool)
    occupied[triangle[is_other]] = True
    flat = shapely.area(triangles) == 0
    allowed = np.zeros(fixed.size, bool)
    allowed[lattice[tips[~occupied & ~flat]]] = True
    return np.asarray(free & allowed[lattice])


def _cut(lines: _Lines, cut: NDArray[np.bool_]) -> tuple[_Lines, NDArray[np.bool_]]:
    """One round."""
    before, after, _ = lines.neighbours()
    points, count = lines.points, 1 + cut
    at = np.cumsum(count) - count
    longer: NDArray[Any] = np.empty((int(count.sum()), 2))
    longer[at] = points
    longer[at[cut]] = points[cut] + (points[before[cut]] - points[cut]) / 4
    longer[at[cut] + 1] = points[cut] + (points[after[cut]] - points[cut]) / 4
    line = np.repeat(np.arange(len(lines.lengths)), lines.lengths)
    lengths = lines.lengths + np.bincount(line[cut], minlength=len(lines.lengths))
    return _Lines(longer, lengths, lines.closed), np.repeat(cut, count)
