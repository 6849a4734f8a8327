"""The classifier is discriminant analysis as the textbook writes it, and its validation never sees a group it tests."""

import numpy as np
import pytest
from scipy.special import log_softmax

from geohp.inference.probe.discriminant import (
    SHRINKAGES,
    Conditioning,
    choose_shrinkage,
    cross_validate,
    fit_classifier,
    fit_sharpness,
    folds,
)


def blobs(sizes, distance=3.0, seed=0, width=6):
    """Codes of classes whose middles lie apart; every row is a group."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(sizes)), sizes)
    middles = distance * np.eye(len(sizes), width)
    codes = 10 + 5 * (middles[classes] + rng.normal(size=(len(classes), width))) * np.arange(1, width + 1)
    return codes.astype(np.float32), classes, np.arange(len(classes))


@pytest.mark.parametrize(("sizes", "width"), [((40, 12, 7), 6), ((30, 9), 6), ((12, 1, 7), 50)])
def test_it_is_discriminant_analysis_with_a_shrunk_covariance_and_equal_priors(sizes, width):
    rows, classes, _ = blobs(sizes, width=width)
    middles = np.stack([rows[classes == k].mean(0) for k in range(len(sizes))])
    # The classes' covariances, every class counting the same, each shrunk towards its mean variance.
    covariance = 0
    for k in range(len(sizes)):
        own = np.cov(rows[classes == k].T, bias=True)
        covariance = covariance + (0.7 * own + 0.3 * np.trace(own) / width * np.eye(width)) / len(sizes)
    slopes = np.linalg.solve(covariance, middles.T).T
    expected = rows @ slopes.T - (slopes * middles).sum(1) / 2
    logits = fit_classifier(rows, classes, len(sizes), 0.3).logits(rows)
    np.testing.assert_allclose(log_softmax(logits, 1), log_softmax(expected, 1), rtol=1e-4, atol=1e-4)


def test_conditioning_is_the_fourth_root_of_the_covariance_and_can_be_undone():
    rng = np.random.default_rng(0)
    everything = rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) * [1, 1, 50, 1, 0.01, 1] + 7
    covariance = np.cov(everything.T, bias=True)
    conditioning = Conditioning.of(everything.mean(0), covariance)
    rows = conditioning(everything.astype(np.float32))
    # Standardised channels whose correlations C are divided by C^(1/4): what is left of them is C^(1/2).
    correlations = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    left = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    np.testing.assert_allclose(6 * left, np.sqrt(np.linalg.eigvalsh(correlations)), rtol=0.02)
    classes = rng.integers(0, 3, 60)
    classifier = fit_classifier(rows[:60], classes, 3, 0.2)
    np.testing.assert_allclose(
        conditioning.undo(classifier).logits(everything[:200].astype(np.float32)),
        classifier.logits(rows[:200]),
        rtol=1e-3,
        atol=1e-3,
    )


def test_every_part_counts_the_same_however_many_channels_it_has():
    """A part of two channels that tell the classes, beside one of two hundred that tell nothing."""
    rng = np.random.default_rng(0)
    classes = np.tile([0, 1], 2000)
    useful = (classes * 1.5)[:, None] + rng.normal(size=(4000, 2))
    codes = np.concatenate([useful, rng.normal(size=(4000, 200))], 1).astype(np.float32)
    moments = codes.mean(0).astype(float), np.cov(codes.T, bias=True)
    right = []
    for parts in (None, (2, 200)):
        rows = Conditioning.of(*moments, parts)(codes)
        learnt, unseen = slice(0, 40), slice(40, None)
        logits = fit_classifier(rows[learnt], classes[learnt], 2, 0.5).logits(rows[unseen])
        right.append((logits.argmax(1) == classes[unseen]).mean())
    assert right[1] > right[0] + 0.05
    assert right[1] > 0.8  # 0.86 is the most that two channels allow
    widths = np.split(rows.var(0), [2])
    assert widths[0].sum() == pytest.approx(widths[1].sum(), rel=0.05)


def test_parts_are_conditioned_each_by_itself():
    rng = np.random.default_rng(0)
    codes = (rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5))).astype(np.float32)
    mean, covariance = codes.mean(0).astype(float), np.cov(codes.T, bias=True)
    both = Conditioning.of(mean, covariance, (2, 3))(codes)
    for part in (slice(0, 2), slice(2, 5)):
        alone = Conditioning.of(mean[part], covariance[part, part])(codes[:, part])
        np.testing.assert_allclose(both[:, part], alone, rtol=1e-4, atol=1e-5)


def test_codes_that_do_not_vary_can_be_conditioned():
    everything = np.tile(np.float32([1, 2, 3]), (50, 1))
    conditioning = Conditioning.of(everything.mean(0), np.cov(everything.T, bias=True))
    assert np.isfinite(conditioning(everything)).all()


def test_a_class_that_is_not_there_is_never_found_and_constant_codes_do_no_harm():
    codes, classes, _ = blobs((20, 20))
    codes = np.concatenate([codes, np.full((40, 1), 3, np.float32)], 1)
    logits = fit_classifier(codes, 2 * classes, 4, 0.1).logits(codes)
    assert set(logits.argmax(1)) == {0, 2}
    assert np.isfinite(logits).all()


def test_of_one_row_a_class_the_nearest_counts():
    codes = np.array([[0, 0], [4, 0], [0, 4]], np.float32)
    classifier = fit_classifier(codes, np.array([2, 0, 1]), 3, 0.1)
    assert classifier.logits(codes + np.float32(0.5)).argmax(1).tolist() == [2, 0, 1]


def test_rare_classes_count_as_much_as_frequent_ones():
    codes, classes, _ = blobs((2000, 40), distance=1.5)
    found = fit_classifier(codes, classes, 2, 0.1).logits(codes).argmax(1)
    recalls = [(found[classes == k] == k).mean() for k in (0, 1)]
    assert recalls[1] == pytest.approx(recalls[0], abs=0.12)


def test_groups_are_on_one_side_and_every_row_is_tested_once():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 14, 300)
    classes = groups % 3
    tested = []
    for train, test in folds(classes, groups, 5, 0):
        assert not set(groups[train]) & set(groups[test])
        assert set(classes[train]) == {0, 1, 2}
        tested += test.tolist()
    assert sorted(tested) == list(range(300))


def test_a_class_with_one_group_is_learnt_from_and_never_tested():
    classes = np.array([0] * 6 + [1] * 6 + [2] * 5)
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6, 6])
    splits = list(folds(classes, groups, 5, 0))
    assert sorted(row for _, test in splits for row in test) == list(range(12))
    assert all(set(range(12, 17)) <= set(train) for train, _ in splits)
    assert not list(folds(np.array([0, 0, 1]), np.array([0, 0, 1]), 5, 0))


def test_what_only_marks_a_group_does_not_count():
    """Codes tell groups apart and nothing else: rows of a known group would be classified without a mistake."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    classes = np.repeat(rng.permutation(40) % 2, 10)
    codes = (rng.normal(size=(40, 60))[groups] + 0.01 * rng.normal(size=(400, 60))).astype(np.float32)
    validation = cross_validate(codes, classes, groups, 2, seed=0)
    assert validation.tested.all()
    assert 0.25 < (validation.logits.argmax(1) == classes).mean() < 0.75


def test_the_strength_suits_the_number_of_labels():
    """Many channels of noise and few labels want more than few channels and many labels."""
    few = blobs((8, 8, 8), distance=2, width=200)
    many = blobs((400, 400, 400), distance=0.8, width=6, seed=1)
    many = (many[0] @ np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].astype(np.float32), *many[1:])
    strengths = [choose_shrinkage(*rows, 3, seed=0) for rows in (few, many)]
    assert strengths[0] >= strengths[1]
    assert set(strengths) <= set(SHRINKAGES)


def test_sharpness_brings_probabilities_back():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 3))
    classes = (log_softmax(logits, 1) + rng.gumbel(size=logits.shape)).argmax(1)
    assert fit_sharpness(4 * logits, classes) == pytest.approx(0.25, rel=0.1)
