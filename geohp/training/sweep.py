"""How many classes does the imagery hold? One training, many numbers of clusters, judged without labels.

No head depends on the number of clusters, so a sweep costs k-means on a sample of codes and no further training. What
each number is judged by, how the recommended one is chosen, and how well that works where the truth is known, stands in
docs/choosing-classes.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from geohp.config.experiment import ClassesConfig, Config
from geohp.errors import DataError
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Method
from geohp.methods.probes import ClusterProbe
from geohp.progress import Progress, no_progress
from geohp.raster.read.bands import BandRequest
from geohp.training.halves import ImagePatches, Split, held_out_table, split_by_image
from geohp.training.looks import draw_patches
from geohp.training.sweep_result import Candidate, SweepResult

_IMAGES, _IMAGES_SEEN = 1024, 256
"""Images a sweep draws from, at most; fewer where they have to be read once more for the looks of their patches."""
_ROWS = 16_000
"""Patches a sweep looks at in all, at most, drawn evenly."""
_REPETITIONS = 10
_RESTARTS = 4
FOUND_AGAIN = 0.6
"""Jaccard overlap from which a class of one clustering counts as found again in the other."""
_FEWEST_IMAGES = 5


def with_count(config: Config, count: int) -> Config:
    """The configuration with another number of classes, and no extra clusters: a sweep counts clusters."""
    classes = config.classes.model_copy(update={"count": count, "extra_clusters": 0})
    return config.model_copy(update={"classes": classes})


@torch.no_grad()
def sweep_method(
    method: Method,
    features: FeatureSampler,
    classes: ClassesConfig,
    *,
    bands: BandRequest = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> SweepResult:
    """Sweep the numbers of clusters of a trained method, in eval mode, which is not changed.

    Memory is bounded: 16,000 patches are looked at, as many of each of up to 1024 images, or of 256 where large covers
    are gathered.

    Args:
        method: whose codes are clustered.
        features: that it was trained on.
        classes: which numbers, and whether large covers are gathered.
        bands: of the images, as asked for.
        seed: of all draws.
        progress: of the clusterings.

    Raises:
        DataError: see :func:`sweep_classes`.
    """
    images = _images_seen(classes, len(features))
    patches = draw_patches(method.head, features, images, _ROWS, seed, bands=bands, with_looks=not classes.split_covers)
    return sweep_classes(patches, classes.sweep, seed=seed, progress=progress)


def check_sweep(classes: ClassesConfig, images: int, patches: int) -> None:
    """Refuse, before anything is trained, a sweep that so many images of so many patches each will not do for.

    Raises:
        DataError: see :func:`sweep_classes`.
    """
    images = _images_seen(classes, images)
    order = torch.arange(images).repeat_interleave(min(patches, max(1, _ROWS // images)))
    _check_enough(images, [split_by_image(order, Generator())], max(classes.sweep))


def sweep_classes(
    patches: ImagePatches,
    counts: Iterable[int],
    *,
    seed: int = 0,
    repetitions: int = _REPETITIONS,
    progress: Progress = no_progress,
) -> SweepResult:
    """Cluster patches into every number of classes asked for, and judge each number without labels.

    Equal patches and seeds give equal results.

    Args:
        patches: of at least five images; with their looks large covers are gathered, as in the map.
        counts: numbers of classes.
        seed: of all draws.
        repetitions: pairs of clusterings that are compared, for each number of classes.
        progress: of the clusterings.

    Raises:
        DataError: with fewer than five images, whose halves would say nothing, or fewer patches than classes.
    """
    ascending, images = sorted(set(counts)), int(patches.image.max()) + 1
    generator = Generator().manual_seed(seed)
    patches = replace(patches, rows=F.normalize(patches.rows, dim=1))
    splits = [split_by_image(patches.image, generator) for _ in range(repetitions)]
    _check_enough(images, splits, ascending[-1])
    candidates, clusterings = [], repetitions + 1
    for number, count in enumerate(ascending):

        def report(done: int, before: int = number * clusterings) -> None:
            progress("comparing numbers of classes", before + done, len(ascending) * clusterings)

        candidates.append(_judge(patches, splits, count, seed, report))
    recommended = recommend(candidates, repetitions)
    return SweepResult(tuple(candidates), recommended, len(patches), images, repetitions)


def _images_seen(classes: ClassesConfig, images: int) -> int:
    """Of how many images patches are looked at."""
    return min(images, _IMAGES if classes.split_covers else _IMAGES_SEEN)


def _check_enough(images: int, splits: Sequence[Split], most: int) -> None:
    """Refuse too few images, and parts of splits with fewer patches than classes."""
    if images < _FEWEST_IMAGES:
        raise DataError(
            f"a sweep compares what different images say, and needs at least {_FEWEST_IMAGES}, not {images}",
            "give more imagery, or choose classes.count by eye",
        )
    fewest = min(len(part) for split in splits for part in split)
    if fewest < most:
        problem = f"{most} classes cannot be told apart in {fewest} patches"
        raise DataError(problem, "give more imagery, or sweep fewer classes")


def _judge(
    patches: ImagePatches, splits: Sequence[Split], count: int, seed: int, report: Callable[[int], None]
) -> Candidate:
    """How a number of classes does: its clusterings of the halves of each split compared, and that of all patches."""
    tables = []
    for repetition, split in enumerate(splits):
        # Seeded alike for every number, each clustering of a pair by itself.
        def fit(half: ImagePatches, which: int, before: int = seed + 2 * repetition) -> ClusterProbe:
            return half.cluster(count, restarts=_RESTARTS, seed=before + which)

        tables.append(held_out_table(patches, split, count, fit))
        report(repetition + 1)
    scores = patches.cluster(count, restarts=_RESTARTS, seed=seed).row_scores(patches.rows)
    sizes = torch.bincount(scores.argmax(1), minlength=count)
    report(len(splits) + 1)
    agreement = np.array([adjusted_rand(table) for table in tables])
    again = np.array([found_again(table) for table in tables], dtype=float)
    return Candidate(
        classes=count,
        stability=float(agreement.mean()),
        stability_deviation=float(agreement.std(ddof=1)),
        found_again=float(again.mean()),
        found_again_deviation=float(again.std(ddof=1)),
        silhouette=_silhouette(scores),
        cosine=float(scores.amax(1).mean()),
        smallest=float(sizes.min() / len(patches)),
    )


def recommend(candidates: Sequence[Candidate], repetitions: int) -> int:
    """The number of classes of which most are found again; the smallest of those that do as well.

    "As well" is within a standard error of the mean. A number of whose classes less than half are found again is not
    recommended, unless there is no other.
    """
    sound = [each for each in candidates if each.sound] or list(candidates)
    best = max(sound, key=lambda each: each.found_again)
    enough = best.found_again - best.found_again_deviation / repetitions**0.5
    return min(each.classes for each in sound if each.found_again >= enough)


def adjusted_rand(table: NDArray[np.int64]) -> float:
    """Agreement of two clusterings beyond chance: 1 where they are the same, 0 on average for random ones.

    The index of Hubert and Arabie (Comparing partitions, Journal of Classification 2, 1985), pairs of patches that both
    put together, corrected by what clusters of these sizes would give by chance.

    Args:
        table: (K, K') how many patches are in each cluster of the one and of the other.
    """

    def pairs(counts: NDArray[np.int64]) -> float:
        values = counts.astype(np.float64)
        return float((values * (values - 1) / 2).sum())

    together, first, second = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    all_pairs = pairs(table.sum(keepdims=True))
    by_chance = first * second / all_pairs if all_pairs else 0.0
    most = (first + second) / 2
    return (together - by_chance) / (most - by_chance) if most != by_chance else 1.0


def found_again(table: NDArray[np.int64]) -> int:
    """How many classes of one clustering the other has as well.

    Matched one to one for the most overlap, those count whose Jaccard overlap (patches in both over patches in either)
    is at least 0.6: below, a cluster shows a pattern but not which patches belong to it (Hennig, Cluster-wise
    assessment of cluster stability, Computational Statistics and Data Analysis 52, 2007).

    Args:
        table: as for :func:`adjusted_rand`.
    """
    either = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    overlap = table / np.maximum(either, 1)
    return int((overlap[linear_sum_assignment(overlap, maximize=True)] >= FOUND_AGAIN).sum())


def _silhouette(cosines: Tensor) -> float:
    """Mean simplified silhouette: (b - a) / b, a and b the cosine distances from the nearest and the next class.

    To centroids instead of to all patches it costs n K instead of n^2 (Vendramin et al., Statistical Analysis and Data
    Mining 3, 2010).

    Args:
        cosines: (n, K) of patches with classes, of those with several centroids with the nearest.
    """
    distances = (1 - cosines).clamp_min(0)
    a, b = distances.topk(2, dim=1, largest=False).values.unbind(1)
    return float(((b - a) / b.clamp_min(1e-12)).mean())
