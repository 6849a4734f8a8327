"""Masks of earlier steps, to be pushed away from: a first-in, first-out memory (section 3.2, after MoCo)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskQueue(nn.Module):
    """The last R masks: their mean codes by the averaged head, and their mean features.

    Part of a training's state, and so of its checkpoints.

    Args:
        size: R.
        code_channels: D.
        feature_channels: C.
    """

    codes: Tensor
    features: Tensor
    enqueued: Tensor

    def __init__(self, size: int, code_channels: int, feature_channels: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(size, code_channels))
        self.register_buffer("features", torch.zeros(size, feature_channels))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.int64))

    def rows(self) -> tuple[Tensor, Tensor]:
        """Codes (r, D) and features (r, C) of the masks there are, r <= R, in no order."""
        count = min(int(self.enqueued), len(self.codes))
        return self.codes[:count].clone(), self.features[:count].clone()

    @torch.no_grad()
    def enqueue(self, codes: Tensor, features: Tensor) -> None:
        """Take in masks, codes (M, D) and features (M, C), in the place of those that have been there longest."""
        size = len(self.codes)
        first = int(self.enqueued) + max(0, len(codes) - size)
        codes, features = codes[-size:], features[-size:]
        places = (first + torch.arange(len(codes), device=codes.device)) % size
        self.codes[places] = codes.to(self.codes)
        self.features[places] = features.to(self.features)
        self.enqueued.fill_(first + len(codes))
