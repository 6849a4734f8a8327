"""Mask proposals: which patches of an image are taken to show the same thing, before anything is known about it.

From the image's colours, from the backbone's affinities, or from what comes with the data. All are brought to the
patch grid, so that they take two bytes a patch and are kept beside the features.
"""

from __future__ import annotations

import heapq
import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geohp.backbones.affinities import neighbour_indices
from geohp.backbones.base import PatchFeatures
from geohp.data.base import ImageSet
from geohp.errors import DataError
from geohp.methods.maskcontrast.settings import MaskSettings, Proposal

logger = logging.getLogger(__name__)

_LAB_RANGE = 100.0
"""Of colours in Lab, which a superpixel's compactness is measured against; other bands range to 1."""
_SMOOTHED_PX = 1.0
"""Deviation of the Gauss kernel before superpixels: noise would tear them to pieces, which are then thrown together."""

Segments = NDArray[np.int64]


class MaskProposals:
    """Masks of a batch of images.

    Args:
        settings: kinds, sizes.
        images: that they are of.

    Raises:
        DataError: masks are to come with images that have none.
    """

    def __init__(self, settings: MaskSettings, images: ImageSet) -> None:
        self.settings = settings
        with_data = "data" in settings.proposals
        if with_data and not images.segmented:
            raise DataError(
                "method.masks.proposals = data: the images come without masks",
                "name polygons with data.mask_polygons or saliency maps with data.saliency, or take superpixels",
            )
        if images.segmented and not with_data:
            logger.warning("the masks that come with the images have no use: method.masks.proposals does not name data")

    def identity(self) -> dict[str, Any]:
        """What masks depend on besides images and backbone."""
        return asdict(self.settings)

    def __call__(self, images: Tensor, patches: PatchFeatures, segments: Tensor | None = None) -> Tensor:
        """The mask of each patch.

        Args:
            images: (B, bands, H, W) in [0, 1].
            patches: their features, with affinities.
            segments: (B, H, W) masks that came with the data, -1 where there is none.

        Returns:
            (B, h, w) int16 on the CPU: masks of each image counted from 0, -1 where a patch lies in none.
        """
        masks = [
            self._masks(images[number], patches, number, None if segments is None else segments[number])
            for number in range(len(images))
        ]
        return torch.from_numpy(np.stack(masks).astype(np.int16))

    def _masks(self, image: Tensor, patches: PatchFeatures, number: int, segments: Tensor | None) -> Segments:
        masks = np.full(patches.grid, -1, np.int64)
        for kind in self.settings.proposals:
            free = masks < 0
            if free.any():
                proposed = self._proposed(kind, image, patches, number, segments)
                masks[free] = np.where(proposed < 0, -1, proposed + masks.max() + 1)[free]
        numbers, places = np.unique(masks, return_inverse=True)
        return places.reshape(masks.shape) - int(numbers[0] < 0)

    def _proposed(
        self, kind: Proposal, image: Tensor, patches: PatchFeatures, number: int, segments: Tensor | None
    ) -> Segments:
        """(h, w) masks of one kind, -1 where there is none."""
        settings, grid = self.settings, patches.grid
        if kind == "superpixels":
            pixels = superpixels(image.cpu().numpy(), settings.segments, settings.compactness)
            return on_patches(pixels, grid)
        if kind == "affinities":
            assert patches.affinities is not None
            return affinity_segments(patches.affinities[number].cpu().numpy(), grid, settings.segments)
        assert segments is not None
        return on_patches(segments.cpu().numpy(), grid)


def superpixels(image: NDArray[np.float32], segments: int, compactness: float) -> Segments:
    """About so many superpixels (H, W), from 0, of an image (bands, H, W) in [0, 1], by SLIC.

    Three bands are compared as colours, in Lab; any other number as they are, with as much weight.
    """
    from skimage.segmentation import slic

    colour = len(image) == 3
    labels: Segments = slic(
        np.moveaxis(image, 0, -1),
        segments,
        compactness=compactness if colour else compactness / _LAB_RANGE,
        sigma=_SMOOTHED_PX,
        convert2lab=colour,
        start_label=0,
        channel_axis=-1,
    ).astype(np.int64)
    return labels


def on_patches(pixels: Segments, grid: tuple[int, int]) -> Segments:
    """Masks of pixels (H, W) as masks of patches (h, w): of each patch, the mask of most of its pixels.

    Args:
        pixels: negative where there is no mask; sides are multiples of the grid's.
        grid: rows and columns of patches.
    """
    (rows, cols), (height, width) = grid, pixels.shape
    patches = pixels.reshape(rows, height // rows, cols, width // cols).swapaxes(1, 2).reshape(rows * cols, -1)
    return torch.from_numpy(patches).mode(1).values.numpy().reshape(grid)


def affinity_segments(affinities: NDArray[np.floating[Any]], grid: tuple[int, int], segments: int) -> Segments:
    """So many connected segments of patches that attend to each other, by merging neighbours pair by pair.

    Next come always the two regions of the least ``|R||S| / (|R| + |S|) * (1 - a)``, a the mean affinity across their
    border: Ward's criterion with affinity in the place of distance, so that small regions are merged before large ones.

    Args:
        affinities: (N, 9) of each patch's 3x3 neighbourhood, see :class:`geohp.backbones.base.PatchFeatures`.
        grid: rows and columns of patches, N of them.
        segments: how many.

    Returns:
        (h, w), from 0.
    """
    borders = _borders(affinities, grid)
    parent, sizes = np.arange(len(affinities)), np.ones(len(affinities))
    queue = [(_cost(1, 1, *border), p, q) for p, near in enumerate(borders) for q, border in near.items() if p < q]
    heapq.heapify(queue)
    regions = len(affinities)
    while regions > segments and queue:
        cost, p, q = heapq.heappop(queue)
        # A region that has grown since is in the queue again, at its present cost.
        if q not in borders[p] or cost != _cost(sizes[p], sizes[q], *borders[p][q]):
            continue
        _merge(p, q, borders)
        parent[parent == q] = p
        sizes[p] += sizes[q]
        regions -= 1
        for other, border in borders[p].items():
            heapq.heappush(queue, (_cost(sizes[p], sizes[other], *border), min(p, other), max(p, other)))
    return np.unique(parent, return_inverse=True)[1].reshape(grid)


Border = tuple[float, int]
"""Sum of the affinities across a border, and how many there are."""


def _borders(affinities: NDArray[np.floating[Any]], grid: tuple[int, int]) -> list[dict[int, Border]]:
    """By patch, its neighbours and the affinity with each: both ways, each relative to the strongest of its patch."""
    index, inside = (t.numpy() for t in neighbour_indices(*grid))
    relative = affinities / np.maximum(affinities.max(1, keepdims=True), 1e-12)
    borders: list[dict[int, Border]] = [{} for _ in affinities]
    for p, place in zip(*np.nonzero(inside & (index != np.arange(len(index))[:, None])), strict=True):
        q, back = int(index[p, place]), 8 - place
        borders[p][q] = float(relative[p, place] + relative[q, back]) / 2, 1
    return borders


def _merge(p: int, q: int, borders: list[dict[int, Border]]) -> None:
    """Make region q part of region p."""
    del borders[p][q], borders[q][p]
    for other, (total, count) in borders[q].items():
        del borders[other][q]
        before = borders[p].get(other, (0.0, 0))
        borders[p][other] = borders[other][p] = total + before[0], count + before[1]
    borders[q] = {}


def _cost(size: float, other: float, total: float, count: int) -> float:
    return size * other / (size + other) * (1 - total / count)
