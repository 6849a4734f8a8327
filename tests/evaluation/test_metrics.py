"""Scores against recorded reference numbers, brute force and hand-made cases."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.errors import DataError
from geohp.evaluation.confusion import ConfusionCounts
from geohp.evaluation.metrics import SegmentationMetrics, class_ious, hungarian, majority
from geohp.evaluation.predict import PredictionMode

GOLDEN = Path(__file__).parents[1] / "golden"
counts = st.integers(2, 5).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 60), min_size=k, max_size=k), min_size=k, max_size=k)
)


def scores(prediction, target, classes, **options):
    metric = SegmentationMetrics(classes, **options)
    metric.update(prediction, target)
    return metric.compute()


@pytest.mark.parametrize(
    ("name", "matching"),
    [("cluster", "hungarian"), ("cluster_missing", "hungarian"), ("linear", "identity")],
)
def test_reference_numbers(name, matching):
    golden = np.load(GOLDEN / f"metrics_{name}.npz")
    found = scores(golden["preds"], golden["target"], 6, matching=matching)
    np.testing.assert_array_equal(found["counts"], golden["stats"])
    np.testing.assert_array_equal(found["confusion"], golden["histogram"])
    # The reference computes its percentages in single precision.
    assert found["accuracy"] == pytest.approx(float(golden["Accuracy"]), rel=2e-7)
    assert found["miou"] == pytest.approx(float(golden["mIoU"]), rel=2e-7)
    if matching == "hungarian":
        np.testing.assert_array_equal(found["assignment"], golden["assign_col"])
        valid = (golden["target"] >= 0) & (golden["target"] < 6)
        np.testing.assert_array_equal(found["assignment"][golden["preds"]][valid], golden["mapped"][valid])


@settings(deadline=None, max_examples=60)
@given(counts)
def test_hungarian_is_the_best_permutation(table):
    table = np.array(table)
    k = len(table)
    best = max(sum(table[i, p[i]] for i in range(k)) for p in itertools.permutations(range(k)))
    assignment = hungarian(table)
    assert sorted(assignment) == list(range(k))
    assert table[np.arange(k), assignment].sum() == best


@settings(deadline=None, max_examples=60)
@given(counts, st.integers(1, 4), st.randoms(use_true_random=False))
def test_extra_clusters_keep_the_best_match_and_join_their_majority(table, classes, random):
    table = np.array(table)[:, : min(classes, len(table) - 1)]
    clusters, classes = table.shape
    best = max(sum(table[p[c], c] for c in range(classes)) for p in itertools.permutations(range(clusters), classes))
    assignment = hungarian(table)
    # Some set of clusters, one a class, must be worth the best match, all others sitting at their majority.
    worth = [
        sum(table[p[c], c] for c in range(classes))
        for p in itertools.permutations(range(clusters), classes)
        if all(assignment[p[c]] == c for c in range(classes))
        and all(assignment[k] == majority(table)[k] for k in range(clusters) if k not in p)
    ]
    assert worth
    assert max(worth) == best


def test_fewer_clusters_than_classes():
    found = scores(np.array([0, 0, 1, 1]), np.array([2, 2, 0, 1]), 3, num_clusters=2)
    assert found["assignment"].tolist() in ([2, 0], [2, 1])
    assert found["accuracy"] == 75.0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(0, 3))
def test_cluster_numbers_do_not_matter(seed, classes, extra):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, 500)
    clusters = classes + extra
    prediction = np.where(rng.random(500) < 0.6, target, rng.integers(0, clusters, 500))
    renamed = rng.permutation(clusters)[prediction]
    a, b = (scores(p, target, classes, num_clusters=clusters) for p in (prediction, renamed))
    assert a["accuracy"] == pytest.approx(b["accuracy"], abs=1e-12)
    if extra == 0:  # leftover clusters of equal worth may tie, one-to-one matches of this strength do not
        assert a["miou"] == pytest.approx(b["miou"], abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 400), max_size=6))
def test_batches_and_their_order_do_not_matter(seed, cuts):
    rng = np.random.default_rng(seed)
    prediction, target = rng.integers(0, 5, 400), rng.integers(-1, 5, 400)
    whole = scores(prediction, target, 4, num_clusters=5)
    parts = list(zip(np.split(prediction, sorted(cuts)), np.split(target, sorted(cuts)), strict=True))
    metric = SegmentationMetrics(4, num_clusters=5)
    for k in rng.permutation(len(parts)):
        metric.update(torch.from_numpy(parts[k][0]), torch.from_numpy(parts[k][1]))
    found = metric.compute()
    for key, value in whole.items():
        np.testing.assert_array_equal(found[key], value)


def test_ignored_truth_and_missing_predictions():
    target = np.array([0, 0, 0, 0, 1, 1, 255, 255], np.uint8)
    prediction = np.array([0, 0, 255, 255, 1, 1, 0, 255], np.uint8)
    found = scores(prediction, target, 2)
    assert found["accuracy"] == pytest.approx(100 * 4 / 6)
    assert found["class_iou"].tolist() == [50.0, 100.0]
    assert found["unlabelled"].tolist() == [2, 0]
    assert found["confusion"].sum() + found["unlabelled"].sum() == 6


def test_a_class_neither_true_nor_predicted_has_no_iou():
    found = scores(np.array([0, 1, 1]), np.array([0, 1, 0]), 3, matching="identity")
    np.testing.assert_allclose(found["class_iou"], [50, 50, np.nan])
    assert found["miou"] == 50.0
    predicted_only = scores(np.array([0, 1, 2]), np.array([0, 1, 0]), 3, matching="identity")
    np.testing.assert_allclose(predicted_only["class_iou"], [50, 100, 0])
    assert predicted_only["miou"] == 50.0


def test_nothing_to_score():
    found = scores(np.array([0, 1]), np.array([255, 255]), 2)
    assert np.isnan(found["accuracy"])
    assert np.isnan(found["miou"])


def test_reset_forgets():
    metric = SegmentationMetrics(2)
    metric.update(np.array([0, 1]), np.array([1, 1]))
    metric.reset()
    metric.update(np.array([0, 1]), np.array([0, 1]))
    assert metric.compute()["counts"].sum() == 2
    assert metric.compute()["accuracy"] == 100.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_integer_types_and_layouts(dtype):
    target = np.arange(24, dtype=dtype).reshape(2, 3, 4) % 3
    assert scores(target.transpose(2, 0, 1), target.transpose(2, 0, 1), 3)["accuracy"] == 100.0
    assert scores(torch.from_numpy(target.astype(np.int64)), target, 3)["accuracy"] == 100.0


def test_bad_input_is_told():
    metric = SegmentationMetrics(2)
    with pytest.raises(DataError, match="same"):
        metric.update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(DataError, match="argmax"):
        metric.update(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="argmax"):
        metric.update(np.zeros(3, int), np.zeros(3))
    with pytest.raises(ValueError, match="identity"):
        SegmentationMetrics(3, num_clusters=4, matching="identity")
    with pytest.raises(ValueError, match="nearest"):
        SegmentationMetrics(3, matching="nearest")


def test_counts_are_summed_over_processes():
    metric = SegmentationMetrics(2)
    metric.update(np.array([0, 1]), np.array([0, 1]))
    assert metric._reductions["confusion"](torch.stack([metric.confusion, metric.confusion])).sum() == 4


def test_ious_of_confusions_stacked_with_pixels_left_out_and_without():
    confusion = np.array([[[3, 1], [0, 4]], [[0, 0], [0, 5]]])
    np.testing.assert_allclose(class_ious(confusion), [[75, 80], [np.nan, 100]])
    np.testing.assert_allclose(class_ious(confusion, [[2, 0], [0, 5]]), [[50, 80], [np.nan, 50]])


def test_a_process_that_counts_alone_does_not_wait_for_others():
    """A training of several processes scores in one of them."""

    def wait(*_, **__):
        raise AssertionError("waits for the other processes")

    modes = [PredictionMode("cluster"), PredictionMode("linear")]
    counts = ConfusionCounts(2, 3, modes)
    for metrics in counts._metrics.values():
        metrics.distributed_available_fn, metrics.dist_sync_fn = (lambda: True), wait
    labels = torch.tensor([[[0, 1, 2]]])
    counts.add({modes[0]: labels, modes[1]: labels.clamp_max(1)}, torch.tensor([[[1, 0, 255]]]))
    scores = counts.scores()
    assert scores[modes[0]]["accuracy"] == 100
    assert scores[modes[1]]["accuracy"] == 0
    assert counts.images == 1
