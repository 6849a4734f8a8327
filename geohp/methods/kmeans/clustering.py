"""Spherical k-means on rows of features or codes, and a method's clusters settled by it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.backbones.base import patch_rows
from geohp.methods.base import Method, SampleFeatures
from geohp.methods.probes import ClusterProbe

_IMAGES = 4096


def spherical_kmeans(
    rows: Tensor, clusters: int, *, iterations: int = 50, restarts: int = 5, seed: int = 0
) -> tuple[Tensor, float]:
    """Cluster directions: maximise the mean cosine between rows and their centroid.

    Seeded by k-means++ with cosine distance; the best of ``restarts`` runs wins. A centroid that loses all its
    rows is put on the row that its own centroid describes worst, so that no class is lost.

    Args:
        rows: (n, D) float, any length; normalised here.
        clusters: number of centroids; at most n.
        iterations: upper bound; a run ends when no row changes its centroid.
        restarts: independent seedings.
        seed: makes the result reproducible.

    Returns:
        Unit centroids (clusters, D) and the mean cosine they reach.

    Raises:
        ValueError: when there are fewer rows than clusters.
    """
    if len(rows) < clusters:
        raise ValueError(f"{clusters} clusters need at least as many feature rows, not {len(rows)}")
    rows = F.normalize(rows.float(), dim=1)
    generator = Generator().manual_seed(seed)
    runs = [_one_run(rows, _seeds(rows, clusters, generator), iterations) for _ in range(restarts)]
    return max(runs, key=lambda run: run[1])


@torch.no_grad()
def refit_probe(
    method: Method,
    sample: SampleFeatures,
    clusters: int | None = None,
    *,
    rows: int = 100_000,
    iterations: int = 50,
    restarts: int = 10,
    seed: int = 0,
) -> None:
    """Settle a method's clusters by spherical k-means on its codes, with another number of them where asked for.

    No head depends on the number of clusters, so one training serves them all.

    Args:
        method: trained, in eval mode; its probe is changed, or replaced where the number of clusters differs.
        sample: of the backbone's features.
        clusters: how many, one a class; as many as there are classes by default.
        rows: patches drawn to fit the centroids.
        iterations: upper bound of each run of k-means.
        restarts: independent seedings, the best of which wins.
        seed: of the draw and of the seedings.

    Raises:
        ValueError: when there are fewer patches than clusters.
    """
    codes = gather_rows(lambda count: (method.head(maps) for maps in sample(count)), rows, seed)
    present = method.probe.clusters
    count = clusters or method.probe.classes
    centroids, _ = spherical_kmeans(codes, count, iterations=iterations, restarts=restarts, seed=seed)
    if len(centroids) != len(present) or method.probe.members is not None:
        method.probe = ClusterProbe.of(centroids).to(present)
    else:
        method.probe.clusters.copy_(centroids)


def gather_rows(sample: SampleFeatures, count: int, seed: int) -> Tensor:
    """Up to ``count`` feature rows (n, C) drawn evenly from up to 4096 images, in bounded memory."""
    generator = Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    for maps in sample(_IMAGES):
        rows = patch_rows(maps).float()
        drawn.append(rows)
        if sum(map(len, drawn)) > 2 * count:
            # Keeping an even share of each arrival keeps the sample uniform over everything seen so far.
            drawn = [_subset(torch.cat(drawn), count, generator)]
    return _subset(torch.cat(drawn), count, generator) if drawn else torch.empty(0, 0)


def _subset(rows: Tensor, count: int, generator: Generator) -> Tensor:
    if len(rows) <= count:
        return rows
    picked = torch.randperm(len(rows), generator=generator)[:count]
    return rows[picked.to(rows.device)]


def _seeds(rows: Tensor, clusters: int, generator: Generator) -> Tensor:
    """k-means++: each next seed drawn with probability proportional to its cosine distance from the seeds so far."""
    first = int(torch.randint(len(rows), (1,), generator=generator))
    seeds = [rows[first]]
    distance = (1 - rows @ seeds[0]).clamp_min(0)
    for _ in range(clusters - 1):
        cumulative = distance.cpu().double().cumsum(0)  # Apple's GPUs have no float64
        draw = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
        index = int(torch.searchsorted(cumulative, draw).clamp_max(len(rows) - 1))
        seeds.append(rows[index])
        distance = torch.minimum(distance, (1 - rows @ seeds[-1]).clamp_min(0))
    return torch.stack(seeds)


def _one_run(rows: Tensor, centroids: Tensor, iterations: int) -> tuple[Tensor, float]:
    assigned = torch.full((len(rows),), -1, device=rows.device)
    for _ in range(iterations):
        cosine, nearest = (rows @ centroids.T).max(1)
        if torch.equal(nearest, assigned):
            break
        assigned = nearest
        sums = torch.zeros_like(centroids).index_add_(0, assigned, rows)
        empty = torch.bincount(assigned, minlength=len(centroids)) == 0
        if bool(empty.any()):
            sums[empty] = rows[cosine.argsort()[: int(empty.sum())]]
        centroids = F.normalize(sums, dim=1)
    return centroids, float((rows @ centroids.T).amax(1).mean())
