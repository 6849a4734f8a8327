"""What a map says of a pixel, by hand: classes, how sure they are, and how they share it."""

import math

import numpy as np
import pytest
import torch

from geohp.inference.engine import layers as device_layers
from geohp.inference.engine.layers import class_probabilities
from geohp.inference.engine.transfer import LayersToHost
from geohp.options import QUANTITIES

ALL = frozenset(QUANTITIES)
VALID = np.array([[True, True, False]])


def labels(scores, valid, *options):
    """As they arrive."""
    return LayersToHost.send({"labels": device_layers.labels(scores, *options)}).wait(valid)["labels"]


def confidence_layers(scores, valid, *options):
    return LayersToHost.send(device_layers.confidence_layers(scores, *options)).wait(valid)


def refined_layers(marginals, valid, *options):
    return LayersToHost.send(device_layers.refined_layers(marginals, *options)).wait(valid)


def scored(shares, scale=2.0):
    """Weighted scores (K + 1, 1, pixels) whose softmax gives these shares (pixels, K)."""
    cosines = 0.1 * torch.tensor(shares).clamp_min(1e-12).log().T[:, None]
    return torch.cat([cosines * scale, torch.full((1, 1, len(shares)), scale)])


def test_the_class_is_the_first_of_the_largest():
    scores = torch.tensor([[1.0, 2, 5], [3.0, 2, 5], [3.0, 1, 9]])[:, None]
    assert labels(scores, VALID).tolist() == [[1, 0, 255]]
    assert labels(scores, VALID, (7, 4, 7)).tolist() == [[4, 7, 255]]
    assert labels(scores, ~VALID).tolist() == [[255, 255, 2]]
    assert labels(torch.ones(1, 1, 3), VALID).tolist() == [[0, 0, 255]]
    assert labels(scores, VALID).dtype == np.uint8
    many = torch.eye(254)[:, None, :]
    assert labels(many, np.ones((1, 254), bool)).tolist() == [list(range(254))]


def test_shares_are_a_softmax_of_scores_over_their_scale():
    shares = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    for scale in (0.5, 2.0):
        probabilities = class_probabilities(scored(shares, scale))
        np.testing.assert_allclose(probabilities[:, 0].T, shares, rtol=1e-4)
    merged = class_probabilities(scored(shares), (5, 2, 5))
    np.testing.assert_allclose(merged[:, 0].T, [[0.3, 0.7], [0.1, 0.9]], rtol=1e-4)  # class 2, then 5
    empty = class_probabilities(torch.zeros(3, 1, 1))
    np.testing.assert_allclose(empty[:, 0, 0], [0.5, 0.5])


def test_quantities_are_stored_in_steps_of_a_254th():
    shares = [[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.2, 0.6]]
    layers = confidence_layers(scored(shares), VALID, ALL)
    assert set(layers) == ALL
    assert layers["confidence"].tolist() == [[127, 85, 255]]  # 254 / 3 = 84.67
    entropy = 1.5 * math.log(2) / math.log(3)
    assert layers["entropy"].tolist() == [[round(254 * entropy), 254, 255]]
    assert layers["probabilities"].shape == (3, 1, 3)
    assert layers["probabilities"][:, 0, 2].tolist() == [255] * 3
    assert layers["probabilities"][0, 0].tolist() == [127, 85, 255]
    assert all(layer.dtype == np.uint8 for layer in layers.values())
    assert set(confidence_layers(scored(shares), VALID, frozenset({"entropy"}))) == {"entropy"}
    assert device_layers.confidence_layers(scored(shares), frozenset()) == {}


def test_clusters_of_a_class_are_sure_together():
    # The likeliest cluster is of class 0, the likeliest class is 1: the map says 0, and how sure that is.
    shares = [[0.4, 0.32, 0.28], [0.2, 0.5, 0.3], [1.0, 0, 0]]
    scores, of_class = scored(shares), (0, 1, 1)
    layers = confidence_layers(scores, VALID, ALL, of_class)
    assert labels(scores[:-1], VALID, of_class).tolist() == [[0, 1, 255]]
    assert layers["confidence"].tolist() == [[round(254 * 0.4), round(254 * 0.8), 255]]
    assert layers["probabilities"][:, 0, 0].tolist() == [round(254 * 0.4), round(254 * 0.6)]
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)) / math.log(2)
    assert layers["entropy"][0, 1] == pytest.approx(254 * entropy, abs=1)
    alone = confidence_layers(scores, VALID, ALL, (3, 3, 3))
    assert alone["entropy"].tolist() == [[0, 0, 255]]
    assert alone["confidence"].tolist() == [[254, 254, 255]]


def test_refined_layers_divide_the_weights_out():
    marginals = 3 * torch.tensor([[0.3, 0.6, 0.5], [0.7, 0.4, 0.5]])[:, None]
    layers = refined_layers(marginals, VALID, ALL, (5, 2, 5))
    assert layers["labels"].tolist() == [[5, 2, 255]]  # classes in ascending order
    assert layers["confidence"].tolist() == [[round(254 * 0.7), round(254 * 0.6), 255]]
    assert layers["probabilities"][:, 0, 0].tolist() == [round(254 * 0.3), round(254 * 0.7)]
    plain = refined_layers(marginals, VALID, frozenset())
    assert set(plain) == {"labels"}
    assert plain["labels"].tolist() == [[1, 0, 255]]
    unseen = refined_layers(torch.zeros(2, 1, 3), np.zeros((1, 3), bool), ALL)
    assert (unseen["confidence"] == 255).all()
