"""Scores between blocks: what is kept, what is cut off, what waits in a file and comes back, how they are blended."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geohp.inference.engine.blending import ScoreCache, SpilledScores, WindowScores, blend
from geohp.raster.block import Block

SHAPE = (8, 8)


def window(seed, side=8, channels=2):
    scores = torch.rand(channels, side, side, generator=torch.Generator().manual_seed(seed))
    return WindowScores(scores, np.ones(SHAPE, bool))


def spilled(cache, origin):
    return isinstance(cache._windows[origin].scores, SpilledScores)


def test_windows_come_back_as_they_were_put():
    cache, kept = ScoreCache(SHAPE), window(0)
    cache.put((0, 4), kept)
    empty = WindowScores(None, None)
    cache.put((0, 8), empty)
    assert (0, 4) in cache
    assert (4, 0) not in cache
    assert len(cache) == 2
    assert cache.get((0, 4)) is kept
    assert cache.get((0, 8)) is empty
    assert cache._bytes == 2 * 8 * 8 * 4
    cache.forget([(0, 4), (0, 8)])
    assert (len(cache), cache._bytes) == (0, 0)


def test_where_patches_are_pixels_the_rows_above_are_let_go():
    cache, kept = ScoreCache(SHAPE), window(0)
    cache.put((10, 0), kept)
    cache.keep_below([(10, 0)], 10)
    assert cache.get((10, 0)).above == 0
    cache.keep_below([(10, 0)], 13)
    cut = cache.get((10, 0))
    assert cut.above == 3
    assert torch.equal(cut.scores, kept.scores[:, 3:])
    assert cut.valid is kept.valid
    assert cache._bytes == 2 * 5 * 8 * 4
    assert cut.scores.untyped_storage().nbytes() == cut.scores.nbytes  # not a view of all of it
    cache.keep_below([(10, 0)], 12)  # no row comes back
    assert cache.get((10, 0)).above == 3
    cache.keep_below([(10, 0)], 16)
    assert torch.equal(cache.get((10, 0)).scores, kept.scores[:, 6:])
    cache.forget([(10, 0)])
    assert cache._bytes == 0


def test_coarser_scores_are_kept_whole():
    cache, kept = ScoreCache(SHAPE), window(0, side=2)
    cache.put((0, 0), kept)
    cache.keep_below([(0, 0)], 6)
    assert cache.get((0, 0)) is kept


def test_beyond_the_limit_scores_wait_in_a_file_whose_places_are_used_again():
    size = 2 * 2 * 2 * 4
    cache = ScoreCache(SHAPE, limit=2 * size)
    for number in range(40):
        origins = [(0, 100 * number + k) for k in range(3)]
        windows = {origin: window(number + k, side=2) for k, origin in enumerate(origins)}
        for origin, kept in windows.items():
            cache.put(origin, kept)
        assert cache._bytes == 3 * size
        cache.keep_below(origins, 4)
        assert [spilled(cache, origin) for origin in origins] == [True, False, False]
        assert cache._bytes == 2 * size
        for origin, kept in windows.items():
            assert torch.equal(cache.get(origin).scores, kept.scores)
        cache.keep_below(origins, 5)  # what waits already is left alone
        cache.forget(origins)
        assert cache._bytes == 0
    assert cache._end == size
    handle = cache._file
    assert os.fstat(handle).st_size == size
    cache.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(handle)
    cache.close()


def test_a_cut_window_waits_in_a_file_as_well():
    cache, kept = ScoreCache(SHAPE, limit=0), window(0)
    cache.put((0, 0), kept)
    cache.keep_below([(0, 0)], 3)
    assert spilled(cache, (0, 0))
    back = cache.get((0, 0))
    assert back.above == 3
    assert torch.equal(back.scores, kept.scores[:, 3:])
    os.ftruncate(cache._file, 7)
    with pytest.raises(OSError, match="cut short"):
        cache.get((0, 0))
    cache.close()


@pytest.mark.parametrize("limit", [None, 0, 1000])
def test_nothing_waits_while_there_is_room(limit):
    cache = ScoreCache(SHAPE, limit=limit)
    cache.put((0, 0), window(0, side=2))
    cache.keep_below([(0, 0)], 4)
    assert spilled(cache, (0, 0)) == (limit == 0)
    cache.close()


def test_windows_add_up_by_their_weights_where_they_lie():
    weights = torch.rand(*SHAPE, generator=torch.Generator().manual_seed(9))
    windows = {(0, 0): window(1), (2, 4): window(2, side=2), (6, 0): WindowScores(None, None), (40, 40): window(3)}
    valid = np.random.default_rng(0).random(SHAPE) < 0.5
    windows[2, 4] = WindowScores(windows[2, 4].scores, valid)
    expected, seen = torch.zeros(2, 20, 20), np.zeros((20, 20), bool)
    for (row, col), scored in list(windows.items())[:2]:
        fine = F.interpolate(scored.scores[None], size=SHAPE, mode="bilinear", align_corners=False)[0]
        expected[:, row : row + 8, col : col + 8] += fine * weights
        seen[row : row + 8, col : col + 8] |= scored.valid
    for block in (Block(0, 0, 20, 20), Block(1, 3, 5, 6), Block(9, 11, 2, 2), Block(3, 0, 7, 4)):
        total, known = blend(block, windows, weights, 2)
        torch.testing.assert_close(total, expected[:, *block.slices])
        np.testing.assert_array_equal(known, seen[block.slices])
    # What was cut off above is not missed below.
    below = {(0, 0): WindowScores(windows[0, 0].scores[:, 3:], np.ones(SHAPE, bool), above=3)}
    total, _ = blend(Block(4, 2, 3, 3), below, weights, 2)
    torch.testing.assert_close(total, (windows[0, 0].scores * weights)[:, 4:7, 2:5])
