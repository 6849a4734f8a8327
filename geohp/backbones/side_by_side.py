"""Features of two or more backbones side by side: what a transformer sees, and what smaller networks see besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geohp.backbones.base import Backbone, PatchFeatures
from geohp.backbones.names import JOINED
from geohp.errors import DataError

OTHERS = "others"
"""Prefix of what every model file holds, whatever becomes of the first backbone's weights."""

_MEASURED = 8
"""Images by which the length of the first's features is measured."""
_ROUNDING = 1e-5
"""Features that differ by less than this share of their length differ by rounding alone."""


class SideBySide(Backbone):
    """The features of a backbone, and after them those of others on the same patches.

    The others' features are centred on the imagery's mean, and brought to ``share`` times the mean length of the
    first's: as they are, the longest vectors alone would decide which patches are alike. Affinities are the first's.

    Args:
        first: a backbone of any kind; its patches, bands, block and affinities are those of all.
        others: backbones that need no fit, of the same patches and bands.
        share: length of each of the others' features, as a share of the first's.
    """

    weights_source: str | None

    def __init__(self, first: Backbone, others: Sequence[Backbone], *, share: float = 0.5) -> None:
        super().__init__()
        self.first = first
        self.others = _Others(others)
        self.share = share
        self.name = JOINED.join((first.name, *(other.name for other in others)))
        self.block, self.patch_size, self.in_channels = first.block, first.patch_size, first.in_channels
        self.mean, self.std, self.embedded = first.mean, first.std, first.embedded
        self.channels = first.channels + sum(other.channels for other in others)
        self.weights_source = getattr(first, "weights_source", None)
        self.requires_grad_(False)
        self.eval()

    def options(self) -> dict[str, Any]:
        """Those of the first, and the share of the others."""
        return {**self.first.options(), "share": self.share}

    def train(self, mode: bool = True) -> SideBySide:
        """Stays in eval mode: nothing in it is trained."""
        super().train(False)
        return self

    @property
    def parts(self) -> tuple[int, ...]:
        """Those of the first, then those of the others."""
        return (*self.first.parts, *(width for other in self.others.backbones for width in other.parts))

    @property
    def needs_fit(self) -> bool:
        """True until fitted, or a fitted state is loaded."""
        return self.first.needs_fit or not bool(self.others.fitted)

    @property
    def fit_is_random(self) -> bool:
        """That of the first: what stands beside it is measured."""
        return self.first.fit_is_random

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> None:
        """Fit the first where it needs it; measure centre and length of the others' features, and the first's length.

        The latter of a few of the images only: it hardly varies, and a transformer's features are dear.

        Raises:
            DataError: when there are no images.
        """
        batches = list(images)
        if not batches:
            raise DataError(f"{self.name}: there is no imagery to fit to", "give at least one image")
        if self.first.needs_fit:
            self.first.fit(batches)
        single = [image[None] for batch in batches for image in batch]
        few = single[:: -(-len(single) // _MEASURED)]
        lengths = [self.first(image, affinities=False).features.norm(dim=1).flatten() for image in few]
        self.others.fit((self._rescaled(batch) for batch in batches), self.share * torch.cat(lengths).mean())

    @torch.no_grad()
    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features (B, C, H/p, W/p), the first's channels first, and affinities (B, N, 9) of normalised images.

        Raises:
            ValueError: when the sides are no multiples of the patch size, or the bands are not ``in_channels``.
            ModelError: before it was fitted.
        """
        self.refuse_unfitted()
        patches = self.first(images, affinities)
        # Under autocasting the first's may be in half precision: the more exact type is that of all.
        return PatchFeatures(torch.cat([patches.features, self.others(self._rescaled(images))], 1), patches.affinities)

    def _rescaled(self, images: Tensor) -> Tensor:
        """Images in [0, 1], as they were before they were normalised for the first."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return images * std + mean


class _Others(nn.Module):
    """Backbones beside the first, with the centre and the scale of their features."""

    centre: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        super().__init__()
        self.backbones: Sequence[Backbone] = nn.ModuleList(backbones)  # type: ignore[assignment]
        self._widths = [backbone.channels for backbone in backbones]
        self.register_buffer("centre", torch.zeros(sum(self._widths)))
        self.register_buffer("scale", torch.ones(sum(self._widths)))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, batches: Iterable[Tensor], length: Tensor) -> None:
        """Take centre and scale from images in [0, 1], so that every backbone's features have a mean length."""
        rows = torch.cat([self._raw(batch).transpose(0, 1).flatten(1) for batch in batches], 1)
        self.centre.copy_(rows.mean(1))
        parts = torch.split(rows, self._widths)
        centres = torch.split(self.centre[:, None], self._widths)
        scales = [_scale(part, centre, length) for part, centre in zip(parts, centres, strict=True)]
        self.scale.copy_(torch.cat([s.expand(w) for s, w in zip(scales, self._widths, strict=True)]))
        self.fitted.fill_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Centred and scaled features (B, C, h, w) of images in [0, 1]."""
        return (self._raw(images) - self.centre[:, None, None]) * self.scale[:, None, None]

    def _raw(self, images: Tensor) -> Tensor:
        features = []
        for backbone in self.backbones:
            mean, std = (images.new_tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
            features.append(backbone((images - mean) / std, affinities=False).features.to(self.centre.dtype))
        return torch.cat(features, 1)


def _scale(rows: Tensor, centre: Tensor, length: Tensor) -> Tensor:
    """What brings features (C, n), less their centre (C, 1), to a mean length; 0 where they are all the same."""
    own = (rows - centre).norm(dim=0).mean()
    rounding = _ROUNDING * rows.norm(dim=0).mean()
    return torch.where(own > rounding, length / own.clamp_min(torch.finfo(own.dtype).tiny), 0.0)
