"""Nothing but colour: mean and deviation of every band in each patch, which whatever was learnt has to beat."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.backbones.affinities import cosine_affinities
from geohp.backbones.base import Backbone, PatchFeatures
from geohp.errors import ConfigError


class Colour(Backbone):
    """Mean and standard deviation of each band over a patch; affinities are made of cosines between neighbours.

    Args:
        in_channels: image bands.
        patch_size: side of a patch in pixels.

    Raises:
        ConfigError: for a patch without pixels.
    """

    name = "colour"
    block = -1
    weights_source: str | None = None

    def __init__(self, in_channels: int = 3, *, patch_size: int = 8) -> None:
        super().__init__()
        if patch_size < 1:
            raise ConfigError(f"backbone colour: patch_size must be at least 1, not {patch_size}")
        self.in_channels, self.patch_size, self.channels = in_channels, patch_size, 2 * in_channels
        self.mean, self.std = (0.5,) * in_channels, (0.25,) * in_channels
        self.eval()

    def options(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"in_channels": self.in_channels, "patch_size": self.patch_size}

    @torch.no_grad()
    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features (B, 2 bands, H/p, W/p) and affinities (B, N, 9) of normalised images (B, bands, H, W).

        Raises:
            ValueError: when the sides are no multiples of the patch size, or the bands are not ``in_channels``.
        """
        self.grid_of(images)  # refuses what has none
        mean = F.avg_pool2d(images, self.patch_size)
        fine = images - F.interpolate(mean, scale_factor=self.patch_size)
        deviation = F.avg_pool2d(fine.square(), self.patch_size).sqrt()
        features = torch.cat([mean, deviation], 1)
        return PatchFeatures(features, cosine_affinities(features) if affinities else None)
