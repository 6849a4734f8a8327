"""Local hidden positives: codes mixed with those of adjacent patches, so that the loss reaches them as well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mix_neighbours(codes: Tensor, affinities: Tensor) -> Tensor:
    """Each patch's code as the affinity-weighted sum over its 3x3 neighbourhood.

    ``mixed[p] = sum_q a[p, q] code[q] / (number of neighbours inside the image: 4, 6 or 9)``, self included.

    Args:
        codes: (B, D, h, w); gradients flow into them.
        affinities: (B, h*w, 9) in raster order, 0 outside the image; taken as constants.

    Returns:
        (B, D, h, w).

    Raises:
        ValueError: when the affinities belong to another grid.
    """
    images, _, h, w = codes.shape
    if affinities.shape != (images, h * w, 9):
        raise ValueError(f"affinities {tuple(affinities.shape)} do not belong to codes {tuple(codes.shape)}")
    weights = affinities.detach().to(codes.dtype).transpose(1, 2).view(images, 9, 1, h, w)
    weights = weights / _neighbours(h, w, codes)
    around = F.pad(codes, (1, 1, 1, 1))
    mixed = torch.zeros_like(codes)
    for k in range(9):
        row, col = divmod(k, 3)
        mixed = mixed + weights[:, k] * around[:, :, row : row + h, col : col + w]
    return mixed


def _neighbours(h: int, w: int, like: Tensor) -> Tensor:
    """How many of each patch's 3x3 neighbourhood lie inside the image (h, w)."""

    def along(length: int) -> Tensor:
        inside = F.pad(like.new_ones(length), (1, 1))  # setting places to a number would wait for a GPU
        return inside[:-2] + inside[1:-1] + inside[2:]

    return along(h)[:, None] * along(w)
