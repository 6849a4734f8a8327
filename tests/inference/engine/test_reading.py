"""Windows read ahead: what each shows, one read a group, and cells that cannot be read."""

import threading
import time

import numpy as np
import pytest

from geohp.errors import SceneError
from geohp.inference.engine.reading import NodataOnErrorScene, ahead, read_ahead


class Scene:
    """A scene held in memory; cells named as damaged cannot be read."""

    def __init__(self, height, width, damaged=()):
        self.data = np.random.default_rng(0).random((2, height, width)).astype(np.float32)
        self.valid = np.ones((height, width), bool)
        self.height, self.width, self.damaged, self.reads = height, width, damaged, []

    def read(self, row, col, height, width):
        self.reads.append((row, col, height, width))
        for top, left in self.damaged:
            if row <= top < row + height and col <= left < col + width:
                raise SceneError("a tile is damaged", "copy it again")
        part = np.s_[row : row + height, col : col + width]
        return self.data[:, *part].copy(), self.valid[part].copy()

    def thumbnail(self, max_px):
        return self.data[:, :max_px], self.valid[:max_px]


def test_groups_are_read_at_once_and_windows_are_cut_from_them():
    scene = Scene(20, 30)
    groups = [[(0, 0), (0, 6)], [], [(12, 20)]]
    first, none, last = read_ahead(scene, groups, (8, 10))
    assert scene.reads == [(0, 0, 8, 16), (12, 20, 8, 10)]
    assert none == ()
    for patch in (*first, *last):
        row, col = patch.origin
        np.testing.assert_array_equal(patch.data, scene.data[:, row : row + 8, col : col + 10])
        assert patch.valid.all()
        assert patch.valid.strides == (0, 0)  # where nothing is missing it takes no memory
    assert [patch.origin for patch in (*first, *last)] == [(0, 0), (0, 6), (12, 20)]
    assert list(read_ahead(scene, [], (8, 8))) == []


def test_what_is_missing_and_what_lies_beyond_the_scene():
    scene = Scene(10, 10)
    scene.valid[:4] = False
    ((whole, part, beyond),) = read_ahead(scene, [[(0, 0), (2, 0), (4, 6)]], (4, 8))
    assert (whole.data, whole.valid) == (None, None)
    np.testing.assert_array_equal(part.valid, scene.valid[2:6, :8])
    np.testing.assert_array_equal(part.data[:, 2:], scene.data[:, 4:6, :8])
    assert beyond.data.shape == (2, 4, 8)
    np.testing.assert_array_equal(beyond.valid, [[True] * 4 + [False] * 4] * 4)
    assert part.valid.base is None  # not a view of the group's


def test_what_cannot_be_read_is_said_by_the_window():
    with pytest.raises(SceneError, match="damaged"):
        list(read_ahead(Scene(20, 20, damaged=[(5, 5)]), [[(0, 0)], [(10, 10)]], (8, 8)))


def test_cells_are_tried_once_and_given_up_alone():
    scene = Scene(300, 600, damaged=[(10, 10), (280, 590)])
    lenient = NodataOnErrorScene(scene)
    assert (lenient.height, lenient.width) == (300, 600)
    data, valid = lenient.read(200, 200, 80, 100)
    expected = np.ones((80, 100), bool)
    expected[:56, :56] = False
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(data[:, valid], scene.data[:, 200:280, 200:300][:, expected])
    assert (data[:, ~valid] == 0).all()
    assert lenient.skipped == {(0, 0, 256, 256): "a tile is damaged"}
    scene.reads.clear()
    lenient.read(0, 0, 256, 256)
    assert scene.reads == [(0, 0, 256, 256)]  # as a whole, once more; the cell itself is not tried again
    data, valid = lenient.read(260, 520, 40, 80)
    assert not valid.any()
    assert data.shape == (1, 40, 80)
    assert set(lenient.skipped) == {(0, 0, 256, 256), (256, 512, 44, 88)}


def test_a_read_that_meets_no_damage_is_one_read_of_whole_cells():
    scene = Scene(700, 700)
    lenient = NodataOnErrorScene(scene)
    data, valid = lenient.read(250, 300, 20, 30)
    assert scene.reads == [(0, 256, 512, 256)]
    np.testing.assert_array_equal(data, scene.data[:, 250:270, 300:330])
    assert valid.shape == (20, 30)
    assert lenient.skipped == {}
    assert lenient.thumbnail(5)[1].shape == (5, 700)


def test_so_many_are_computed_before_they_are_asked_for():
    asked = []

    def items():
        for number in range(9):
            asked.append((number, threading.current_thread().name))
            yield number

    given = ahead(items(), 3, "counting")
    for number in range(9):
        assert next(given) == number
        wait_for(lambda: len(asked) == min(9, number + 4))  # noqa: B023
    assert list(given) == []
    assert {name.split("_")[0] for _, name in asked} == {"counting"}


def test_an_error_comes_in_its_place_and_what_is_left_early_is_closed():
    closed = []

    def items(failing):
        try:
            yield 1
            yield 2 // (not failing)
            yield 3
        finally:
            closed.append(failing)

    before = threading.active_count()
    broken = ahead(items(failing=True), 2, "counting")
    assert next(broken) == 1
    with pytest.raises(ZeroDivisionError):
        next(broken)
    left = ahead(items(failing=False), 1, "counting")
    assert next(left) == 1
    left.close()
    assert closed == [True, False]
    assert threading.active_count() == before


def wait_for(condition):
    """Until it holds, for some seconds; then no longer than a moment, in which it must not cease to."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.01)
    assert condition()
