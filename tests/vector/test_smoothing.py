"""Which corners stay when outlines are smoothed, against a look at every corner."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from geohp.vector.outlines import junctions, trace
from geohp.vector.smoothing import _Lines, _may_cut, crossings, fixed_corners, smooth

padded = array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=8).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.integers(0, 3))
)


@given(ids=padded)
@settings(deadline=None, max_examples=80)
def test_corners_where_three_meet_margins_and_those_beside_nodata_are_fixed(ids):
    fixed, boundary = fixed_corners(ids, simplify_boundary=True), fixed_corners(ids, simplify_boundary=False)
    crossed = crossings(ids)
    rows, cols = fixed.shape
    for row in range(rows):
        for col in range(cols):
            (nw, ne), (sw, se) = ids[row : row + 2, col : col + 2]
            on_margin = row in (0, rows - 1) or col in (0, cols - 1)
            meet = sum(a != b for a, b in ((nw, ne), (ne, se), (se, sw), (sw, nw))) > 2
            assert fixed[row, col] == (on_margin or meet)
            assert boundary[row, col] == (on_margin or meet or 0 in (nw, ne, sw, se))
            across = row in (0, rows - 1) and (nw != ne or sw != se)
            down = col in (0, cols - 1) and (nw != sw or ne != se)
            assert crossed[row, col] == (across or down)


def outlines(inside):
    ids = np.pad(np.array(inside, np.int32), 1)
    return ids, trace(ids, junctions(ids))


def test_a_corner_is_cut_a_quarter_of_the_way_to_its_neighbours():
    _, traced = outlines([[1, 1, 1, 1], [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1]])
    fixed = np.zeros((5, 5), bool)
    square = {(1, 1), (3, 1), (3, 3), (1, 3)}
    once = smooth(traced, fixed, (0, 0), 1).rings
    inner = once.where(once.regions == 2)
    cut = {
        (c + dc, r + dr) for c, r in square for dc, dr in ((0.5 if c == 1 else -0.5, 0), (0, 0.5 if r == 1 else -0.5))
    }
    assert set(map(tuple, inner.corners.tolist())) == cut
    twice = smooth(traced, fixed, (0, 0), 2).rings
    assert twice.lengths[twice.regions == 2].tolist() == [16]
    assert smooth(traced, ~fixed, (0, 0), 2).rings.corners.tolist() == traced.rings.corners.tolist()


def test_where_a_block_lies_moves_its_outlines_and_changes_nothing_else():
    ids, traced = outlines([[2, 2, 2], [2, 1, 2], [2, 2, 2]])
    fixed = np.zeros((4, 4), bool)
    once = smooth(traced, fixed, (0, 0), 1).rings
    moved = smooth(trace(ids, junctions(ids), origin=(10, 20)), fixed, (10, 20), 1).rings
    np.testing.assert_allclose(moved.corners, once.corners + np.array([20, 10]))
    assert moved.lengths.tolist() == once.lengths.tolist()


def cut_corners(*rings, fixed=()):
    """Corners (column, row) of closed rings on a lattice of 8 by 8 that may be cut."""
    points = np.array([corner for ring in rings for corner in ring], np.float64)
    lines = _Lines(points, np.array([len(ring) for ring in rings]), np.ones(len(rings), bool))
    held = np.zeros((9, 9), bool)
    for col, row in fixed:
        held[row, col] = True
    return {tuple(map(int, point)) for point in points[_may_cut(lines, held, (0, 0))]}


def test_a_corner_is_cut_unless_its_triangle_holds_another_or_is_flat():
    square, inner = [(0, 0), (8, 0), (8, 8), (0, 8)], [(2, 1), (3, 1), (3, 2), (2, 2)]
    assert cut_corners(square) == set(square)
    assert cut_corners(square, fixed=[(8, 0)]) == {*square} - {(8, 0)}
    # Of the triangle at (0, 0), whose other ends are (8, 0) and (0, 8), the inner square is a part.
    assert cut_corners(square, inner) == {(8, 8), *inner}
    # A corner in the middle of a straight side, and one on the side of a triangle.
    assert cut_corners([(0, 0), (4, 0), (8, 0), (8, 8), (0, 8)]) == {(0, 0), (8, 0), (8, 8), (0, 8)}
    assert cut_corners(square, [(4, 4), (6, 4), (6, 6)]) == {(4, 4), (6, 4), (6, 6)}


def test_what_two_rings_share_is_cut_in_both_or_in_none():
    left, right = [(0, 0), (4, 0), (5, 4), (4, 8), (0, 8)], [(4, 0), (8, 0), (8, 8), (4, 8), (5, 4)]
    assert (5, 4) in cut_corners(left, right)
    assert (5, 4) not in cut_corners(left, right, fixed=[(5, 4)])
    # Beside it a corner of a third lies within the triangle that both have at (5, 4).
    assert (5, 4) not in cut_corners(left, right, [(4, 4), (4, 5), (3, 5)])
