"""How right a probe can be expected to be, how sure that is, and where its own labels contradict it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from geohp.evaluation.metrics import class_ious
from geohp.inference.probe.discriminant import CrossValidation
from geohp.inference.probe.labelled_codes import LabelledCodes
from geohp.legend.features import feature_number

_RESAMPLED = 1000
_DOUBTFUL = 5


@dataclass(frozen=True)
class Estimate:
    """A score in per cent, and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.0f} ± {self.error:.0f} %"


@dataclass(frozen=True)
class Doubt:
    """A label that the others contradict.

    Attributes:
        feature: its number in the reference; ``None`` of a raster.
        x, y: about where, in the CRS of its scene.
        name: its class; looks_like: the class that the others see in it.
        share: of that, 0 to 1.
    """

    feature: int | None
    x: float
    y: float
    name: str
    looks_like: str
    share: float


@dataclass(frozen=True)
class Scores:
    """What cross-validation says.

    Attributes:
        confusion: (K, K) labelled pixels (or points), true classes in rows, those found in columns, of groups left out.
        accuracy, miou: share of pixels that are right, and mean over the tested classes of intersection over union.
        groups: (K,) how many polygons, points or squares each class has.
        tested: (K,) whether the class has enough of them to be tested.
        doubts: the labels that the others contradict most.
    """

    confusion: NDArray[np.float64]
    accuracy: Estimate
    miou: Estimate
    groups: NDArray[np.int64]
    tested: NDArray[np.bool_]
    doubts: tuple[Doubt, ...]


def score(labelled: LabelledCodes, validation: CrossValidation, *, seed: int) -> Scores | None:
    """Scores of a cross-validation; ``None`` where nothing could be left out.

    Errors are those of the bootstrap over groups (Efron 1979): pixels of one polygon say the same thing many times.

    Args:
        labelled: the rows.
        validation: of them.
        seed: of the bootstrap.
    """
    rows, count = validation.tested, len(labelled.names)
    if not rows.any():
        return None
    classes, found = labelled.classes[rows], validation.logits[rows].argmax(1)
    _, group = np.unique(labelled.groups[rows], return_inverse=True)
    tables = np.zeros((group.max() + 1, count, count))
    np.add.at(tables, (group, classes, found), labelled.pixels[rows])
    tested = np.isin(np.arange(count), classes)
    draws = np.random.default_rng(seed).multinomial(len(tables), np.full(len(tables), 1 / len(tables)), _RESAMPLED)
    resampled = np.einsum("dg,gij->dij", draws, tables)
    accuracy, miou = (
        Estimate(float(measure(tables.sum(0)[None], tested)[0]), float(np.nanstd(measure(resampled, tested))))
        for measure in (_accuracies, _mean_ious)
    )
    groups = np.array([len(np.unique(labelled.groups[labelled.classes == k])) for k in range(count)])
    return Scores(tables.sum(0), accuracy, miou, groups, tested, _doubts(labelled, validation))


def _accuracies(tables: NDArray[np.float64], _: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(100 * np.trace(tables, axis1=1, axis2=2) / tables.sum((1, 2)))


def _mean_ious(tables: NDArray[np.float64], tested: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.nanmean(class_ious(tables)[:, tested], axis=1))


def _doubts(labelled: LabelledCodes, validation: CrossValidation) -> tuple[Doubt, ...]:
    """The groups and classes in which the mean share of another class is largest, and over a half."""
    shares = softmax(validation.logits, axis=1)
    pairs = np.stack([labelled.groups, labelled.classes], 1)[validation.tested]
    doubts = []
    for group, number in np.unique(pairs, axis=0).tolist():
        rows = validation.tested & (labelled.groups == group) & (labelled.classes == number)
        mean = shares[rows].mean(0)
        other = int(mean.argmax())
        if other == number or mean[other] <= 0.5:
            continue
        x, y = labelled.places[rows].mean(0).tolist()
        objects = feature_number(labelled.objects[rows])
        feature = int(objects[0]) if objects[0] >= 0 and (objects == objects[0]).all() else None
        names = labelled.names
        doubts.append(Doubt(feature, x, y, names[number], names[other], float(mean[other])))
    return tuple(sorted(doubts, key=lambda doubt: -doubt.share)[:_DOUBTFUL])
