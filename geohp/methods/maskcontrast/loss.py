"""The loss of MaskContrast: every patch against the mean of its own mask, and those of other masks (section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_AT_ONCE = 1 << 24
"""Logits that are in memory at a time: 64 MiB in float32."""


def numbered(masks: Tensor) -> tuple[Tensor, int]:
    """Masks counted through a batch.

    Args:
        masks: (B, h, w) int64, the mask of every patch within its image; negative where there is none.

    Returns:
        (B*h*w,) the number of each patch's mask, from 0, -1 where there is none; and how many masks there are.
    """
    image = torch.arange(len(masks), device=masks.device)[:, None, None].expand_as(masks).flatten()
    flat = masks.flatten()
    inside = flat >= 0
    if not bool(inside.any()):
        return torch.full_like(flat, -1), 0
    keys, places = torch.unique(image[inside] * (flat.max() + 1) + flat[inside], return_inverse=True)
    numbers = torch.full_like(flat, -1)
    numbers[inside] = places
    return numbers, len(keys)


def mask_means(rows: Tensor, numbers: Tensor, masks: int) -> Tensor:
    """z_M = 1/|M| sum of z_i over the patches i in M, brought back to length 1.

    Args:
        rows: (n, D).
        numbers: (n,) of each row's mask, -1 for none.
        masks: M; each has a row.

    Returns:
        (M, D) unit rows.
    """
    inside = numbers >= 0
    sums = rows.new_zeros(masks, rows.shape[1]).index_add_(0, numbers[inside], rows[inside])
    return F.normalize(sums, dim=1)


def near_equal(features: Tensor, others: Tensor, cosine: float) -> Tensor:
    """Which masks are no negatives of which: (M, K) bool, K >= M, where the first M of the others are the masks.

    Args:
        features: (M, C) unit rows, a mean feature for each mask.
        others: (K, C) the same of all that may be pushed away from, the masks themselves first.
        cosine: from which on two masks are taken to show the same thing. A mask and itself always are.
    """
    same = features @ others.T >= cosine if cosine < 1 else features.new_zeros(len(features), len(others)).bool()
    same.diagonal().fill_(True)
    return same


def mask_contrast_loss(
    z: Tensor, numbers: Tensor, keys: Tensor, others: Tensor, excluded: Tensor, temperature: float
) -> Tensor:
    """L_i = -log exp(z_i . k_M(i) / tau) / (exp(z_i . k_M(i) / tau) + sum over k of exp(z_i . k / tau)), averaged.

    The mean runs over the patches that lie in a mask. Memory stays bounded: logits are computed anew for the backward
    pass, a part of the patches at a time.

    Args:
        z: (n, D) unit codes.
        numbers: (n,) of each patch's mask M(i), -1 for none.
        keys: (M, D) mean codes of the masks by the averaged head; without gradient.
        others: (K, D) mean codes that may be pushed away from.
        excluded: (M, K) those which are not, for each mask.
        temperature: tau.

    Returns:
        The loss; 0, with a gradient of 0, where no patch lies in a mask.
    """
    inside = numbers >= 0
    z, numbers = z[inside], numbers[inside]
    total, step = z.sum() * 0, max(1, _AT_ONCE // max(1, len(others)))
    for first in range(0, len(z), step):
        part = slice(first, first + step)
        total += checkpoint(_summed, z[part], numbers[part], keys, others, excluded, temperature, use_reentrant=False)
    return total / max(1, len(z))


def _summed(z: Tensor, mask: Tensor, keys: Tensor, others: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    positive = (z * keys[mask]).sum(1, keepdim=True).float() / temperature
    negative = ((z @ others.T).float() / temperature).masked_fill(excluded[mask], -torch.inf)
    return (torch.cat([positive, negative], 1).logsumexp(1) - positive[:, 0]).sum()
