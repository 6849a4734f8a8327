"""The window grid covers every pixel, and the blending never divides by zero."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.inference.engine.windows import WindowGrid, blend_weights
from geohp.raster.block import Block

sizes = st.integers(1, 90)


@given(height=sizes, width=sizes, window=st.integers(1, 40), data=st.data())
@settings(deadline=None, max_examples=150)
def test_every_pixel_is_covered_and_no_window_leaves_the_scene(height, width, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    grid = WindowGrid(height, width, window, overlap)
    seen = np.zeros((height, width), dtype=int)
    for row in grid.rows:
        for col in grid.cols:
            assert row == 0 or row + window <= height
            assert col == 0 or col + window <= width
            seen[row : row + window, col : col + window] += 1
    assert seen.min() >= 1
    assert len(grid) == len(grid.rows) * len(grid.cols)
    assert len(set(grid.rows)) == len(grid.rows)


@given(height=sizes, width=sizes, side=st.integers(1, 60), window=st.integers(1, 40), data=st.data())
@settings(deadline=None, max_examples=100)
def test_blocks_tile_the_scene_exactly_once(height, width, side, window, data):
    seen = np.zeros((height, width), dtype=int)
    grid = WindowGrid(height, width, window, data.draw(st.integers(0, window - 1)))
    for row, col, h, w in grid.blocks(side):
        assert h > 0
        assert w > 0
        seen[row : row + h, col : col + w] += 1
        # A window begins in one block, and reaches into no block before that.
        assert row in grid.rows
        assert col in grid.cols
    assert (seen == 1).all()


@given(window=st.integers(2, 40), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_block_is_told_exactly_the_windows_that_touch_it(window, data):
    grid = WindowGrid(70, 85, window, data.draw(st.integers(0, window - 1)))
    row, col = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 84))
    height, width = data.draw(st.integers(1, 70 - row)), data.draw(st.integers(1, 85 - col))
    told = set(grid.touching(Block(row, col, height, width)))
    for r in grid.rows:
        for c in grid.cols:
            inside = np.zeros((170, 185), dtype=bool)
            inside[r : r + window, c : c + window] = True
            assert ((r, c) in told) == inside[row : row + height, col : col + width].any()


@given(window=st.integers(1, 300), data=st.data())
@settings(deadline=None, max_examples=100)
def test_weights_are_smooth_symmetric_and_strictly_positive(window, data):
    overlap = data.draw(st.integers(0, window - 1))
    weights = blend_weights((window, window), overlap)
    assert weights.shape == (window, window)
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, weights[::-1])
    np.testing.assert_array_equal(weights, weights.T)
    if overlap == 0:
        assert (weights == 1).all()


@pytest.mark.parametrize("overlap", [8, 16, 32])
def test_regular_neighbours_sum_to_one_where_they_meet(overlap):
    profile = blend_weights((64, 64), overlap)[32]
    np.testing.assert_allclose(profile[-overlap:] + profile[:overlap], profile.max(), atol=2e-3)


@pytest.mark.parametrize(("side", "overlap", "ramp"), [(8, 4, 4), (8, 3, 3), (8, 7, 4), (9, 8, 4), (1, 0, 0)])
def test_weights_rise_by_a_squared_sine_over_the_overlap_and_no_lower_than_a_thousandth(side, overlap, ramp):
    rise = [math.sin(math.pi / 2 * (k + 0.5) / ramp) ** 2 for k in range(ramp)]
    profile = np.maximum([*rise, *[1.0] * (side - 2 * ramp), *rise[::-1]], 1e-3)
    np.testing.assert_allclose(blend_weights((side, side), overlap), np.outer(profile, profile), rtol=1e-6)
    assert blend_weights((64, 3), 60).min() == pytest.approx(1e-3 * math.sin(math.pi / 4) ** 2)
    assert blend_weights((64, 3), 60).dtype == np.float32


@pytest.mark.parametrize(
    ("side", "rows", "cols"),
    [
        (1, [20, 20, 10, 50], [20, 10, 50]),  # one window's own at least
        (29, [20, 20, 10, 50], [20, 10, 50]),
        (31, [40, 60], [30, 50]),
        (40, [40, 60], [30, 50]),
        (1000, [100], [80]),
    ],
)
def test_blocks_begin_with_windows_about_so_far_apart(side, rows, cols):
    blocks = WindowGrid(100, 80, 50, 30).blocks(side)  # windows begin at 0, 20, 40, 50 and at 0, 20, 30
    assert [block.height for block in blocks if block.col == 0] == rows
    assert [block.width for block in blocks if block.row == 0] == cols
    assert blocks == sorted(blocks)


@pytest.mark.parametrize(("window", "overlap"), [(10, 10), (10, -1), (0, 0)])
def test_an_impossible_overlap_is_refused(window, overlap):
    with pytest.raises(ValueError, match="overlap"):
        WindowGrid(10, 10, window, overlap)


@given(height=sizes, width=sizes, patches=st.integers(1, 6), patch=st.integers(1, 7))
@settings(deadline=None, max_examples=100)
def test_windows_shrink_to_scenes_smaller_than_them(height, width, patches, patch):
    grid = WindowGrid(height, width, patches * patch, 0, patch)
    for side, length in zip(grid.shape, (height, width), strict=True):
        assert side % patch == 0
        assert side == patches * patch or length <= side < length + patch
    assert WindowGrid(height, width, patches * patch, 0).shape == (patches * patch,) * 2
