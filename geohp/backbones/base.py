"""What every backbone gives: features of each patch, and how strongly neighbouring patches belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geohp.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PatchFeatures:
    """Dense features on the patch grid.

    Attributes:
        features: (B, C, h, w) float, one vector a patch.
        affinities: (B, h*w, 9) float, non-negative weight of each patch's 3x3 neighbourhood in raster order
            (north-west first, self at index 4), 0 where the neighbour lies outside the image; ``None`` where
            the caller did not ask for them.
    """

    features: Tensor
    affinities: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches (h, w)."""
        return self.features.shape[-2], self.features.shape[-1]


def patch_rows(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) as rows (B * h * w, C), image by image."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


class Backbone(nn.Module, ABC):
    """A frozen feature extractor: normalised images in, :class:`PatchFeatures` out.

    Attributes:
        name: the name that :func:`geohp.backbones.factory.create_backbone` takes.
        block: which block's output is used, counted from 0 (meaningless for backbones without blocks: -1).
        patch_size: side of a patch in pixels; image sides must be multiples of it.
        channels: width C of the features.
        in_channels: number of image bands taken.
        mean, std: per-band normalisation expected of images in [0, 1]: ``(image - mean) / std``.
        embedded: the weights belong into every model file (nothing else could restore them).
    """

    name: str
    block: int
    patch_size: int
    channels: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    embedded: bool = False
    _place: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Some have no weights, and still compute where they were moved to.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._place.device

    @abstractmethod
    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features (B, C, H/p, W/p) of normalised images (B, bands, H, W); affinities only where asked for."""

    def fit(self, images: Iterable[Tensor]) -> None:
        """Draw what the backbone takes from data (batches (B, bands, H, W), normalised); most take nothing."""

    @property
    def needs_fit(self) -> bool:
        """True as long as :meth:`fit` has to be called (or a fitted state loaded) before the first use."""
        return False

    def refuse_unfitted(self) -> None:
        """Raise ModelError where it has been fitted to nothing, as where imagery held no data, and so tells nothing."""
        if self.needs_fit:
            problem = f"{self.name} has not been fitted: where classes were to be found there was no data"
            raise ModelError(problem, "find them anew where there is some")

    @property
    def fit_is_random(self) -> bool:
        """True where :meth:`fit` draws from the images; one that measures them is the same for every seed."""
        return self.needs_fit

    @property
    def parts(self) -> tuple[int, ...]:
        """Channels of the features that belong together, such as those of a stage; their sum is ``channels``."""
        return (self.channels,)

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images (B, bands, H, W).

        Raises:
            ValueError: when the sides are no multiples of the patch size, or the bands are not ``in_channels``.
        """
        _, bands, height, width = images.shape
        if bands != self.in_channels:
            raise ValueError(f"{self.name} takes images of {self.in_channels} bands, not {bands}")
        if height % self.patch_size or width % self.patch_size or not height or not width:
            raise ValueError(
                f"{self.name} takes images whose sides are multiples of its patch size {self.patch_size} px, "
                f"not {height} x {width} px"
            )
        return height // self.patch_size, width // self.patch_size

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Keyword arguments that make :func:`geohp.backbones.factory.create_backbone` build the same architecture."""
