"""Regions of a raster against what a pixel by pixel look at their numbers gives."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from geohp.vector.regions import find_regions, rank_by_first

label_arrays = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))
)


@given(values=label_arrays)
@settings(deadline=None, max_examples=60)
def test_regions_are_the_pieces_that_hang_together_by_sides_in_the_order_of_their_first_pixels(values):
    regions = find_regions(values, values != 255)
    pieces = 0
    for value in (0, 1, 2):
        labelled, count = ndimage.label(values == value)
        pieces += count
        for piece in range(1, count + 1):
            numbers = np.unique(regions.ids[labelled == piece])
            assert len(numbers) == 1
            assert regions.values[numbers[0] - 1] == value
    assert regions.count == pieces
    assert ((regions.ids == 0) == (values == 255)).all()
    _, first = np.unique(regions.ids.ravel()[regions.ids.ravel() > 0], return_index=True)
    assert (np.diff(first) > 0).all()


@given(values=label_arrays, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_figures_of_regions(values, seed):
    regions, ids = find_regions(values, values != 255), find_regions(values, values != 255).ids
    rng = np.random.default_rng(seed)
    weights, whole = rng.random(values.shape), rng.integers(0, 99, values.shape)
    each = [ids == number for number in range(1, regions.count + 1)]
    assert regions.pixel_counts().tolist() == [mask.sum() for mask in each]
    assert regions.first.tolist() == [np.flatnonzero(mask)[0] for mask in each]
    assert regions.sums(whole).tolist() == [whole[mask].sum() for mask in each]
    np.testing.assert_allclose(regions.sums(weights), [weights[mask].sum() for mask in each])
    of_rows = np.broadcast_to(weights[:, :1], values.shape)
    np.testing.assert_allclose(regions.sums(weights[:, :1]), [of_rows[mask].sum() for mask in each])
    np.testing.assert_allclose(regions.sums(weights[:1, :1]), [weights[0, 0] * mask.sum() for mask in each])
    np.testing.assert_allclose(regions.minima(weights), [weights[mask].min() for mask in each])
    assert regions.at(np.arange(values.size)).tolist() == ids.ravel().tolist()
    assert regions.lengths.sum() == values.size
    bits = rng.random(values.shape) < 0.5
    assert regions.sums(bits).tolist() == [bits[mask].sum() for mask in each]


def test_numbers_by_first_occurrence():
    numbers, first = rank_by_first(np.array([7, 3, 7, 9, 3]))
    assert numbers.tolist() == [1, 2, 1, 3, 2]
    assert first.tolist() == [0, 1, 3]
