"""Patches of images that are split by image: what clusterings of different images are compared on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from geohp.methods.kmeans.clustering import spherical_kmeans
from geohp.methods.kmeans.covers import gather_covers
from geohp.methods.kmeans.light import Looks
from geohp.methods.probes import ClusterProbe

_HELD_OUT = 0.2
"""Share of the images that neither clustering of a pair has seen, on which the two are compared."""

Split = tuple[Tensor, Tensor, Tensor]
"""Places of rows: of one half of the images, of the other, and of those held out of both."""


@dataclass(frozen=True)
class ImagePatches:
    """Patches that are clustered.

    Attributes:
        rows: (n, C) float32 features or codes, on the CPU.
        image: (n,) the number of the image that each is of, from 0 on.
        looks: of the same patches, where large covers are to be one class each.
    """

    rows: Tensor
    image: Tensor
    looks: Looks | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Tensor) -> ImagePatches:
        return ImagePatches(self.rows[places], self.image[places], None if self.looks is None else self.looks[places])

    def cluster(
        self, clusters: int, *, extra: int = 0, seed: int = 0, iterations: int = 50, restarts: int = 5
    ) -> ClusterProbe:
        """So many classes: large covers gathered, where looks are known and there are any, or else by k-means.

        Args:
            clusters: in all.
            extra: see :func:`geohp.methods.kmeans.covers.gather_covers`.
            seed: of all draws.
            iterations, restarts: of k-means where nothing is gathered.
        """
        if self.looks is not None:
            gathered = gather_covers(self.rows, self.looks, clusters, extra=extra, seed=seed)
            if gathered is not None:
                return gathered.probe
        found = spherical_kmeans(self.rows, clusters, iterations=iterations, restarts=restarts, seed=seed)
        return ClusterProbe.of(found[0])


def rows_of_images(batches: Iterable[Tensor], images: int, rows: int | None, generator: Generator) -> ImagePatches:
    """Patches, without their looks.

    Args:
        batches: maps (B, C, h, w).
        images: how many there are, at most.
        rows: to draw in all, at most, as many of each image; all, in their order, by default.
        generator: of the draw.
    """
    drawn: list[Tensor] = []
    owners: list[Tensor] = []
    seen = 0
    for maps in batches:
        flat = maps.flatten(2).transpose(1, 2)
        for each in flat:
            picked = torch.arange(len(each))
            if rows is not None:
                picked = torch.randperm(len(each), generator=generator)[: max(1, rows // images)]
            drawn.append(each[picked.to(each.device)].float().cpu())
            owners.append(torch.full((len(picked),), seen))
            seen += 1
    return ImagePatches(torch.cat(drawn), torch.cat(owners))


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
    patches: ImagePatches, split: Split, clusters: int, fit: Callable[[ImagePatches, int], ClusterProbe]
) -> NDArray[np.int64]:
    """How two clusterings, one of each half, label the patches that neither has seen: their :func:`contingency`.

    Args:
        patches: all of them.
        split: of them.
        clusters: K of both.
        fit: the classes of a half, which is number 0 or 1.
    """
    *halves, held_out = split
    rows = patches.rows[held_out]
    first, second = (fit(patches[half], which).classes_of(rows) for which, half in enumerate(halves))
    return contingency(first, second, clusters)
