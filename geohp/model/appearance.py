"""What classes look like on the imagery, and the colours that they get for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.classes import LandCoverClass
from geohp.colours import spread_colours

CHANNELS = 3


def patch_colours(images: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Tensor:
    """Mean colour of every patch, as the model's first three channels show it; grey where there are fewer.

    Args:
        images: (B, bands, H, W) in [0, 1], 0 where there is no data.
        grid: rows and columns of patches (h, w).
        valid: (B, H, W), which pixels hold data; all by default.

    Returns:
        (B, 3, h, w).
    """
    shown = images[:, :CHANNELS] if images.shape[1] >= CHANNELS else images[:, :1].expand(-1, CHANNELS, -1, -1)
    means = F.adaptive_avg_pool2d(shown, grid)
    if valid is None:
        return means
    return means / F.adaptive_avg_pool2d(valid[:, None].to(means), grid).clamp_min(torch.finfo(means.dtype).tiny)


def patch_looks(images: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Tensor:
    """Mean colour of every patch, and how much its pixels vary: a fourth channel, the bands' mean standard deviation.

    Args and Returns: those of :func:`patch_colours`, (B, 4, h, w).
    """
    means = patch_colours(images, grid, valid)
    variances = (patch_colours(images.square(), grid, valid) - means.square()).clamp_min(0)
    return torch.cat([means, variances.sqrt().mean(1, keepdim=True)], dim=1)


def coloured_by_look(
    classes: Sequence[LandCoverClass],
    colours: Tensor,
    clusters: Tensor,
    chosen: Sequence[str] = (),
    hues: Sequence[str] = (),
) -> tuple[LandCoverClass, ...]:
    """Classes in the mean colours of their patches, spread so that they can be told apart.

    Args:
        classes: one a cluster.
        colours: (n, 3) of patches, in [0, 1].
        clusters: (n,) the cluster of each.
        chosen: colours of the first classes, which stay.
        hues: colours whose hue the first classes have, whatever theirs is, where their colours are not chosen.
    """
    colours, clusters = colours.double().cpu(), clusters.cpu()
    sums = torch.zeros(len(classes), CHANNELS, dtype=torch.float64).index_add_(0, clusters, colours)
    counts = torch.bincount(clusters, minlength=len(classes))[:, None]
    looks = torch.where(counts > 0, sums / counts, torch.nan).numpy()
    spread = [*chosen, *spread_colours(looks[len(chosen) :], chosen, hues[len(chosen) :])]
    return tuple(replace(entry, colour=colour) for entry, colour in zip(classes, spread, strict=True))
