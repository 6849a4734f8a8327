"""What a map says of each pixel: its class, how sure that is, and how the classes share it.

Everything is computed where the scores are, and nothing waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geohp.classes import QUANTITY_STEPS
from geohp.inference.engine.transfer import to_device
from geohp.model.smoothing import CONFIDENCE_TEMPERATURE


def labels(scores: Tensor, cluster_to_class: Sequence[int] | None = None) -> Tensor:
    """The class of every pixel, uint8.

    Args:
        scores: (K, height, width) weighted sums; the weights, common to all classes, need not be divided out.
        cluster_to_class: (K,) the class that each of them belongs to; by default each is its own.
    """
    # The first of the largest, several times faster than argmax along an outer dimension on a CPU.
    largest = scores.amax(0)
    classes = range(len(scores)) if cluster_to_class is None else cluster_to_class
    winners = torch.full(largest.shape, classes[len(scores) - 1], dtype=torch.uint8, device=scores.device)
    for number in range(len(scores) - 2, -1, -1):
        winners.masked_fill_(scores[number] == largest, classes[number])
    return winners


def confidence_layers(
    scores: Tensor, quantities: frozenset[str], cluster_to_class: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Confidence, entropy and probabilities as stored.

    Clusters share a pixel by a softmax of their scores, divided by their common scale and by a temperature: for a
    cluster probe the cosines with the centroids. The share of a class is that of its clusters together. Shares rank
    pixels; they are no calibrated probabilities.

    Args:
        scores: (K + 1, height, width) weighted sums, the last channel their common scale.
        quantities: names out of :data:`geohp.options.QUANTITIES`.
        cluster_to_class: (K,) the class that each cluster belongs to; by default each is its own.

    Returns:
        (height, width) uint8, (classes, height, width) for the probabilities. The confidence is the share of the class
        that :func:`labels` gives.
    """
    if not quantities:
        return {}
    probabilities = class_probabilities(scores)
    if cluster_to_class is None:
        return _stored_quantities(probabilities, probabilities.amax(0), quantities)
    merged = _merged(probabilities, cluster_to_class)
    # Of the class of the likeliest cluster, which may not be the likeliest class.
    winners = _places(cluster_to_class, merged.device)[probabilities.argmax(0)]
    return _stored_quantities(merged, merged.gather(0, winners[None])[0], quantities)


def refined_layers(
    marginals: Tensor, quantities: frozenset[str], cluster_to_class: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Labels and quantities where the classes' shares are known.

    Args:
        marginals: (classes, height, width) weighted sums; the weights, common to all classes, are divided out.
        quantities: names out of :data:`geohp.options.QUANTITIES`.
        cluster_to_class: (K,) the class of each cluster, classes being in ascending order; by default each is its own.

    Returns:
        As :func:`labels` and :func:`confidence_layers`; the confidence is the largest share.
    """
    classes = None if cluster_to_class is None else sorted(set(cluster_to_class))
    layers = {"labels": labels(marginals, classes)}
    if quantities:
        probabilities = marginals / marginals.sum(0).clamp_min(torch.finfo(torch.float32).tiny)
        layers |= _stored_quantities(probabilities, probabilities.amax(0), quantities)
    return layers


def class_probabilities(scores: Tensor, cluster_to_class: Sequence[int] | None = None) -> Tensor:
    """How the clusters share each pixel, or the classes that they belong to.

    Args:
        scores: (K + 1, height, width) weighted sums, the last channel their common scale.
        cluster_to_class: (K,) the class that each cluster belongs to; by default each is its own.

    Returns:
        (K, height, width), or (classes, height, width) by ascending class, summing to 1.
    """
    cosines = scores[:-1] / scores[-1].clamp_min(torch.finfo(torch.float32).tiny)
    probabilities = (cosines / CONFIDENCE_TEMPERATURE).softmax(0)
    return probabilities if cluster_to_class is None else _merged(probabilities, cluster_to_class)


def _merged(probabilities: Tensor, cluster_to_class: Sequence[int]) -> Tensor:
    """(classes, height, width) of (clusters, height, width)."""
    total = probabilities.new_zeros(len(set(cluster_to_class)), *probabilities.shape[1:])
    return total.index_add_(0, _places(cluster_to_class, probabilities.device), probabilities)


def _places(cluster_to_class: Sequence[int], device: torch.device) -> Tensor:
    """(K,) the place of each cluster's class among the classes in ascending order."""
    classes = sorted(set(cluster_to_class))
    return to_device(torch.tensor([classes.index(number) for number in cluster_to_class]), device)


def _stored_quantities(probabilities: Tensor, confidence: Tensor, quantities: frozenset[str]) -> dict[str, Tensor]:
    layers: dict[str, Tensor] = {}
    if "confidence" in quantities:
        layers["confidence"] = _stored(confidence)
    if "entropy" in quantities:
        entropy = torch.special.entr(probabilities).sum(0) / math.log(max(2, len(probabilities)))
        layers["entropy"] = _stored(entropy)
    if "probabilities" in quantities:
        layers["probabilities"] = _stored(probabilities)
    return layers


def _stored(values: Tensor) -> Tensor:
    return (values * QUANTITY_STEPS).round().clamp(0, QUANTITY_STEPS).to(torch.uint8)
