"""The image whose outlines a dense CRF follows."""

from __future__ import annotations

import torch
from torch import Tensor


def guide_image(bands: Tensor) -> Tensor:
    """Red, green and blue as the published code has them: the first three bands, a missing one being the last again.

    A band that the model sees counts for the outlines as well: of two bands both do, for a border that shows in the
    second alone is a border. A grey of the first would never see it.

    Args:
        bands: (bands, H, W) floating point in [0, 1]; what lies beyond is cut off.

    Returns:
        (3, H, W) uint8.
    """
    shown = bands[[min(band, len(bands) - 1) for band in range(3)]]
    return (shown * 255).round().clamp(0, 255).to(torch.uint8)
