"""Accuracy and mean IoU of a segmentation over a whole set, as unsupervised segmentation publishes them."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from geohp.errors import DataError

Labels = Tensor | npt.NDArray[Any]


class SegmentationScores(TypedDict):
    """What :meth:`SegmentationMetrics.compute` returns.

    Keys:
        accuracy: percent of the labelled pixels whose class is right; NaN where no pixel is labelled.
        miou: mean of the defined ``class_iou``, in percent.
        class_iou: (classes,) intersection over union, in percent; NaN for a class neither predicted nor true.
        assignment: (clusters,) class of every cluster.
        confusion: (classes, classes) pixel counts after assignment, predicted class by true class.
        counts: (clusters, classes) pixel counts before assignment.
        unlabelled: (classes,) pixels of each true class for which nothing was predicted.
    """

    accuracy: float
    miou: float
    class_iou: npt.NDArray[np.float64]
    assignment: npt.NDArray[np.int64]
    confusion: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    unlabelled: npt.NDArray[np.int64]


class SegmentationMetrics(Metric):
    """Counts pixels batch by batch, matches clusters to classes once over all of them, then scores.

    The protocol of unsupervised semantic segmentation (STEGO, HP): the match is made on the counts of the
    whole set, accuracy is the share of right pixels, and the mean IoU runs over the classes whose IoU is
    defined. A torchmetrics metric: counts are summed over processes.

    Where the truth lies outside ``[0, num_classes)`` (255, -1) a pixel is ignored. Where the truth is
    valid but the prediction is not a cluster (255: nothing predicted), the pixel counts as an error: it
    lowers accuracy and its class's IoU, so that leaving pixels out never helps a map.

    Args:
        num_classes: classes of the truth.
        num_clusters: clusters of the prediction; ``num_classes`` unless told. Extra clusters take part in
            the best one-to-one match; those left over go to the class of most of their pixels.
        matching: "hungarian" for clusters, "identity" where predictions are classes already.

    Raises:
        ValueError: for impossible arguments.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor

    def __init__(
        self,
        num_classes: int,
        num_clusters: int | None = None,
        matching: Literal["hungarian", "identity"] = "hungarian",
        **options: Any,
    ):
        super().__init__(**options)
        self.num_classes = num_classes
        self.num_clusters = num_classes if num_clusters is None else num_clusters
        self.matching = matching
        if self.num_classes < 1 or self.num_clusters < 1:
            raise ValueError(f"at least one class and one cluster are needed, not {num_classes} and {num_clusters}")
        if matching not in ("hungarian", "identity"):
            raise ValueError(f"matching is 'hungarian' or 'identity', not {matching!r}")
        if matching == "identity" and self.num_clusters != self.num_classes:
            raise ValueError(f"identity matching needs one cluster a class, not {num_clusters} for {num_classes}")
        # The last row counts pixels without a prediction.
        empty = torch.zeros(self.num_clusters + 1, self.num_classes, dtype=torch.int64)
        self.add_state("confusion", default=empty, dist_reduce_fx="sum")

    def update(self, prediction: Labels, target: Labels) -> None:
        """Count a batch.

        Args:
            prediction: integer clusters (or classes) of any shape; 255 or any other number that is no
                cluster where nothing was predicted.
            target: integer classes of the same shape; any other number where unknown.

        Raises:
            DataError: when shapes differ or values are not integers.
        """
        predicted, true = self._flat(prediction, "predictions"), self._flat(target, "targets")
        if tuple(prediction.shape) != tuple(target.shape):
            raise DataError(
                f"predictions of shape {tuple(prediction.shape)} cannot be compared with targets of shape "
                f"{tuple(target.shape)}: both need the same."
            )
        known = (true >= 0) & (true < self.num_classes)
        predicted, true = predicted[known], true[known]
        unlabelled = (predicted < 0) | (predicted >= self.num_clusters)
        pairs = predicted.masked_fill(unlabelled, self.num_clusters) * self.num_classes + true
        counted = torch.bincount(pairs, minlength=self.confusion.numel())
        self.confusion += counted.reshape(self.confusion.shape)

    def compute(self) -> SegmentationScores:
        """Match clusters to classes over everything counted so far, and score; see :class:`SegmentationScores`."""
        counts = self.confusion.cpu().numpy()
        counts, unlabelled = counts[:-1].copy(), counts[-1].copy()
        assignment = hungarian(counts) if self.matching == "hungarian" else np.arange(self.num_classes, dtype=np.int64)
        matched = np.zeros((self.num_classes, self.num_classes), np.int64)
        np.add.at(matched, assignment, counts)

        total = matched.sum() + unlabelled.sum()
        class_iou = class_ious(matched, unlabelled)
        return SegmentationScores(
            accuracy=float(100.0 * np.trace(matched) / total) if total else float("nan"),
            miou=float(np.nanmean(class_iou)) if np.isfinite(class_iou).any() else float("nan"),
            class_iou=class_iou,
            assignment=assignment,
            confusion=matched,
            counts=counts,
            unlabelled=unlabelled,
        )

    def _flat(self, labels: Labels, what: str) -> Tensor:
        """Integer labels as a vector of int64 on the metric's device."""
        if isinstance(labels, np.ndarray):
            if labels.dtype.kind not in "iub":
                raise DataError(f"{what} are {labels.dtype}, but labels are integers: take the argmax of scores first.")
            labels = torch.from_numpy(np.ascontiguousarray(labels.astype(np.int64)))
        elif labels.is_floating_point() or labels.is_complex():
            raise DataError(f"{what} are {labels.dtype}, but labels are integers: take the argmax of scores first.")
        return labels.detach().reshape(-1).to(device=self.confusion.device, dtype=torch.int64)


def class_ious(confusion: npt.NDArray[Any], unlabelled: npt.ArrayLike = 0) -> npt.NDArray[np.float64]:
    """Intersection over union of each class, in percent.

    Args:
        confusion: (..., classes, classes) pixel counts, predicted by true classes or the other way round.
        unlabelled: (..., classes) further pixels of each true class, for which nothing was predicted.

    Returns:
        (..., classes); NaN for a class neither predicted nor true.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) + unlabelled - right
    return np.asarray(np.divide(100.0 * right, union, out=np.full(union.shape, np.nan), where=union > 0))


def hungarian(confusion: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The one-to-one match of clusters to classes with the most agreeing pixels.

    With more clusters than classes, the clusters left over by the best match go to the class of most
    of their pixels (over-clustering); with fewer, some classes stay without a cluster.

    Args:
        confusion: (clusters, classes) pixel counts.

    Returns:
        (clusters,) the class of every cluster.
    """
    counts = np.asarray(confusion)
    assignment = majority(counts)
    clusters, classes = linear_sum_assignment(counts, maximize=True)
    assignment[clusters] = classes
    return assignment


def majority(confusion: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The class of most pixels of every cluster, several clusters to a class if need be.

    Args:
        confusion: (clusters, classes) pixel counts.

    Returns:
        (clusters,) the class of every cluster; the lowest one where counts are equal.
    """
    classes: npt.NDArray[np.int64] = np.asarray(confusion).argmax(axis=1).astype(np.int64)
    return classes
