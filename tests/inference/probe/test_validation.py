"""What a probe is expected to score, and how sure that is: the bootstrap over groups, however many there are."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from geohp.evaluation.metrics import class_ious
from geohp.inference.probe.discriminant import CrossValidation, choose_shrinkage
from geohp.inference.probe.validation import score


def drawn(groups, classes, rows=2):
    """Labels of so many groups, of which every third is found as another class."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(groups), rows)
    labels = rng.integers(0, classes, groups)[group]
    found = np.where(rng.random(len(group)) < 1 / 3, rng.integers(0, classes, len(group)), labels)
    labelled = SimpleNamespace(
        groups=group, classes=labels, pixels=rng.uniform(1, 9, len(group)), names=[str(k) for k in range(classes)],
        objects=group, places=np.zeros((len(group), 2)),
    )  # fmt: skip
    return labelled, CrossValidation(0.1 * np.eye(classes)[found], rng.random(len(group)) < 0.9), found


def test_errors_are_those_of_tables_of_groups_drawn_with_replacement():
    labelled, validation, found = drawn(40, 4)
    scores = score(labelled, validation, seed=5)
    tables = np.zeros((40, 4, 4))
    rows = validation.tested
    np.add.at(tables, (labelled.groups[rows], labelled.classes[rows], found[rows]), labelled.pixels[rows])
    tables = tables[tables.any((1, 2))]
    weights = np.random.default_rng(5).multinomial(len(tables), np.full(len(tables), 1 / len(tables)), 1000)
    together = np.tensordot(weights, tables, 1)
    accuracies = 100 * np.trace(together, axis1=1, axis2=2) / together.sum((1, 2))
    assert scores.accuracy.error == pytest.approx(accuracies.std())
    assert scores.miou.error == pytest.approx(class_ious(together).mean(1).std())
    np.testing.assert_allclose(scores.confusion, tables.sum(0))
    assert scores.miou.value == pytest.approx(class_ious(tables.sum(0)).mean())
    assert scores.accuracy.value == pytest.approx(100 * np.trace(tables.sum(0)) / tables.sum())


def peak_mb(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_many_groups_of_many_classes_take_little_memory():
    labelled, validation, _ = drawn(2000, 60)
    assert peak_mb(lambda: score(labelled, validation, seed=0)) < 25  # a table of each group takes 58
    codes = np.random.default_rng(0).normal(0, 1, (len(labelled.classes), 3)).astype(np.float32)
    rows = codes, labelled.classes, labelled.groups, 60
    assert peak_mb(lambda: choose_shrinkage(*rows, seed=0)) < 10  # all logits of all strengths take 13


def test_a_doubt_lies_where_its_class_does_and_not_in_the_middle_of_its_square():
    """Squares of a raster hold several classes."""
    labelled = SimpleNamespace(
        groups=np.array([0, 0, 0, 0, 1, 1]), classes=np.array([0, 0, 1, 1, 0, 1]), pixels=np.ones(6),
        names=["lake", "wood"], objects=np.full(6, -1),
        places=np.array([[1, 5], [3, 5], [90, 80], [90, 80], [50, 50], [50, 50]], float),
    )  # fmt: skip
    logits = 9.0 * np.eye(2)[[1, 1, 1, 1, 0, 1]]
    (doubt,) = score(labelled, CrossValidation(logits, np.ones(6, bool)), seed=0).doubts
    assert (doubt.name, doubt.looks_like, doubt.feature) == ("lake", "wood", None)
    assert (doubt.x, doubt.y) == (2, 5)
