"""MaskContrast's own score: masks are clustered instead of pixels, the rest of an image is background (section 4).

Of each mask that comes with an image (what is salient in it), the mean code; whitened by PCA; k-means with a cluster
for each class but the background; clusters and background matched to the classes by the Hungarian algorithm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.errors import DataError
from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores
from geohp.methods.kmeans.clustering import spherical_kmeans
from geohp.progress import Progress, no_progress

_RESTARTS = 10
_FLAT = 1e-5
"""Deviation, as a share of the largest, below which a direction holds nothing but rounding."""


def score_mask_clusters(coded: CodedImages, classes: int, progress: Progress = no_progress) -> SegmentationScores:
    """Cluster the masks of a set of images, and score them as a segmentation.

    Args:
        coded: images with labels and segments, and their codes.
        classes: of the labels, the background, class 0, among them.
        progress: told of the images done.

    Raises:
        DataError: there are fewer masks than classes.
    """
    prototypes: list[Tensor] = []
    pixels: list[Tensor] = []
    for batch, raw in coded.with_codes():
        for code, segments, mask in zip(F.normalize(raw, dim=1), batch["segments"], batch["mask"], strict=True):
            present = _present(segments)
            prototypes.append(mask_prototypes(code, segments.to(code.device), present.to(code.device)).cpu())
            pixels.append(_pixels_by_class(segments, present, mask, classes))
        progress("clustering masks", len(pixels), len(coded))
    rows = torch.cat(prototypes)
    if len(rows) < classes:
        raise DataError(
            f"{len(rows)} masks cannot be told apart into {classes - 1} clusters", "give more images, or other saliency"
        )
    whitened = F.normalize(whiten(rows), dim=1)
    centroids, _ = spherical_kmeans(whitened, classes - 1, restarts=_RESTARTS)
    clusters = torch.split(1 + (whitened @ centroids.T).argmax(1), [len(counts) - 1 for counts in pixels])
    metrics, none = SegmentationMetrics(classes), torch.empty(0, dtype=torch.int64)
    metrics.update(none, none)  # no longer new
    metrics.confusion.index_add_(0, torch.cat([F.pad(own, (1, 0)) for own in clusters]), torch.cat(pixels))
    scores: SegmentationScores = metrics.compute()
    return scores


def mask_prototypes(code: Tensor, segments: Tensor, present: Tensor) -> Tensor:
    """Mean code of each mask, a patch weighing as much as its share that the mask covers.

    Args:
        code: (D, h, w).
        segments: (H, W) masks of the pixels.
        present: (M,) the masks to take.

    Returns:
        (M, D).
    """
    if not len(present):
        return code.new_empty(0, len(code))
    covered = (segments == present[:, None, None]).to(code)[:, None]
    weights = F.interpolate(covered, size=code.shape[-2:], mode="area").flatten(1)
    return weights @ code.flatten(1).T / weights.sum(1, keepdim=True)


def whiten(rows: Tensor) -> Tensor:
    """Rows (n, D) in the directions of their principal components, each of deviation 1, flat ones left out."""
    centred = (rows - rows.mean(0)).double()
    _, deviations, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = deviations > _FLAT * deviations[0]
    whitened: Tensor = centred @ directions[kept].T / deviations[kept] * (len(rows) - 1) ** 0.5
    return whitened.to(rows)


def _present(segments: Tensor) -> Tensor:
    """(M,) numbers of the masks there are, ascending."""
    numbers: Tensor = torch.unique(segments)
    return numbers[numbers >= 0]


def _pixels_by_class(segments: Tensor, present: Tensor, truth: Tensor, classes: int) -> Tensor:
    """(1 + M, classes) pixels of the background, number 0, and of each mask by their true class."""
    metrics = SegmentationMetrics(classes, 1 + len(present))
    metrics.update(torch.where(segments >= 0, 1 + torch.searchsorted(present, segments), 0), truth)
    return metrics.confusion[:-1]
