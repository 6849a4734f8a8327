"""Classes of patches in the light of what lies around them: neighbours have a say, and so has colour.

    cosines ─▶ shares of patches ─▶ means of neighbours ─▶ cells of some 4 px ─▶ dense CRF with their colours

A patch is 8 to 16 px wide and is named by itself. Neighbours speak against specks. Where colours change within a patch,
or hold across its border, the class does likely, too: that is what a dense CRF tells (Krähenbühl and Koltun 2011). On
means of a few pixels it is as right as on all of them, at a tenth of the cost; docs/accuracy.md says what it is worth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.crf.mean_field import Bilateral, dense_crf, guide_image

CONFIDENCE_TEMPERATURE = 0.1
"""Confidence is the winner's share in a softmax of the scores, divided by their last channel, over this.

It is the same whatever the spread of the classes: over a tenth of that, cosines of `aerial` rank patches worse by what
is right (area under the curve 0.75, 0.68 and 0.88 in place of 0.91, 0.79 and 0.94 on three places of Dubai), and mostly
say that they are sure."""

_OF_SPREAD = 0.1
"""Temperature of the shares, as a part of the spread of the classes: cosines of features that share much of their
direction differ by hundredths, those of trained codes by one."""
_CELL_PX = 4
"""Side of a cell, about: a sixteenth of the pixels is what the CRF works on, whatever the patch."""
_ITERATIONS = 5
_SXY_PX, _COMPAT = Bilateral().sxy, 2.5
"""The published kernel, but of less weight, and in half as many iterations: small classes and thin objects stay."""
_LEAST = 1e-5
"""So that a share has a logarithm that can be blended."""


def cells_along(patch_px: int) -> int:
    """Cells along the side of a patch of so many pixels."""
    return max(1, round(patch_px / _CELL_PX))


def neighbourhood_shares(cosines: Tensor, spread: Tensor | float) -> Tensor:
    """How much of a patch and its neighbourhood is of each class: (B, K, h, w) positive, summing up to 1.

    What is averaged are not cosines, of which a patch that is like nothing has as much to say as a plain one, but their
    softmax, over 3x3 patches, near ones more; at the rim over those that there are.

    Args:
        cosines: (B, K, h, w) of codes with the classes' centroids.
        spread: of the classes, see :meth:`.ClusterProbe.spread`: how much cosines tell.
    """
    temperature = torch.as_tensor(_OF_SPREAD * spread).clamp_min(torch.finfo(torch.float32).eps)
    shares = (cosines.float() / temperature).softmax(1)
    # Means over 2x2 of means over 2x2 weigh the rows, and the columns, as 1 : 2 : 1; beyond the rim there is nothing.
    means = F.avg_pool2d(F.avg_pool2d(shares, 2, 1, 1), 2, 1)
    return means / means.sum(1, keepdim=True)


def fit_to_colours(shares: Tensor, images: Tensor) -> Tensor:
    """How much of each cell of an image is of each class.

    Args:
        shares: (B, K, h, w) of patches, positive and summing up to 1.
        images: (B, bands, H, W) in [0, 1], what the patches show. Of the bands the first three count; see
            :func:`.guide_image`.

    Returns:
        (B, K, h c, w c) float32, c being :func:`cells_along`; from 1e-5 to 1, summing up to 1 but for that bound.
    """
    height, width = shares.shape[-2:]
    cells = cells_along(images.shape[-1] // width)
    size = (height * cells, width * cells)
    fine = F.interpolate(shares, size=size, mode="bilinear", align_corners=False)
    colours = F.interpolate(images[:, :3].float(), size=size, mode="bilinear", antialias=True)
    kernel = Bilateral(sxy=_SXY_PX * size[1] / images.shape[-1], compat=_COMPAT)
    return dense_crf(guide_image(colours), fine.log(), iterations=_ITERATIONS, bilateral=kernel).clamp_min(_LEAST)


def average_neighbours(maps: Tensor) -> Tensor:
    """Means over 3x3 patches of maps (B, C, h, w), at the rim over those that there are."""
    return F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)
