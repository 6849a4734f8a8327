"""Boundaries of a map near edges of its image, counted by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from geohp.training.edges import EdgeCount, count_edges, near_strong_edges


def halves(side=40, at=20):
    image = torch.zeros(3, side, side)
    image[:, :, at:] = 0.8
    return image


def test_a_boundary_on_the_edge_follows_it_and_one_elsewhere_does_not():
    labels = (torch.arange(40) >= 20).long().expand(40, 40)
    on_edge = count_edges(halves(), labels)
    assert on_edge.share == 100
    # The step is seen by the two columns at it, and two more on either side are near.
    assert on_edge.chance == pytest.approx(100 * 6 / 40)
    assert on_edge.boundary == 80
    away = count_edges(halves(), (torch.arange(40) >= 30).long().expand(40, 40))
    assert (away.share, away.chance) == (0, on_edge.chance)


def test_without_boundaries_or_edges_nothing_is_claimed():
    assert count_edges(halves(), torch.zeros(40, 40, dtype=torch.long)).share is None
    flat = count_edges(torch.full((1, 20, 20), 0.5), torch.arange(400).view(20, 20))
    assert (flat.share, flat.chance) == (0, 0)


def test_counts_of_images_add_up():
    total = EdgeCount(10, 4, 2, 1) + EdgeCount(30, 2, 6, 3)
    assert (total.share, total.chance) == (50, 15)


def test_strong_edges_are_those_of_another_sobel():
    image = torch.rand(3, 50, 60, generator=torch.Generator().manual_seed(0))
    grey = image.mean(0).double().numpy()
    gradient = np.hypot(*(ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1)))
    strong = gradient > np.sort(gradient.ravel())[int(0.9 * gradient.size) - 1]
    expected = ndimage.binary_dilation(strong, np.ones((5, 5)))
    assert (near_strong_edges(image).numpy() == expected).mean() > 0.999
