"""How strongly each patch attends to its 3x3 neighbourhood: the weights of HP's local hidden positives."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 28.0
"""HP multiplies the softmaxed attention by 28, its training grid's side, whatever the grid is: a constant."""

LOW, HIGH = 0.1, 0.9
COSINE_TEMPERATURE = 0.2
_CHUNK = 1 << 24  # logits worked on at once: bounds the temporaries to some 64 MB each in float32


def neighbour_affinities(attention_logits: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Non-negative weights of each patch's 3x3 neighbourhood from self-attention (HP, local hidden positives).

    Each row of logits is clamped to its own 10 % and 90 % quantiles (linear interpolation), softmaxed over all N
    patches and multiplied by 28; entries below their row's mean become 0. Of the result only the nine neighbours
    are kept, so nothing but one clamped copy of a few images' rows is ever held. Dividing by the number of
    neighbours inside the image is left to the mixing itself.

    Args:
        attention_logits: (B, N, N) pre-softmax, scaled, head-averaged logits between patches, raster order; rows
            are queries. Half precision is computed in float32, float64 stays float64.
        grid: rows and columns (h, w) of patches, N = h * w; may be left out where N is a square number.

    Returns:
        (B, N, 9) in raster order, north-west first, self at index 4; 0 where the neighbour lies outside the image.

    Raises:
        ValueError: when the shapes do not fit together.
    """
    if attention_logits.ndim != 3 or attention_logits.shape[1] != attention_logits.shape[2]:
        raise ValueError(f"attention logits must be (B, N, N), not {tuple(attention_logits.shape)}")
    images, patches, _ = attention_logits.shape
    height, width = square_grid(patches) if grid is None else grid
    if height * width != patches:
        raise ValueError(f"a grid of {height} x {width} has {height * width} patches, the logits {patches}")
    neighbours, inside = neighbour_indices(height, width, attention_logits.device)
    chunk = max(1, _CHUNK // (patches * patches))
    with torch.no_grad():
        parts = [
            _affinities_of(attention_logits[first : first + chunk], neighbours) * inside
            for first in range(0, images, chunk)
        ]
    return torch.cat(parts) if parts else attention_logits.new_empty(0, patches, 9)


def cosine_affinities(features: Tensor) -> Tensor:
    """The same kind of weights where there is no attention, from cosines between the features of neighbours.

    A softmax over the neighbours inside the image, those below the mean set to 0 (never the patch itself, its cosine is
    the largest), and the rest scaled so that they sum to the number of neighbours inside the image: dividing by that
    number, as the mixing of HP does, gives a weighted average of similar patches.

    Args:
        features: (B, C, h, w) float.

    Returns:
        (B, h * w, 9), ordered as :func:`neighbour_affinities` orders them.
    """
    height, width = features.shape[-2:]
    unit = F.pad(F.normalize(features, dim=1), (1, 1, 1, 1))
    center = unit[:, :, 1:-1, 1:-1]
    cosines = torch.stack(
        [(center * unit[:, :, r : r + height, c : c + width]).sum(1) for r in range(3) for c in range(3)], -1
    ).flatten(1, 2)
    _, inside = neighbour_indices(height, width, features.device)
    weights = (cosines / COSINE_TEMPERATURE).masked_fill(~inside, -torch.inf).softmax(-1)
    neighbours = inside.sum(-1, keepdim=True)
    strong = weights >= 1 / neighbours
    strong[..., 4] = True
    weights = weights * strong
    return weights / weights.sum(-1, keepdim=True) * neighbours


def neighbour_indices(height: int, width: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Raster indices (N, 9) of each patch's 3x3 neighbourhood, and whether the neighbour is inside (N, 9) bool.

    Neighbours outside are given the index of the nearest patch inside, so that the indices are always valid.
    """
    offsets = torch.arange(-1, 2, device=device)
    rows = torch.arange(height, device=device)[:, None] + offsets
    cols = torch.arange(width, device=device)[:, None] + offsets
    inside = _within(rows, height)[:, None, :, None] & _within(cols, width)[None, :, None, :]
    index = rows.clamp(0, height - 1)[:, None, :, None] * width + cols.clamp(0, width - 1)[None, :, None, :]
    return index.reshape(height * width, 9), inside.reshape(height * width, 9)


def square_grid(patches: int) -> tuple[int, int]:
    """The side of a square grid, twice.

    Raises:
        ValueError: when the number of patches is not a square.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise ValueError(f"{patches} patches make no square grid; give its rows and columns")
    return side, side


def _affinities_of(logits: Tensor, neighbours: Tensor) -> Tensor:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    low, high = _quantiles(logits)
    # After clamping, `high` is the row's largest entry: subtracting it keeps the exponentials within (0, 1].
    # softmax = e / sum(e), whose mean over the row is 1 / N: "at least the mean" is e >= mean(e), and comparing
    # the unnormalised numbers keeps ties (a row of equal logits) exact.
    total_mean = logits.clamp(low, high).sub_(high).exp_().mean(-1, keepdim=True)
    index = neighbours.expand(len(logits), -1, -1)
    near = logits.gather(-1, index).clamp(low, high).sub_(high).exp_()
    weights = near * (SCALE / (logits.shape[-1] * total_mean))
    return torch.where(near >= total_mean, weights, 0.0)


def _quantiles(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The LOW and HIGH quantiles over the last axis, kept as an axis of one; `torch.quantile` refuses this size."""
    last = rows.shape[-1] - 1
    ranks = [LOW * last, HIGH * last]
    below = [math.floor(rank) for rank in ranks]
    needed = [below[0], min(below[0] + 1, last), below[1], min(below[1] + 1, last)]
    if rows.device.type == "cpu" and last >= 10:
        orders = [torch.from_numpy(order) for order in _select(rows.detach().numpy(), below[0], below[1])]
    else:
        ordered = rows.sort(-1).values
        orders = [ordered[..., k, None] for k in needed]
    return (
        torch.lerp(orders[0], orders[1], ranks[0] - below[0]),
        torch.lerp(orders[2], orders[3], ranks[1] - below[1]),
    )


def _select(rows: np.ndarray, first: int, second: int) -> list[np.ndarray]:
    """Order statistics first, first + 1, second, second + 1 of each row: selecting is five times as fast as sorting."""
    upper = np.partition(rows, second, axis=-1)
    lower = np.partition(upper[..., :second], first, axis=-1)
    return [
        lower[..., first, None].copy(),
        lower[..., first + 1 :].min(-1, keepdims=True),
        upper[..., second, None].copy(),
        upper[..., second + 1 :].min(-1, keepdims=True),
    ]


def _within(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)
