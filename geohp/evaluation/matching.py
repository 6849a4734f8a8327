"""Which class each cluster stands for: clusters come without names and are matched on the counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment


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
