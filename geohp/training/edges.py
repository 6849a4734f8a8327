"""Do boundaries of a map lie where the image has edges?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_STRONG = 0.9
"""Quantile of an image's gradients from which one is strong."""
_NEAR_PX = 2


@dataclass(frozen=True)
class EdgeCount:
    """Pixels counted over images.

    Attributes:
        pixels: all; near: those within 2 px of a strong edge.
        boundary: those on a boundary between classes; boundary_near: those of them within 2 px of a strong edge.
    """

    pixels: int = 0
    near: int = 0
    boundary: int = 0
    boundary_near: int = 0

    def __add__(self, other: EdgeCount) -> EdgeCount:
        return EdgeCount(
            self.pixels + other.pixels,
            self.near + other.near,
            self.boundary + other.boundary,
            self.boundary_near + other.boundary_near,
        )

    @property
    def share(self) -> float | None:
        """Per cent of the boundary that is near a strong edge; ``None`` without any boundary."""
        return 100 * self.boundary_near / self.boundary if self.boundary else None

    @property
    def chance(self) -> float:
        """The same of a boundary drawn anywhere."""
        return 100 * self.near / max(1, self.pixels)


def count_edges(image: Tensor, labels: Tensor) -> EdgeCount:
    """Count in one image.

    Strong edges are the tenth of its pixels with the largest gradients (Sobel) of the mean over all bands; pixels
    without any are none.

    Args:
        image: (bands, H, W) in [0, 1].
        labels: (H, W) integer classes.
    """
    near = near_strong_edges(image)
    boundary = torch.zeros_like(near)
    beside, below = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    boundary[:, 1:] |= beside
    boundary[:, :-1] |= beside
    boundary[1:] |= below
    boundary[:-1] |= below
    return EdgeCount(near.numel(), int(near.sum()), int(boundary.sum()), int((near & boundary).sum()))


def near_strong_edges(image: Tensor) -> Tensor:
    """(H, W) bool, which pixels lie within 2 px (in row and column) of a strong edge; see :func:`count_edges`."""
    kernel = image.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    grey = F.pad(image.mean(0)[None, None], (1, 1, 1, 1), mode="replicate")
    across, down = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])[0]
    gradient = torch.hypot(across, down)
    # kthvalue, as torch.quantile takes 16 million values at most.
    bound = gradient.flatten().kthvalue(max(1, int(_STRONG * gradient.numel()))).values
    strong = (gradient > bound) & (gradient > 0)
    side = 2 * _NEAR_PX + 1
    near: Tensor = F.max_pool2d(strong[None].float(), side, 1, _NEAR_PX)[0] > 0
    return near
