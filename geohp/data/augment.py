"""Photometric augmentation of images in [0, 1]: before normalisation, so that nothing but real colours is clipped."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

# Luma weights of ITU-R BT.601, for images of three bands.
_LUMA = (0.299, 0.587, 0.114)


def photometric(images: Tensor, generator: Generator, strength: float = 0.3) -> Tensor:
    """Random brightness, contrast and saturation, each image its own; geometry is untouched.

    Args:
        images: (B, bands, H, W) in [0, 1].
        generator: source of randomness, on the CPU.
        strength: factors are drawn from [1 - strength, 1 + strength].

    Returns:
        The same shape, in [0, 1].
    """

    def factor() -> Tensor:
        draw = torch.rand(len(images), 1, 1, 1, generator=generator)
        return (1 + strength * (2 * draw - 1)).to(images)

    images = images * factor()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor()
    weights = torch.tensor(_LUMA if images.shape[1] == 3 else [1 / images.shape[1]] * images.shape[1]).to(images)
    grey = (images * weights[:, None, None]).sum(1, keepdim=True)
    return (grey + (images - grey) * factor()).clamp(0, 1)
