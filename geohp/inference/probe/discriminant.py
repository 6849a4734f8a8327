"""A linear classifier for few labels: discriminant analysis with a shrunk covariance, validated group by group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedGroupKFold

SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95)
"""Strengths of regularisation to choose from: the share of what is not learnt from labels in the covariance."""

FOLDS, INNER_FOLDS = 5, 3

_TEMPER, _LEAST = 0.5, 1e-3
"""Power of the eigenvalues of all codes' covariance, and the least of them as a share of their mean."""
_ABSENT = -1e4  # logit of a class that a fold has not seen
_SHARPNESS = (1e-3, 10.0)
_NOTHING = 1e-12  # share of the largest eigenvalue below which one is none

Codes = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class LinearClassifier:
    """Logits are ``codes @ weight.T + bias``; weight is (K, D) float64, bias (K,) float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, codes: Codes) -> NDArray[np.float64]:
        """(n, K) of codes (n, D)."""
        return np.asarray(codes.astype(np.float64) @ self.weight.T + self.bias)

    def scaled(self, sharpness: float) -> LinearClassifier:
        """The same decisions, all logits times a factor."""
        return LinearClassifier(sharpness * self.weight, sharpness * self.bias)


@dataclass(frozen=True)
class Conditioning:
    """An affine map of codes, learnt from all of them without labels: ``(codes - mean) @ matrix``.

    Directions in which codes vary much anyway count for less. Channels are standardised, and their principal axes
    divided by the eigenvalues to the power 1/4, half-way between leaving them and whitening them. A covariance of
    labelled codes that is shrunk towards the identity there is shrunk, among the codes, towards the square root of the
    covariance of all: with few labels that beats the identity itself (docs/probe.md).

    Parts of the codes that come from different networks or stages of one are conditioned each by itself, and divided by
    the square root of their widths: a part of few channels counts as much as one of many.

    Attributes:
        mean: (D,) float64.
        matrix: (D, D) float64.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def of(
        cls, mean: NDArray[np.float64], covariance: NDArray[np.float64], parts: Sequence[int] | None = None
    ) -> Conditioning:
        """Of mean (D,) and covariance (D, D) of codes; channels that do not vary do no harm.

        Args:
            mean, covariance: of all codes.
            parts: how many channels each part has, in their order; all are one by default.
        """
        matrix = np.zeros_like(covariance)
        ends = np.cumsum(parts or [len(mean)])
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            part = slice(begin, end)
            matrix[part, part] = _tempered(covariance[part, part]) / (end - begin) ** 0.5
        return cls(mean, matrix)

    def __call__(self, codes: Codes) -> Codes:
        """Codes (n, D), conditioned."""
        return ((codes - self.mean) @ self.matrix).astype(np.float32)

    def undo(self, classifier: LinearClassifier) -> LinearClassifier:
        """A classifier of conditioned codes as one of codes as they are."""
        weight = classifier.weight @ self.matrix.T
        return LinearClassifier(weight, classifier.bias - weight @ self.mean)


@dataclass(frozen=True)
class CrossValidation:
    """What classifiers that did not see a row's group say of it.

    Attributes:
        logits: (n, K).
        tested: (n,) whether the row was tested: not where its class has a single group, which is always learnt from.
    """

    logits: NDArray[np.float64]
    tested: NDArray[np.bool_]


def _tempered(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map (D, D) that standardises channels and divides their principal axes by powers of the eigenvalues."""
    deviation = np.sqrt(np.diag(covariance))
    deviation = np.maximum(deviation, 1e-6 * max(float(deviation.max()), 1e-12))
    values, axes = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    values = np.maximum(values, _LEAST * max(float(values.mean()), 1e-12))
    return np.asarray(axes * values ** (-_TEMPER / 2) / deviation[:, None])


def fit_classifier(codes: Codes, classes: Numbers, count: int, shrinkage: float) -> LinearClassifier:
    """Linear discriminant analysis with equal priors: a class counts the same however often it was labelled.

    The classes' common covariance S becomes (1 - a) S + a tr(S) / D I, as Ledoit and Wolf (2004) shrink it. (So does
    scikit-learn, but anew for each a: seven of them take 0.95 s on 120 rows of 832 channels, and 0.004 s here.)

    Args:
        codes: (n, D), conditioned.
        classes: (n,) numbers below ``count``; two of them at least occur.
        count: number of classes K.
        shrinkage: the share a, above 0 and at most 1.
    """
    return _Discriminants.of(codes, classes).classifier(count, shrinkage)


@dataclass(frozen=True)
class _Discriminants:
    """What labelled codes say, whatever the shrinkage: one decomposition serves all of them.

    Attributes:
        seen: (k,) the classes that occur; middles: (k, D) their means.
        values, axes: (m,) and (D, m) of the classes' common covariance, which is 0 in all other directions.
    """

    seen: Numbers
    middles: NDArray[np.float64]
    values: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, codes: Codes, classes: Numbers) -> _Discriminants:
        rows = codes.astype(np.float64)
        seen, place, sizes = np.unique(classes, return_inverse=True, return_counts=True)
        middles = np.stack([rows[place == number].mean(0) for number in range(len(seen))])
        # Rows whose products add up to the covariance: those of a small class weigh more.
        spread = (rows - middles[place]) / np.sqrt(len(seen) * sizes[place])[:, None]
        return cls(seen, middles, *_principal_axes(spread))

    def classifier(self, count: int, shrinkage: float) -> LinearClassifier:
        """Of ``count`` classes, of which those that do not occur are never found."""
        channels = self.middles.shape[1]
        # Where all rows of a class are the same there is no covariance: the nearest class counts.
        floor = shrinkage * (self.values.sum() / channels or 1.0)
        inverse = 1 / ((1 - shrinkage) * self.values + floor) - 1 / floor
        slopes = self.middles / floor + (self.middles @ self.axes * inverse) @ self.axes.T
        weight, bias = np.zeros((count, channels)), np.full(count, _ABSENT)
        weight[self.seen], bias[self.seen] = slopes, -(self.middles * slopes).sum(1) / 2
        return LinearClassifier(weight, bias)


def _principal_axes(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues (m,) and eigenvectors (D, m) of ``rows.T @ rows`` that are not 0, by the smaller of both products."""
    wide = len(rows) < rows.shape[1]
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = values > _NOTHING * max(float(values[-1]), 0.0)
    values, vectors = values[kept], vectors[:, kept]
    return values, rows.T @ vectors / np.sqrt(values) if wide else vectors


def choose_shrinkage(codes: Codes, classes: Numbers, groups: Numbers, count: int, *, seed: int) -> float:
    """The strongest that classifies groups left out as well as any: within a standard error of the best.

    What is compared is the mean of the classes' recalls. Of few labels it is so uncertain that the best strength would
    be drawn by chance, and a weak one does harm (the rule of one standard error, Breiman et al. 1984).

    Args:
        codes, classes, groups: (n, D), (n,) and (n,).
        count: number of classes.
        seed: of the folds.
    """
    found = {strength: np.zeros(len(codes), np.int64) for strength in SHRINKAGES}
    tested = np.zeros(len(codes), bool)
    for train, test in folds(classes, groups, INNER_FOLDS, seed):
        tested[test] = True
        discriminants = _Discriminants.of(codes[train], classes[train])
        for strength in SHRINKAGES:
            found[strength][test] = discriminants.classifier(count, strength).logits(codes[test]).argmax(1)
    if not tested.any():
        return SHRINKAGES[-2]
    recalls = {s: _mean_recall(found[s][tested], classes[tested]) for s in SHRINKAGES}
    best = max(recalls.values())
    error = (best * (1 - best) / tested.sum()) ** 0.5
    return max(strength for strength, recall in recalls.items() if recall >= best - error)


def cross_validate(codes: Codes, classes: Numbers, groups: Numbers, count: int, *, seed: int) -> CrossValidation:
    """Classify every group by what was learnt without it, the strength chosen anew each time without it as well."""
    logits = np.full((len(codes), count), _ABSENT)
    tested = np.zeros(len(codes), bool)
    for train, test in folds(classes, groups, FOLDS, seed):
        strength = choose_shrinkage(codes[train], classes[train], groups[train], count, seed=seed)
        logits[test] = fit_classifier(codes[train], classes[train], count, strength).logits(codes[test])
        tested[test] = True
    return CrossValidation(logits, tested)


def folds(classes: Numbers, groups: Numbers, count: int, seed: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows to learn from and rows to test on; all of a group on one side, classes spread evenly over the folds.

    A class with a single group is in what is learnt from, always: without it nothing could be said of the others
    either. Fewer folds where there are fewer groups, none where nothing can be left out.
    """
    lone = np.isin(classes, [c for c in np.unique(classes) if len(np.unique(groups[classes == c])) < 2])
    rows = np.flatnonzero(~lone)
    number = min(count, len(np.unique(groups[rows])))
    if number < 2:
        return
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer groups than folds
        splits = list(splitter.split(rows, classes[rows], groups[rows]))
    for _, test in splits:
        tested = rows[test]
        train = np.setdiff1d(np.arange(len(classes)), tested)
        if len(tested) and len(np.unique(classes[train])) > 1:
            yield train, tested


def fit_sharpness(logits: NDArray[np.float64], classes: Numbers) -> float:
    """The factor under which logits of rows left out are best as log-probabilities, every class counting the same.

    Temperature scaling (Guo et al. 2017): discriminant analysis on few labels is far too sure of itself.
    """
    share = 1 / np.bincount(classes)[classes]

    def loss(log_factor: float) -> float:
        likelihood = log_softmax(np.exp(log_factor) * logits, axis=1)[np.arange(len(classes)), classes]
        return float(-(share * likelihood).sum())

    return float(np.exp(minimize_scalar(loss, bounds=tuple(np.log(_SHARPNESS)), method="bounded").x))


def _mean_recall(predicted: Numbers, classes: Numbers) -> float:
    right = np.bincount(classes, predicted == classes) / np.maximum(np.bincount(classes), 1)
    return float(right[np.unique(classes)].mean())
