"""The correspondence loss: codes at sampled points of two images are to correspond where their features do.

Correspondence is the cosine (equation 1 of the paper), and the loss its equations 3 and 4, as the reference
implementation computes them: its spatial centring keeps the overall mean of the correspondences, which the equation
does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.backbones.base import patch_rows

CEILING = 0.8
"""Cosine of codes beyond which a stabilised loss pulls no more."""


@dataclass(frozen=True)
class Rows:
    """What is compared of a batch of images at P points each.

    Attributes:
        features: (B, P, C) unit vectors.
        codes: (B, P, D) unit vectors.
    """

    features: Tensor
    codes: Tensor


@dataclass(frozen=True)
class Maps:
    """A batch of images.

    Attributes:
        features: (B, C, h, w).
        codes: (B, D, h, w).
    """

    features: Tensor
    codes: Tensor

    def at(self, points: Tensor, images: Tensor | None = None) -> Rows:
        """What is there at points (B, P, 2), in other images of the batch where ``images`` (B,) says so."""
        return Rows(*(sampled_rows(maps, points, images) for maps in (self.features, self.codes)))


@dataclass(frozen=True)
class Comparison:
    """How the correspondences of pairs of images become a loss.

    Attributes:
        pointwise: centre the features' correspondences of each point.
        zero_clamp: a negative correspondence of codes counts as none.
        stabilise: and one beyond :data:`CEILING` as that.
    """

    pointwise: bool = True
    zero_clamp: bool = True
    stabilise: bool = False

    def __call__(self, first: Rows, second: Rows, shift: float) -> tuple[Tensor, Tensor]:
        """The loss ``-mean((F - shift) * max(S, 0))`` of pairs of images, and the mean of S.

        Args:
            first, second: the images of each pair; no gradient reaches their features.
            shift: correspondence F of features above which codes attract, and below which they repel.
        """
        with torch.no_grad():
            similar = first.features @ second.features.transpose(1, 2)
            if self.pointwise:
                similar = similar - similar.mean(2, keepdim=True) + similar.mean()
        cosines = first.codes @ second.codes.transpose(1, 2)
        clamped = cosines.clamp(0.0 if self.zero_clamp else -inf, CEILING if self.stabilise else inf)
        return -(clamped * (similar - shift)).mean(), cosines.detach().mean()


@dataclass(frozen=True)
class Places:
    """Where the images of a step are compared, and with which others of the batch.

    Attributes:
        first: (B, P, 2) points of each image, x and y from -1 to 1, the centres of the outermost patches.
        second: (B, P, 2) points of the image it is compared with.
        others: (pairs, B) which image of the batch each is paired with at random; no pairs where there is no other.
    """

    first: Tensor
    second: Tensor
    others: Tensor

    @classmethod
    def draw(cls, images: int, points: int, pairs: int, generator: Generator, device: torch.device) -> Places:
        """For a batch of so many images, the same on every device."""
        first, second = torch.rand(2, images, points, 2, generator=generator) * 2 - 1
        others = [_other_images(images, generator) for _ in range(pairs if images > 1 else 0)]
        together = torch.stack(others) if others else torch.empty(0, images, dtype=torch.long)
        return cls(first.to(device), second.to(device), together.to(device))


def sampled_rows(maps: Tensor, points: Tensor, images: Tensor | None = None) -> Tensor:
    """Unit vectors (B, P, C) at points of maps (B, C, h, w), interpolated bilinearly.

    No map is copied for its random pairs, as ``grid_sample`` would need, and its gradient does not depend on the order
    in which threads of a GPU come.

    Args:
        maps: of features or codes.
        points: (B, P, 2), see :class:`Places`.
        images: (B,) the map that each row of points is on; by default its own.
    """
    height, width = maps.shape[-2:]
    images = torch.arange(len(maps), device=maps.device) if images is None else images
    left, right, x = _between(points[..., 0], width)
    top, bottom, y = _between(points[..., 1], height)
    corners = torch.stack([row * width + column for row in (top, bottom) for column in (left, right)], 2)
    shares = torch.stack([down * across for down in (1 - y, y) for across in (1 - x, x)], 2)
    rows = F.embedding_bag(
        (images[:, None, None] * (height * width) + corners).flatten(0, 1),
        patch_rows(maps.to(shares.dtype)),
        per_sample_weights=shares.flatten(0, 1),
        mode="sum",
    )
    return F.normalize(rows.view(*points.shape[:2], -1), dim=2, eps=1e-10)


def _between(positions: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The patches before and after positions from -1 to 1 along a side, and the share of the way to the latter."""
    exact = (positions + 1) / 2 * (side - 1)
    before = exact.long().clamp_max(max(0, side - 2))
    return before, (before + 1).clamp_max(side - 1), exact - before


def _other_images(images: int, generator: Generator) -> Tensor:
    """Another image for each (B,): a random order, in which whatever would meet itself takes the next one."""
    order = torch.randperm(images, generator=generator)
    return torch.where(order == torch.arange(images), (order + 1) % images, order)
