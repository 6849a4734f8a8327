"""The segmentation head from features to codes, and its moving average."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn


class SegmentationHead(nn.Module):
    """A linear and a nonlinear branch, added: (B, C, h, w) features to (B, D, h, w) codes.

    Each branch sees the features through a channel dropout of its own, drawn anew at every call.

    Args:
        in_channels: C.
        code_channels: D.
        dropout: share of whole channels dropped, per image.
        nonlinear: have the nonlinear branch; without it the head is the linear one alone.
    """

    nonlinear: nn.Sequential | None

    def __init__(self, in_channels: int, code_channels: int, dropout: float = 0.1, *, nonlinear: bool = True) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(dropout)
        self.linear = nn.Conv2d(in_channels, code_channels, 1)
        self.nonlinear = _nonlinear_branch(in_channels, code_channels) if nonlinear else None

    def forward(self, features: Tensor) -> Tensor:
        """Codes of the features."""
        codes = self.linear(self.drop(features))
        if self.nonlinear is not None:
            codes = codes + self.nonlinear(self.drop(features))
        return cast(Tensor, codes)


def _nonlinear_branch(in_channels: int, code_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, in_channels, 1), nn.ReLU(), nn.Conv2d(in_channels, code_channels, 1))


class EMAHead(nn.Module):
    """An exponential moving average of a head: starts equal to it, follows it, and never needs a gradient.

    In training mode its channel dropout is active, as it is in the head.

    Args:
        head: what to follow.
        momentum: share m of the average that an update keeps.
    """

    def __init__(self, head: SegmentationHead, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.head = copy.deepcopy(head).requires_grad_(False)

    @torch.no_grad()
    def update(self, head: SegmentationHead, share: float = 1.0) -> None:
        """Average = m^share * average + (1 - m^share) * head: of the shares of a step together, m."""
        momentum = self.momentum**share
        for average, online in zip(self.head.parameters(), head.parameters(), strict=True):
            average.mul_(momentum).add_(online, alpha=1 - momentum)

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Codes (B, D, h, w) of the averaged head."""
        return cast(Tensor, self.head(features))
