"""Is the trained map any better than plain k-means on the same features? Figures of both, and a sentence.

It looks at features that are in store, a few thousand patches and a few images, so that it costs a small part of the
training. What each figure means, and how far the verdict can be trusted, stands in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from math import isfinite
from typing import Any, Literal

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor, nn

from geohp.config.experiment import ClassesConfig
from geohp.data.base import Item
from geohp.evaluation.metrics import SegmentationMetrics
from geohp.features.sampler import FeatureSampler
from geohp.methods.probes import ClusterProbe
from geohp.model.network import LandCoverModel
from geohp.progress import Progress, no_progress
from geohp.training.edges import EdgeCount, count_edges
from geohp.training.halves import ImagePatches, Split, held_out_table, split_by_image
from geohp.training.looks import draw_patches
from geohp.training.sample_images import readable_images

_ROWS, _IMAGES, _IMAGES_ANEW = 6_000, 256, 48
"""Patches that are clustered, and of how many images: of fewer where features have to be computed for it."""
_SHOWN = 24
"""Images whose maps are held against their edges and labels."""
_FITS = 3
"""Pairs of clusterings whose agreement is averaged."""
_ITERATIONS, _RESTARTS = 30, 3

VANISHED = 0.001
"""Share of the patches below which a class has vanished from the map."""
MIOU_MARGIN, STABILITY_MARGIN, EDGE_MARGIN = 2.0, 10.0, 3.0
"""Differences, in per cent, up to which two maps count as equal: about what another draw changes (docs/training.md)."""

Verdict = Literal["better", "as good", "worse"]


@dataclass(frozen=True)
class MapFigures:
    """What one way of making classes comes to.

    Attributes:
        stability: per cent of patches, of images that neither has seen, which two fits of other seeds on other images
            put into the same class after the best one-to-one match; a mean.
        edges: per cent of the pixels on boundaries between classes that lie within 2 px of a strong edge of the image;
            ``None`` where there are no boundaries.
        largest: per cent of the patches in the largest class.
        vanished: classes with less than a thousandth of the patches.
        accuracy, miou: in per cent of the pixels of labelled training images, clusters matched to classes; ``None``
            without labels.
    """

    stability: float
    edges: float | None
    largest: float
    vanished: int
    accuracy: float | None = None
    miou: float | None = None


@dataclass(frozen=True)
class KMeansComparison:
    """A trained model beside spherical k-means with as many clusters on the same features, covers gathered alike.

    Attributes:
        clusters: of both.
        result, kmeans: figures of either.
        edges_by_chance: per cent of all pixels that lie within 2 px of a strong edge.
        patches, images: that were clustered; shown: images whose maps were looked at.
    """

    clusters: int
    result: MapFigures
    kmeans: MapFigures
    edges_by_chance: float
    patches: int
    images: int
    shown: int

    @property
    def verdict(self) -> Verdict:
        """By mean IoU where there are labels; else by what is better and worse without them."""
        signs = [sign for sign, _ in self._differences()]
        if min(signs, default=0) >= 0 and max(signs, default=0) > 0:
            return "better"
        return "worse" if max(signs, default=0) <= 0 and min(signs, default=0) < 0 else "as good"

    @property
    def sentence(self) -> str:
        """The verdict and its reason."""
        verdict = self.verdict
        begin = {
            "better": "The trained map is better than k-means on the same features",
            "as good": "k-means on the same features is as good here",
            "worse": "k-means on the same features is better here",
        }[verdict]
        remedy = "" if verdict == "better" else "; it takes seconds: method.name=kmeans"
        return f"{begin}: {self._reason()}{remedy}."

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "verdict": self.verdict, "sentence": self.sentence}

    def _differences(self) -> list[tuple[int, str]]:
        """What counts: 1 where the result is better, -1 where k-means is, 0 where they are equal; and in words."""
        result, kmeans = self.result, self.kmeans
        if result.miou is not None and kmeans.miou is not None:
            words = f"mean IoU {result.miou:.1f} against {kmeans.miou:.1f} % on {self.shown} labelled images"
            return [(_sign(result.miou - kmeans.miou, MIOU_MARGIN), words)]
        words = (
            f"{result.stability:.0f} against {kmeans.stability:.0f} % of the patches stay in their class in another fit"
        )
        # Of a head that is not trained again it is an upper bound: it can speak against the result, and not for it.
        differences = [(min(0, _sign(result.stability - kmeans.stability, STABILITY_MARGIN)), words)]
        if result.edges is not None and kmeans.edges is not None:
            words = f"{result.edges:.0f} against {kmeans.edges:.0f} % of the boundaries follow edges"
            words += f" ({self.edges_by_chance:.0f} % by chance)"
            differences.append((_sign(result.edges - kmeans.edges, EDGE_MARGIN), words))
        words = f"{result.vanished} against {kmeans.vanished} classes vanish"
        if result.vanished or kmeans.vanished:
            differences.append((_sign(kmeans.vanished - result.vanished, 0), words))
        return differences

    def _reason(self) -> str:
        differences = self._differences()
        reason = ", ".join(words for _, words in differences)
        if self.result.miou is not None:
            return f"{reason} (differences up to {MIOU_MARGIN:g} are taken for chance)"
        margins = f"{STABILITY_MARGIN:g} and {EDGE_MARGIN:g} points"
        return (
            f"{reason} (differences up to {margins} are taken for chance; without labels these are signs, not scores)"
        )


@torch.no_grad()
def compare_with_kmeans(
    model: LandCoverModel,
    features: FeatureSampler,
    classes: ClassesConfig,
    *,
    label_classes: int = 0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> KMeansComparison | None:
    """Hold a trained model against k-means with as many clusters on the features that it was trained on.

    Where large covers are gathered in the model's codes, they are in the features, too: else that would be the
    difference. The head of the model is not trained again: what is fitted anew for its stability are the clusters of
    its codes.

    Args:
        model: trained, whose cluster probe has its final clusters.
        features: of the images that it was trained on.
        classes: how its clusters were found.
        label_classes: classes of the images' labels; 0 without.
        seed: of all draws.
        progress: of the clusterings.

    Returns:
        ``None`` where there are too few images, or patches, to cluster their halves.

    Raises:
        DataError, SceneError: no image can be read any more.
    """
    generator = Generator().manual_seed(seed)
    clusters = model.probe.classes
    most = min(len(features), _IMAGES if features.place else _IMAGES_ANEW)
    patches = draw_patches(
        nn.Identity(), features, most, _ROWS, seed, bands=model.card.bands, with_looks=not classes.split_covers
    )
    images = int(patches.image.max()) + 1
    splits = [split_by_image(patches.image, generator) for _ in range(_FITS)] if images > 2 else []
    if min((len(half) for *halves, _ in splits for half in halves), default=0) < clusters:
        return None
    codes = replace(patches, rows=_codes(model, patches.rows))
    cluster = _Clustering(clusters, classes.extra_clusters)
    plain = cluster(patches, seed).to(model.device)
    progress("comparing with k-means", 1, 3)
    of_model = _Map(lambda maps: model.probe.scores(model.head(maps)), clusters, label_classes)
    of_kmeans = _Map(plain.scores, clusters, label_classes)
    shown = _look(features, (of_model, of_kmeans))
    progress("comparing with k-means", 2, 3)
    result = of_model.figures(model.probe.classes_of(codes.rows), _stability(codes, splits, cluster, seed))
    kmeans = of_kmeans.figures(plain.classes_of(patches.rows), _stability(patches, splits, cluster, seed))
    progress("comparing with k-means", 3, 3)
    return KMeansComparison(clusters, result, kmeans, of_kmeans.edges.chance, len(patches), images, shown)


def _sign(difference: float, margin: float) -> int:
    return 0 if abs(difference) <= margin else 1 if difference > 0 else -1


def _codes(model: LandCoverModel, rows: Tensor) -> Tensor:
    """Codes (n, D) of feature rows (n, C): a head looks at each patch by itself."""
    maps = rows.T[None, :, None].to(model.device)
    codes: Tensor = model.head(maps)[0, :, 0].T.float().cpu()
    return codes


@dataclass(frozen=True)
class _Clustering:
    """Finds so many clusters, some of them extra ones, among patches."""

    clusters: int
    extra: int

    def __call__(self, patches: ImagePatches, seed: int) -> ClusterProbe:
        return patches.cluster(self.clusters, extra=self.extra, seed=seed, iterations=_ITERATIONS, restarts=_RESTARTS)


def _stability(patches: ImagePatches, splits: Sequence[Split], cluster: _Clustering, seed: int) -> float:
    """See :class:`MapFigures`."""
    agreements = []
    for number, split in enumerate(splits):

        def fit(half: ImagePatches, which: int, before: int = seed + 2 * number) -> ClusterProbe:
            return cluster(half, before + which)

        table = held_out_table(patches, split, cluster.clusters, fit)
        agreements.append(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())
    return 100 * float(sum(agreements)) / len(agreements)


class _Map:
    """Counts what a map has of its images' edges and labels.

    Args:
        scores: (B, K, h, w) of feature maps (B, C, h, w).
        clusters: K.
        label_classes: 0 without labels.
    """

    def __init__(self, scores: Callable[[Tensor], Tensor], clusters: int, label_classes: int) -> None:
        self._scores, self._clusters = scores, clusters
        self.edges = EdgeCount()
        self._metrics = SegmentationMetrics(label_classes, clusters) if label_classes else None

    def count(self, item: Item, features: Tensor) -> None:
        """Count an image, from its features (C, h, w)."""
        size = item["image"].shape[-2:]
        fine = F.interpolate(self._scores(features[None]), size=size, mode="bilinear", align_corners=False)
        labels = fine[0].argmax(0).cpu()
        self.edges = self.edges + count_edges(item["image"].float(), labels)
        if self._metrics is not None and "mask" in item:
            self._metrics.update(labels, item["mask"])

    def figures(self, labels: Tensor, stability: float) -> MapFigures:
        """Of all that was counted, of patches' clusters (n,), and of the stability of these."""
        shares = torch.bincount(labels, minlength=self._clusters) / len(labels)
        scores = None if self._metrics is None else self._metrics.compute()
        known = scores is not None and isfinite(scores["miou"])
        return MapFigures(
            stability=stability,
            edges=self.edges.share,
            largest=100 * float(shares.max()),
            vanished=int((shares < VANISHED).sum()),
            accuracy=scores["accuracy"] if scores is not None and known else None,
            miou=scores["miou"] if scores is not None and known else None,
        )


def _look(features: FeatureSampler, maps: Sequence[_Map]) -> int:
    """Count images spread over those that were trained on; gives how many."""
    items = readable_images(features.images, _SHOWN)
    batches = features.maps(features.places(torch.tensor(list(items))))
    for item, feature_map in zip(items.values(), chain.from_iterable(batches), strict=True):
        for counted in maps:
            counted.count(item, feature_map.float())
    return len(items)
