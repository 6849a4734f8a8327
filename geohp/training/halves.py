"""Patches of images that are split by image: what clusterings of different images are compared on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from geohp.methods.base import SampleFeatures

_HELD_OUT = 0.2
"""Share of the images that neither clustering of a pair has seen, on which the two are compared."""

Split = tuple[Tensor, Tensor, Tensor]
"""Places of rows: of one half of the images, of the other, and of those held out of both."""


def draw_patches(sample: SampleFeatures, images: int, rows: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Rows (n, C) float32 on the CPU and the number of the image (n,) that each is of.

    Args:
        sample: yields maps (B, C, h, w) of up to a number of images.
        images: to draw from, at most.
        rows: to draw in all, at most, as many of each image.
        generator: of the draw.
    """
    drawn: list[Tensor] = []
    owners: list[Tensor] = []
    seen = 0
    for maps in sample(images):
        flat = maps.flatten(2).transpose(1, 2)
        per_image = max(1, min(flat.shape[1], rows // images))
        for each in flat:
            picked = torch.randperm(len(each), generator=generator)[:per_image]
            drawn.append(each[picked.to(each.device)].float().cpu())
            owners.append(torch.full((per_image,), seen))
            seen += 1
    return torch.cat(drawn), torch.cat(owners)


def split_by_image(image: Tensor, generator: Generator) -> Split:
    """A random split of rows by the numbers (n,) of their images."""
    order = torch.randperm(int(image.max()) + 1, generator=generator)
    held_out = max(1, round(_HELD_OUT * len(order)))
    half = held_out + (len(order) - held_out) // 2
    first, second, rest = (
        torch.isin(image, part).nonzero().flatten() for part in (order[held_out:half], order[half:], order[:held_out])
    )
    return first, second, rest


def contingency(first: Tensor, second: Tensor, clusters: int) -> NDArray[np.int64]:
    """(K, K) how many rows are in each cluster of the one and of the other labelling (n,)."""
    counts = torch.bincount(first * clusters + second, minlength=clusters * clusters)
    table: NDArray[np.int64] = counts.view(clusters, clusters).numpy()
    return table


def held_out_table(
    rows: Tensor, split: Split, clusters: int, fit: Callable[[Tensor, int], Tensor]
) -> NDArray[np.int64]:
    """How two clusterings, one of each half, label the rows that neither has seen: their :func:`contingency`.

    Args:
        rows: (n, C).
        split: of them.
        clusters: K of both.
        fit: centroids (K, C) of the rows of a half, which is number 0 or 1.
    """
    *halves, held_out = split
    first, second = ((rows[held_out] @ fit(rows[half], which).T).argmax(1) for which, half in enumerate(halves))
    return contingency(first, second, clusters)
