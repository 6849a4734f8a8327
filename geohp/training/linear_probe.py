"""A linear probe over codes as they are after training: how much of the labelled classes do they hold?"""

from __future__ import annotations

import logging

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from geohp.features.sampler import FeatureSampler
from geohp.methods.probes import LinearProbe
from geohp.progress import Progress, no_progress
from geohp.training.sample_images import labels_at_centres

logger = logging.getLogger(__name__)

_ROWS = 50_000
"""Labelled patches that the classifier is fitted to, at most."""

_STEPS = 300
"""Of L-BFGS, at most."""

_UNSEEN = -1e4
"""Logit of a class that no patch has."""


def fit_linear_probe(
    head: nn.Module,
    features: FeatureSampler,
    code_channels: int,
    classes: int,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> LinearProbe | None:
    """Fit logistic regression to the codes of labelled patches until it has converged.

    A probe trained beside the head, as HP does it, needs thousands of steps; a few hundred images afford some hundred.

    Args:
        head: features (B, C, h, w) to codes (B, D, h, w); not changed.
        features: of labelled images.
        code_channels: D.
        classes: number of labelled classes; one that no patch has is never predicted.
        seed: of the draw of patches.
        progress: of reading codes.

    Returns:
        The probe; ``None`` where no patch's centre is labelled.
    """
    codes, labels = _labelled_codes(head, features, classes, seed, progress)
    present = torch.unique(labels)
    if not len(present):
        return None
    weight = torch.zeros(classes, code_channels, dtype=torch.float64)
    bias = torch.full((classes,), _UNSEEN, dtype=torch.float64)
    bias[present] = 0
    if len(present) > 1:
        mean, deviation = codes.mean(0), codes.std(0).clamp_min(1e-6)
        regression = LogisticRegression(max_iter=_STEPS, random_state=seed)
        regression.fit(((codes - mean) / deviation).numpy(), labels.numpy())
        slopes, offsets = _per_class(regression)
        weight[present] = slopes / deviation  # of codes as they are, in place of standardised ones
        bias[present] = offsets - weight[present] @ mean
    else:
        logger.warning("the labels hold one class: the linear probe tells nothing apart")
    probe = LinearProbe(code_channels, classes)
    probe.load_state_dict({"classifier.weight": weight[:, :, None, None], "classifier.bias": bias})
    return probe.to(features.device).eval()


@torch.no_grad()
def _labelled_codes(
    head: nn.Module, features: FeatureSampler, classes: int, seed: int, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Codes (n, D) in float64 of patches whose centres are labelled, and their labels (n,), drawn evenly."""
    batches = features.batches()
    generator = torch.Generator().manual_seed(seed)
    most = max(1, _ROWS // len(batches))
    codes, labels = [], []
    for number, batch in enumerate(batches, start=1):
        of_images = head(features.patches(batch).features).cpu()
        of_centres = labels_at_centres(batch["mask"].cpu(), (of_images.shape[-2], of_images.shape[-1])).flatten()
        known = ((of_centres >= 0) & (of_centres < classes)).nonzero()[:, 0]
        drawn = known[torch.randperm(len(known), generator=generator)[:most]]
        codes.append(of_images.transpose(0, 1).flatten(1).T[drawn].double())
        labels.append(of_centres[drawn])
        progress("fitting the linear probe", number, len(batches))
    return torch.cat(codes), torch.cat(labels)


def _per_class(regression: LogisticRegression) -> tuple[Tensor, Tensor]:
    """Slopes (k, D) and offsets (k,) of every class; of two, scikit-learn keeps the difference alone."""
    slopes, offsets = regression.coef_, regression.intercept_
    if len(slopes) == 1:
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    return torch.from_numpy(slopes), torch.from_numpy(offsets)
