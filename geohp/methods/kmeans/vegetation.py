"""Vegetation gathered: what covers much of the ground, and k-means would split for that, is one class by its colour.

K-means gives a cover as many clusters as it has area and variety, so where fields and trees cover three quarters of the
ground they take most of the classes, and roads, roofs and water share what is left. That the many kinds of green are
one class is nothing that features tell: it is what legends of land cover agree on, and colour tells what is green. How
much it is worth, and where it is worth nothing, stands in docs/accuracy.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.classes import LandCoverClass
from geohp.methods.kmeans.clustering import spherical_kmeans
from geohp.methods.probes import ClusterProbe

logger = logging.getLogger(__name__)

EXCESS_GREEN = 0.06
"""From which excess green index on something is vegetation; paved and bare ground and roofs lie around 0."""
_GREEN_OVER_BLUE = 0.02
"""By which share green exceeds blue in vegetation: it does not in water, whose green is a turquoise."""
_COVERS_MUCH = 2.0
"""Fair shares of the ground (1 / K each) from which on k-means would split vegetation."""
_FINEST = 3.0
"""Classes of the rest are on average at least the third part of a fair share; the others stay with vegetation."""

_FINE, _MOST_FINE = 16, 128
"""Clusters a class whose colours are looked at, and in all."""
_CENTROIDS = 2
"""Centroids of vegetation for every class that there is in all: it has more sides than one direction can tell."""
_ROWS = 20_000
_PER_FINE = 20  # patches a fine cluster has at least on average


@dataclass(frozen=True)
class GatheredVegetation:
    """Clusters of which the first classes are vegetation.

    Attributes:
        probe: of K classes.
        classes: how many of them, from number 0 on, are vegetation.
        share: of the ground that is vegetation.
    """

    probe: ClusterProbe
    classes: int
    share: float


def excess_green(colours: Tensor) -> Tensor:
    """2 g - r - b of colours (..., 3), where r, g, b are their shares of R + G + B: from -1 to 2, 0 for greys.

    The index of Woebbecke et al. (Color indices for weed identification under various soil, residue, and lighting
    conditions, Transactions of the ASAE 38, 1995).
    """
    red, green, blue = _shares(colours).unbind(-1)
    return 2 * green - red - blue


def is_vegetation(colours: Tensor) -> Tensor:
    """Which colours (..., 3) are those of plants."""
    _, green, blue = _shares(colours).unbind(-1)
    return (excess_green(colours) > EXCESS_GREEN) & (green - blue > _GREEN_OVER_BLUE)


@torch.no_grad()
def gather_vegetation(
    rows: Tensor, colours: Tensor, classes: int, *, extra: int = 0, seed: int = 0
) -> GatheredVegetation | None:
    """Clusters of patches, vegetation being one class where it covers much of the ground.

    Fine clusters are vegetation, or not, by the mean colour of their patches: a shadow among trees goes with the trees,
    and a green car does not. Patches that are not are clustered by themselves.

    Args:
        rows: (n, D) features or codes.
        colours: (n, 3) of the same patches: red, green, blue in [0, 1].
        classes: number K of classes in all.
        extra: of which so many are there to be merged by a user: a third of these go to vegetation.
        seed: of all draws.

    Returns:
        ``None`` where vegetation covers less than two classes' share of the ground, or all of it.
    """
    rows = F.normalize(rows.float().cpu(), dim=1)
    order = torch.randperm(len(rows), generator=Generator().manual_seed(seed))[:_ROWS]
    rows, colours = rows[order], colours.double().cpu()[order]
    fine = min(_FINE * classes, _MOST_FINE, len(rows) // _PER_FINE)
    if fine < classes:
        return None
    green = _green_patches(rows, colours, fine, seed)
    share = float(green.double().mean())
    others = min(classes - 1 - extra // 3, math.ceil(_FINEST * (1 - share) * classes))
    if share * classes < _COVERS_MUCH or not 0 < others <= int((~green).sum()):
        return None
    centroids, members = _split(rows[green], classes - others, max(1, _CENTROIDS * classes // (classes - others)), seed)
    rest, _ = spherical_kmeans(rows[~green], others, seed=seed)
    members = torch.cat([members, torch.arange(classes - others, classes)])
    probe = ClusterProbe(rows.shape[1], len(members), members)
    probe.clusters.copy_(torch.cat([centroids, rest]))
    logger.info("vegetation, %.0f %% of the ground, is %s", 100 * share, _classes(classes - others))
    return GatheredVegetation(probe, classes - others, share)


def name_vegetation(classes: Sequence[LandCoverClass], count: int) -> tuple[LandCoverClass, ...]:
    """Classes of which the first so many are called vegetation."""
    names = ["vegetation"] if count == 1 else [f"vegetation {number}" for number in range(1, count + 1)]
    return tuple(
        replace(entry, name=name)
        for entry, name in zip(classes, [*names, *(c.name for c in classes[count:])], strict=True)
    )


def _green_patches(rows: Tensor, colours: Tensor, fine: int, seed: int) -> Tensor:
    """(n,) which patches are in fine clusters that look like vegetation."""
    centroids, _ = spherical_kmeans(rows, fine, restarts=1, seed=seed)
    nearest = (rows @ centroids.T).argmax(1)
    sums = torch.zeros(fine, 3, dtype=torch.float64).index_add_(0, nearest, colours)
    return is_vegetation(sums)[nearest]


def _split(rows: Tensor, classes: int, centroids: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit centroids (P, D) of so many classes, up to so many of each, and the class (P,) of each of them."""
    means, _ = spherical_kmeans(rows, classes, seed=seed)
    nearest = (rows @ means.T).argmax(1)
    parts, members = [], []
    for number in range(classes):
        own = rows[nearest == number]
        of_class = spherical_kmeans(own, min(centroids, len(own)), seed=seed)[0] if len(own) else means[[number]]
        parts.append(of_class)
        members += [number] * len(of_class)
    return torch.cat(parts), torch.tensor(members)


def _shares(colours: Tensor) -> Tensor:
    total = colours.sum(-1, keepdim=True)
    return colours / total.clamp_min(torch.finfo(colours.dtype).tiny)


def _classes(count: int) -> str:
    return "one class" if count == 1 else f"{count} classes"
