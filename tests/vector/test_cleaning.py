"""Small regions go to their neighbours."""

from __future__ import annotations

import numpy as np
import rioxarray  # noqa: F401 (the accessor)
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from geohp.vector import cleaning
from geohp.vector.cleaning import merge_small, shared_borders
from geohp.vector.polygonize import polygonize
from geohp.vector.regions import find_regions

label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=10).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))
)


def cleaned(values, minimum, pixel_area=1):
    before = find_regions(values, values != 255)
    areas = before.pixel_counts() * pixel_area
    group, labels = merge_small(before.values, areas, shared_borders(before.ids), minimum)
    after = np.concatenate([[255], labels])[np.concatenate([[0], group + 1])[before.ids]].astype(values.dtype)
    return after, np.concatenate([[0], group + 1])[before.ids]


@given(values=label_arrays, minimum=st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_no_small_region_has_a_neighbour(values, minimum):
    after, ids = cleaned(values, minimum)
    np.testing.assert_array_equal(after == 255, values == 255)
    # The regions are those of the cleaned labels: connected, numbered alike.
    again = find_regions(after, after != 255)
    np.testing.assert_array_equal(again.ids, ids)
    counts = np.concatenate([[0], again.pixel_counts()])
    for one, other in ((ids[:, 1:], ids[:, :-1]), (ids[1:], ids[:-1])):
        touching = (one != other) & (one > 0) & (other > 0)
        assert (counts[one[touching]] >= minimum).all()
        assert (counts[other[touching]] >= minimum).all()
    # Labels arise nowhere anew, and regions that are large enough keep theirs.
    before = find_regions(values, values != 255)
    assert set(np.unique(after)) <= set(np.unique(values))
    large = np.concatenate([[False], before.pixel_counts() >= minimum])[before.ids]
    np.testing.assert_array_equal(after[large], values[large])


def test_longest_border_wins_then_the_larger():
    values = np.array(
        [
            [0, 0, 0, 1, 1, 1],
            [0, 0, 2, 2, 1, 1],
            [0, 0, 2, 2, 1, 1],
            [0, 0, 0, 0, 0, 0],
        ],
        np.uint8,
    )
    after, _ = cleaned(values, 5)
    assert (after[1:3, 2:4] == 0).all()  # 5 sides with class 0, 3 with class 1
    small_but_close = np.pad(np.array([[3, 3, 3], [3, 2, 3], [0, 0, 0]], np.uint8), ((0, 4), (0, 0)))
    after, _ = cleaned(small_but_close, 2)
    assert after[1, 1] == 3  # 3 sides with the smaller neighbour, 1 with the larger
    tie = np.array([[0, 0, 2, 1, 1, 1]], np.uint8)
    after, _ = cleaned(tie, 2)
    assert after.tolist() == [[0, 0, 1, 1, 1, 1]]


def test_smallest_first():
    # The pixel goes first and makes its neighbour large enough to stay.
    values = np.array([[0, 0, 0, 0, 1, 1, 2]], np.uint8)
    after, _ = cleaned(values, 3)
    assert after.tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_pieces_joined_by_a_merger_are_one():
    # Neither half of class 0 reaches 5 pixels, but together they do once the bridge is theirs.
    values = np.array([[0, 0, 1, 0, 0, 2, 2, 2, 2, 2]], np.uint8)
    after, ids = cleaned(values, 5)
    assert after.tolist() == [[0, 0, 0, 0, 0, 2, 2, 2, 2, 2]]
    assert ids.max() == 2


def test_surrounded_by_nodata_stays_and_exact_minimum_stays():
    values = np.full((5, 5), 255, np.uint8)
    values[2, 2] = 1
    after, _ = cleaned(values, 100)
    np.testing.assert_array_equal(after, values)
    thirds = np.array([[0, 0, 0, 1, 1, 1]], np.uint8)
    after, _ = cleaned(thirds, 3 * 0.1, 0.1)
    np.testing.assert_array_equal(after, thirds)


def test_square_metres_not_degrees():
    values = np.zeros((6, 6), np.uint8)
    values[2, 2] = 1
    array = xr.DataArray(values, dims=("y", "x")).rio.write_transform(Affine(1e-4, 0, 9, 0, -1e-4, 60))
    array = array.rio.write_crs(4326)  # a pixel is 11.1 m by 5.6 m
    assert len(polygonize(array, min_area_m2=55)) == 2
    assert len(polygonize(array, min_area_m2=70)) == 1
    mercator = array.rio.write_crs(3857).rio.write_transform(Affine(10, 0, 1e6, 0, -10, 8399738))  # 60 degrees north
    assert len(polygonize(mercator, min_area_m2=20)) == 2  # 25 m2 on the ground, 100 on the map
    assert len(polygonize(mercator, min_area_m2=30)) == 1


def test_repeatable():
    values = np.random.default_rng(3).integers(0, 5, (60, 60)).astype(np.uint8)
    first, _ = cleaned(values, 12)
    second, _ = cleaned(values.copy(), 12)
    np.testing.assert_array_equal(first, second)


def test_rounds_are_few(monkeypatch):
    """Each round is a few array operations; a naive order would need one for every link of a chain."""
    rounds = []
    plain = cleaning.contract
    monkeypatch.setattr(cleaning, "contract", lambda *given: rounds.append(1) or plain(*given))
    rng = np.random.default_rng(0)
    values = np.zeros((1000, 1000), np.uint8)
    values[:, 500:] = 1
    values.ravel()[rng.choice(values.size, 30_000, replace=False)] = rng.integers(2, 6, 30_000)
    _, ids = cleaned(values, 10)
    assert ids.max() == 2
    assert len(rounds) < 20
    rounds.clear()
    stripes = (np.indices((3000, 3))[0] % 200).astype(np.uint8)  # equal areas in a row
    cleaned(stripes, 20)
    assert len(rounds) < 60
