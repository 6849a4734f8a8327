"""How often values occur, region by region, and the percentiles that follow."""

import numpy as np
import pytest

from geohp.vector import value_counts
from geohp.vector.regions import find_regions
from geohp.vector.value_counts import ValueCounts

RANKS = (0, 25, 50, 90, 100)


def add(counts, labels, values, numbers, valid=None):
    """A block whose regions are those of its labels, 255 for none."""
    labels = np.array(labels, np.uint8)
    parts = find_regions(labels, labels != 255)
    values = np.array(values, np.float64)
    counts.add(parts, np.array(numbers), values, np.ones(labels.shape, bool) if valid is None else np.array(valid))


def test_percentiles_are_of_the_pixels_of_each_region_that_are_valid():
    counts = ValueCounts()
    add(counts, [[1, 1, 2, 255]], [[5.0, 1.0, -3.0, 99.0]], [7, 4])
    add(counts, [[3, 3, 3, 1]], [[2.0, 2.0, 1e6, 8.0]], [4, 9], [[True, True, False, True]])
    found = counts.take(np.array([9, 4, 7, 5]), RANKS)
    assert found.shape == (5, 4)
    for place, values in ((0, [8]), (1, [-3, 2, 2]), (2, [5, 1])):
        np.testing.assert_allclose(found[:, place], np.percentile(values, RANKS))
    assert np.isnan(found[:, 3]).all()  # a region without any
    assert np.isnan(counts.take(np.array([4]), RANKS)).all()  # it has been forgotten


@pytest.mark.parametrize("most", [1, 3, 8, 100])
def test_tables_are_joined_and_say_the_same(monkeypatch, most):
    monkeypatch.setattr(value_counts, "_MOST_TABLES", most)
    counts, rng, seen, tables = ValueCounts(), np.random.default_rng(0), [], []
    for _ in range(30):
        values = rng.integers(0, 5, (2, 3)).astype(float)
        seen += values.ravel().tolist()
        add(counts, np.zeros((2, 3)), values, [1])
        tables.append(len(counts._tables[1]))
    assert max(tables) == min(most, 30)
    np.testing.assert_allclose(counts.take(np.array([1]), RANKS)[:, 0], np.percentile(seen, RANKS))


def test_a_block_without_valid_pixels_leaves_nothing():
    counts = ValueCounts()
    add(counts, [[1, 255]], [[1.0, 1.0]], [3], [[False, True]])
    assert counts._tables == {}


def test_keys_keep_fifteen_bits_of_the_fraction():
    values = np.array([1.0, 1 + 2**-15, 1 + 2**-16, 1 + 2**-17, -1 - 2**-16, 0.0, -0.0])
    back = value_counts.from_keys(value_counts.to_keys(values))
    assert back.tolist() == [1.0, 1 + 2**-15, 1 + 2**-15, 1.0, -1 - 2**-15, 0.0, 0.0]
    assert value_counts.to_keys(np.array([0.0])) == value_counts.to_keys(np.array([-0.0]))
