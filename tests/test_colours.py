"""Colours of classes: near to what they look like, and apart from one another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geohp import colours
from geohp.classes import is_colour
from geohp.colours import spread_colours, to_lab

looks_of = st.integers(1, 30).flatmap(lambda count: arrays(np.float64, (count, 3), elements=st.floats(0, 1)))


def rgb(texts):
    return np.array([[int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)] for text in texts])


def closest(texts, matrix=None):
    """The least CIELAB distance between any two, as seen by an eye that mixes linear colours by a matrix."""
    values = rgb(texts)
    if matrix is not None:
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        mixed = (linear @ matrix.T).clip(0, 1)
        values = np.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed ** (1 / 2.4) - 0.055)
    lab = to_lab(values)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    return distances[~np.eye(len(lab), dtype=bool)].min()


def test_cielab_is_the_published_one():
    found = to_lab(np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], float))
    known = [[100, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [0, 0, 0]]
    np.testing.assert_allclose(found, known, atol=0.05)


@given(looks=looks_of)
@settings(max_examples=40, deadline=None)
def test_any_two_can_be_told_apart(looks):
    found = spread_colours(looks)
    assert all(map(is_colour, found))
    assert found == spread_colours(looks)
    if len(found) > 1:
        least = 0.7 * min(26, 70 / len(found) ** 0.5)
        assert closest(found) > least
        for matrix in (colours._PROTAN, colours._DEUTAN):  # eyes without red or green cones
            assert closest(found, matrix) > 0.5 * least


def test_classes_look_like_what_they_show():
    """Of dull aerial imagery: water, wood, meadow, roof tiles, asphalt, concrete."""
    looks = np.array([[42, 58, 72], [45, 60, 42], [105, 128, 84], [140, 104, 88], [92, 92, 94], [168, 168, 164]]) / 255
    found, before = to_lab(rgb(spread_colours(looks))), to_lab(looks)
    for number in (0, 1, 2, 3):
        turn = np.arctan2(*found[number, :0:-1]) - np.arctan2(*before[number, :0:-1])
        assert abs((turn + np.pi) % (2 * np.pi) - np.pi) < np.deg2rad(40), number
    assert (found[:2, 0] < found[5, 0] - 25).all()
    assert np.hypot(*found[5, 1:]) < 25  # concrete stays pale
    assert np.hypot(*found[2, 1:]) > np.hypot(*before[2, 1:])


def test_classes_of_a_kind_have_its_hue_and_the_lightness_of_their_looks():
    looks = np.array([[30, 33, 28], [22, 26, 20], [200, 190, 180], [120, 110, 108], [95, 90, 85]]) / 255
    hues = ("#5f9b4a", "#4a86b8")
    found, wanted = to_lab(rgb(spread_colours(looks, hues=hues))), to_lab(rgb(hues))
    for number in (0, 1):
        turn = np.arctan2(*found[number, :0:-1]) - np.arctan2(*wanted[number, :0:-1])
        assert abs((turn + np.pi) % (2 * np.pi) - np.pi) < np.deg2rad(40), number
        assert found[number, 0] < found[2, 0] - 25
    assert closest(spread_colours(looks, hues=hues)) > 0.7 * 26


def test_what_was_not_seen_or_is_all_alike_still_gets_a_colour():
    nothing = np.full(3, np.nan)
    for looks in ([nothing], [nothing, nothing], [[0.5, 0.5, 0.5]] * 8, [[0.2, 0.4, 0.1], nothing]):
        assert len(set(spread_colours(np.array(looks)))) == len(looks)
    assert spread_colours(np.empty((0, 3))) == []
    assert len(set(spread_colours(np.random.default_rng(0).random((254, 3))))) == 254


def test_colours_that_are_taken_stay_alone():
    look = np.array([[0.2, 0.5, 0.2]] * 3)
    free = spread_colours(look)
    found = spread_colours(look, taken=[free[0]])
    assert free[0] not in found
    assert closest([*found, free[0]]) > 15


@pytest.mark.parametrize("turned", [[2, 0, 1], [1, 2, 0]])
def test_colours_follow_the_class_not_its_number(turned):
    looks = np.array([[0.2, 0.3, 0.5], [0.3, 0.5, 0.2], [0.6, 0.5, 0.4]])
    found = spread_colours(looks)
    assert spread_colours(looks[turned]) == [found[number] for number in turned]
