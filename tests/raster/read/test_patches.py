"""Patches at the edges of a scene, over its holes, and drawn from its valid part."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.raster.read.patches import grid_origins, read_patch, sample_origins, valid_share


class ArrayScene:
    def __init__(self, valid, seed=0):
        self.valid = np.asarray(valid, dtype=bool)
        self.height, self.width = self.valid.shape
        self.data = np.random.default_rng(seed).random((3, *self.valid.shape)).astype(np.float32)
        self.reads = []

    def read(self, row, col, height, width):
        self.reads.append((height, width))
        part = np.s_[row : row + height, col : col + width]
        return np.where(self.valid[part], self.data[:, *part], 0).astype(np.float32), self.valid[part].copy()

    def thumbnail(self, max_px):
        step = max(1, -(-max(self.height, self.width) // max_px))
        return self.data[:, ::step, ::step], self.valid[::step, ::step]


@given(height=st.integers(1, 30), width=st.integers(1, 30), side=st.integers(1, 40), data=st.data())
@settings(deadline=None, max_examples=80)
def test_a_patch_is_the_scene_and_beyond_it_a_mirror(height, width, side, data):
    scene = ArrayScene(np.ones((height, width)))
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    patch, valid = read_patch(scene, row, col, side)
    assert patch.shape == (3, side, side)
    inside = min(side, height - row), min(side, width - col)
    np.testing.assert_array_equal(patch[:, : inside[0], : inside[1]], scene.data[:, row : row + side, col : col + side])
    assert valid.sum() == inside[0] * inside[1]
    assert np.isin(patch, scene.data).all()


def test_invalid_pixels_take_the_mean_of_the_valid_ones():
    valid = np.ones((20, 20))
    valid[:5] = 0
    scene = ArrayScene(valid)
    patch, _ = read_patch(scene, 0, 0, 20)
    np.testing.assert_allclose(patch[:, 0, 0], scene.data[:, 5:].mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(patch[:, 5:], scene.data[:, 5:])


def test_origins_lie_in_the_valid_part_and_follow_the_seed():
    valid = np.zeros((300, 400))
    valid[100:260, 150:380] = 1
    scene = ArrayScene(valid)
    origins = sample_origins(scene, 40, 60, np.random.default_rng(1), min_valid=1.0)
    assert len(origins) == 60
    assert len(set(origins)) > 40
    for row, col in origins:
        assert scene.valid[row : row + 40, col : col + 40].all()
    assert origins == sample_origins(scene, 40, 60, np.random.default_rng(1), min_valid=1.0)
    assert origins != sample_origins(scene, 40, 60, np.random.default_rng(2), min_valid=1.0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (10, 50), (40, 40)])
def test_scenes_no_larger_than_a_patch_give_the_patches_there_are(shape):
    origins = sample_origins(ArrayScene(np.ones(shape)), 40, 30, np.random.default_rng(0))
    assert origins
    assert len(set(origins)) == len(origins)
    assert all(row == 0 or row + 40 <= shape[0] for row, _ in origins)


def test_the_best_are_taken_where_none_is_valid_enough():
    valid = np.zeros((100, 100))
    valid[50:55, 50:55] = 1
    origins = sample_origins(ArrayScene(valid), 20, 5, np.random.default_rng(0), min_valid=0.9)
    assert origins
    assert all(valid[r : r + 20, c : c + 20].any() for r, c in origins)


def test_an_empty_scene_gives_no_origin():
    assert sample_origins(ArrayScene(np.zeros((50, 50))), 20, 5, np.random.default_rng(0)) == []


def test_what_the_decimated_look_misses_is_found_by_searching():
    valid = np.zeros((2100, 2100))
    valid[1, 1] = 1
    assert sample_origins(ArrayScene(valid), 256, 5, np.random.default_rng(0)) == [(0, 0)]


@given(height=st.integers(1, 80), width=st.integers(1, 80), side=st.integers(1, 90), stride=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_a_grid_covers_a_scene_and_stays_inside(height, width, side, stride):
    seen = np.zeros((height, width), int)
    origins = grid_origins(height, width, side, min(stride, side))
    assert len(set(origins)) == len(origins)
    for row, col in origins:
        assert row == 0 or row + side <= height
        assert col == 0 or col + side <= width
        seen[row : row + side, col : col + side] += 1
    assert seen.all()


@pytest.mark.parametrize("shape", [(300, 400), (40, 60)])
def test_origins_are_drawn_where_they_are_allowed(shape):
    def allowed(rows, cols):
        return (rows < 20) & (cols % 7 == 3)

    scene = ArrayScene(np.ones(shape))
    origins = sample_origins(scene, 30, 25, np.random.default_rng(0), allowed=allowed)
    assert origins
    assert all(row < 20 and col % 7 == 3 for row, col in origins)
    assert sample_origins(scene, 30, 25, np.random.default_rng(0), allowed=lambda r, c: r < 0) == []


def test_rare_places_are_found():
    scene = ArrayScene(np.ones((2000, 1500)))
    origins = sample_origins(
        scene, 30, 5, np.random.default_rng(0), allowed=lambda r, c: (r // 40 == 9) & (c // 30 == 7)
    )
    assert len(origins) == 5


def test_the_share_of_valid_pixels_of_given_patches():
    valid = np.zeros((40, 40), bool)
    valid[:, :10] = True
    np.testing.assert_allclose(valid_share(valid, [(0, 0), (0, 10), (20, 5)], 10, (40, 40)), [1, 0, 0.5])


def test_the_share_of_valid_pixels_is_of_rows_and_columns_by_their_own_decimation():
    upper, left = np.zeros((20, 40), bool), np.zeros((40, 20), bool)
    upper[:5], left[:, :5] = True, True
    np.testing.assert_allclose(valid_share(upper, [(0, 0), (0, 30), (5, 7), (10, 0)], 10, (40, 40)), [1, 1, 0.5, 0])
    np.testing.assert_allclose(valid_share(left, [(0, 0), (30, 0), (7, 5), (0, 10)], 10, (40, 40)), [1, 1, 0.5, 0])


def test_patches_around_a_rare_valid_place_have_their_middles_in_it():
    valid = np.zeros((1000, 800), bool)
    valid[600, 400] = True  # 100 x 50 px of the scene
    scene = SimpleNamespace(height=100_000, width=40_000)
    origins = sample_origins(scene, 200, 20, np.random.default_rng(0), valid=valid)
    assert len(set(origins)) > 10
    assert all(60_000 <= row + 100 <= 60_100 and 20_000 <= col + 100 <= 20_050 for row, col in origins)
