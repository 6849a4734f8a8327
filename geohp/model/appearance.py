"""What classes look like on the imagery, and the colours that they get for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.classes import LandCoverClass
from geohp.colours import spread_colours
from geohp.methods.kmeans.light import natural_from_infrared

CHANNELS = 3
LOOKS = CHANNELS + 2
"""Of what patches look like: mean colour, deviation within, and the largest deviation around."""

_AROUND_PX = 14
"""So far a patch is told of what is around it."""


def natural_colours(images: Tensor, colours: Sequence[str | None]) -> Tensor:
    """What people would see, as far as it is known what the bands show; else the bands as they are.

    Colour infrared becomes what :func:`.natural_from_infrared` makes of it.

    Args:
        images: (B, bands, H, W) in [0, 1].
        colours: "red", "green", "blue", "nir" or ``None`` of each band.
    """
    bands = {colour: images[:, number] for number, colour in enumerate(colours[: images.shape[1]])}
    if {"red", "green", "nir"} <= bands.keys():
        return torch.stack(natural_from_infrared(bands["nir"], bands["red"], bands["green"]), dim=1)
    if {"red", "green", "blue"} <= bands.keys():
        return torch.stack([bands[colour] for colour in ("red", "green", "blue")], dim=1)
    return images


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
    """Mean colour of every patch, how much its pixels vary, and how much those of the patches around it do at most.

    What a patch varies by is the bands' mean standard deviation; it is itself among those around it.

    Args and Returns: those of :func:`patch_colours`, (B, :data:`LOOKS`, h, w).
    """
    means = patch_colours(images, grid, valid)
    variances = (patch_colours(images.square(), grid, valid) - means.square()).clamp_min(0)
    textures = variances.sqrt().mean(1, keepdim=True)
    reach = max(1, round(_AROUND_PX * grid[0] / images.shape[-2]))
    around = F.max_pool2d(textures, 2 * reach + 1, stride=1, padding=reach)
    return torch.cat([means, textures, around], dim=1)


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
