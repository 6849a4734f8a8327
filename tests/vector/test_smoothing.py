"""Which corners stay when outlines are smoothed, against a look at every corner."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from geohp.vector.outlines import junctions, trace
from geohp.vector.smoothing import crossings, fixed_corners, smooth

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
