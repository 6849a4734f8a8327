"""A linear probe for heads that were trained without one: how much of the labelled classes do the codes hold?"""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Adam

from geohp.features.sampler import FeatureSampler
from geohp.methods.probes import LinearProbe
from geohp.progress import Progress, no_progress

LEARNING_RATE = 1e-3
"""Of Adam, as HP trains its own linear probe beside the head."""


def fit_linear_probe(
    head: nn.Module,
    features: FeatureSampler,
    code_channels: int,
    classes: int,
    *,
    epochs: int,
    seed: int = 0,
    progress: Progress = no_progress,
) -> LinearProbe:
    """Train a linear classifier over frozen codes by cross-entropy, with the optimiser that HP gives its own.

    Args:
        head: features (B, C, h, w) to codes (B, D, h, w); not changed.
        features: of labelled images.
        code_channels: D.
        classes: number of labelled classes.
        epochs: passes over the images.
        seed: of the initial weights.
        progress: of the steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = LinearProbe(code_channels, classes).to(features.device)
    optimizer = Adam(probe.parameters(), lr=LEARNING_RATE)
    batches = features.batches()
    total, done = epochs * len(batches), 0
    for _ in range(epochs):
        for batch in batches:
            with torch.no_grad():
                codes = head(features.patches(batch).features)
            optimizer.zero_grad()
            torch.autograd.backward(probe.loss(codes, batch["mask"].to(features.device)))
            optimizer.step()
            done += 1
            progress("training the linear probe", done, total)
    return probe.eval()
