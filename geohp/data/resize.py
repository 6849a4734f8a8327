"""Patches and their masks brought to the side that a model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def resized(image: Tensor, side: int) -> Tensor:
    """(bands, H, W) to (bands, side, side), see :func:`interpolated`."""
    return image if image.shape[-2:] == (side, side) else interpolated(image, (side, side))


def interpolated(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """(bands, H, W) to (bands, *shape), bilinear, antialiased where it shrinks."""
    import torch.nn.functional as F  # when there is an image: surveying them does without

    return F.interpolate(image[None], size=shape, mode="bilinear", antialias=True)[0]


def resized_mask(mask: Tensor, side: int) -> Tensor:
    """(H, W) to (side, side), the nearest pixel."""
    if mask.shape == (side, side):
        return mask
    import torch.nn.functional as F

    # Labels are below 2**24, which float32 holds exactly.
    return F.interpolate(mask[None, None].float(), size=(side, side), mode="nearest-exact")[0, 0].long()


def resized_index(length: int, side: int) -> NDArray[np.int64]:
    """Which of ``length`` rows or columns are the (side,) that :func:`resized_mask` takes."""
    import torch
    import torch.nn.functional as F

    positions = torch.arange(length, dtype=torch.float32)[None, None]
    index: NDArray[np.int64] = F.interpolate(positions, size=side, mode="nearest-exact")[0, 0].long().numpy()
    return index
