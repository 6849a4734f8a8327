"""A linear classifier for few labels: discriminant analysis with a shrunk covariance, validated group by group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedGroupKFold

SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95)
"""Strengths of regularisation to choose from: the share of what is not learnt from labels in the covariance."""

FOLDS, INNER_FOLDS = 5, 3

_TEMPER, _LEAST = 0.5, 1e-3
"""Power of the eigenvalues of all codes' covariance, and the least of them as a share of their mean."""
_ABSENT = -1e4  # logit of a class that a fold has not seen
_SHARPNESS = (1e-3, 10.0)

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

    Attributes:
        mean: (D,) float64.
        matrix: (D, D) float64.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def of(cls, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> Conditioning:
        """Of mean (D,) and covariance (D, D) of codes; channels that do not vary do no harm."""
        deviation = np.sqrt(np.diag(covariance))
        deviation = np.maximum(deviation, 1e-6 * max(float(deviation.max()), 1e-12))
        values, axes = np.linalg.eigh(covariance / np.outer(deviation, deviation))
        values = np.maximum(values, _LEAST * max(float(values.mean()), 1e-12))
        return cls(mean, axes * values ** (-_TEMPER / 2) / deviation[:, None])

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


def fit_classifier(codes: Codes, classes: Numbers, count: int, shrinkage: float) -> LinearClassifier:
    """Linear discriminant analysis with equal priors: a class counts the same however often it was labelled.

    The classes' common covariance S becomes (1 - a) S + a tr(S) / D I, as Ledoit and Wolf (2004) shrink it.

    Args:
        codes: (n, D), conditioned.
        classes: (n,) numbers below ``count``; two of them at least occur.
        count: number of classes K.
        shrinkage: the share a, above 0 and at most 1.
    """
    seen = np.unique(classes)
    weight, bias = np.zeros((count, codes.shape[1])), np.full(count, _ABSENT)
    weight[seen], bias[seen] = _discriminants(codes.astype(np.float64), classes, len(seen), shrinkage)
    return LinearClassifier(weight, bias)


def _discriminants(
    rows: NDArray[np.float64], classes: Numbers, count: int, shrinkage: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slopes (K, D) and offsets (K,) of the K classes that occur."""
    if len(rows) == count:  # one row each, which have no covariance: the nearest one counts
        slopes = rows[np.argsort(classes)]
        return slopes, -(slopes**2).sum(1) / 2
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=np.full(count, 1 / count))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with a single row
        analysis.fit(rows, classes)
    slopes, offsets = analysis.coef_, analysis.intercept_
    if count == 2:  # of two classes it gives the difference
        return np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    return slopes, offsets


def choose_shrinkage(codes: Codes, classes: Numbers, groups: Numbers, count: int, *, seed: int) -> float:
    """The strongest that classifies groups left out as well as any: within a standard error of the best.

    What is compared is the mean of the classes' recalls. Of few labels it is so uncertain that the best strength would
    be drawn by chance, and a weak one does harm (the rule of one standard error, Breiman et al. 1984).

    Args:
        codes, classes, groups: (n, D), (n,) and (n,).
        count: number of classes.
        seed: of the folds.
    """
    logits = {strength: np.full((len(codes), count), _ABSENT) for strength in SHRINKAGES}
    tested = np.zeros(len(codes), bool)
    for train, test in folds(classes, groups, INNER_FOLDS, seed):
        tested[test] = True
        for strength in SHRINKAGES:
            logits[strength][test] = fit_classifier(codes[train], classes[train], count, strength).logits(codes[test])
    if not tested.any():
        return SHRINKAGES[-2]
    recalls = {s: _mean_recall(logits[s][tested].argmax(1), classes[tested]) for s in SHRINKAGES}
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
