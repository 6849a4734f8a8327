"""How right a probe can be expected to be, how sure that is, and where its own labels contradict it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from geohp.inference.probe.discriminant import CrossValidation
from geohp.inference.probe.labelled_codes import LabelledCodes
from geohp.legend.features import feature_number

_RESAMPLED, _AT_ONCE = 1000, 50
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
    table = np.zeros((count, count))
    np.add.at(table, (classes, found), labelled.pixels[rows])
    tested = np.isin(np.arange(count), classes)
    accuracy, miou = _estimates(_Tallies.of(group, classes, found, labelled.pixels[rows], count), tested, seed)
    groups = np.array([len(np.unique(labelled.groups[labelled.classes == k])) for k in range(count)])
    return Scores(table, accuracy, miou, groups, tested, _doubts(labelled, validation))


class _Tallies(NamedTuple):
    """Of each group, or of several together, the pixels of each class: all (..., K).

    Attributes:
        right: that were found as what they are.
        true: that have the class.
        found: that were taken for it.
    """

    right: NDArray[np.float64]
    true: NDArray[np.float64]
    found: NDArray[np.float64]

    @classmethod
    def of(
        cls, group: NDArray[Any], classes: NDArray[Any], found: NDArray[Any], pixels: NDArray[np.float64], count: int
    ) -> _Tallies:
        """From rows (n,): the number of the group, the class, what was found, and how many pixels that is."""
        tallies = cls(*(np.zeros((int(group.max()) + 1, count)) for _ in cls._fields))
        is_right = classes == found
        np.add.at(tallies.right, (group[is_right], classes[is_right]), pixels[is_right])
        np.add.at(tallies.true, (group, classes), pixels)
        np.add.at(tallies.found, (group, found), pixels)
        return tallies

    def weighed(self, weights: NDArray[Any]) -> _Tallies:
        """Sums (d, K) of the groups, each as often as weights (d, groups) say."""
        return _Tallies(*(weights @ tally for tally in self))

    def accuracies(self) -> NDArray[np.float64]:
        """In per cent."""
        return np.asarray(100 * self.right.sum(-1) / self.true.sum(-1))

    def mean_ious(self, tested: NDArray[np.bool_]) -> NDArray[np.float64]:
        """In per cent, of the classes that are tested, as far as they occur."""
        union = self.true + self.found - self.right
        ious = np.divide(100 * self.right, union, out=np.full(union.shape, np.nan), where=union > 0)
        return np.asarray(np.nanmean(ious[..., tested], axis=-1))


def _estimates(groups: _Tallies, tested: NDArray[np.bool_], seed: int) -> tuple[Estimate, Estimate]:
    """Accuracy and mean IoU with what they vary by where groups are drawn anew."""
    count, rng = len(groups.true), np.random.default_rng(seed)
    whole = groups.weighed(np.ones((1, count)))
    drawn = []
    for _ in range(0, _RESAMPLED, _AT_ONCE):  # there may be a hundred thousand groups
        weights = rng.multinomial(count, np.full(count, 1 / count), _AT_ONCE)
        together = groups.weighed(weights.astype(np.float64))
        drawn.append([together.accuracies(), together.mean_ious(tested)])
    accuracies, ious = np.concatenate(drawn, axis=1)
    return (
        Estimate(float(whole.accuracies()[0]), float(np.nanstd(accuracies))),
        Estimate(float(whole.mean_ious(tested)[0]), float(np.nanstd(ious))),
    )


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
