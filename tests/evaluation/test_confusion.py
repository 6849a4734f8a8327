"""Counts over a set of images: by hand, in batches, from stored codes, and gone on with where they were left."""

import numpy as np
import pytest
import torch

from geohp.data.base import ImageSet
from geohp.evaluation import confusion
from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.confusion import ConfusionCounts, count_confusion
from geohp.evaluation.predict import PredictionMode, Predictor
from geohp.methods.probes import ClusterProbe, LinearProbe

CLUSTER, LINEAR = PredictionMode("cluster"), PredictionMode("linear")


class Flat(ImageSet):
    """Images of one colour each, red or green; the right column is not labelled."""

    channels, labelled = 3, True

    def __init__(self, count):
        self.count, self.asked = count, []

    def __len__(self):
        return self.count

    def name(self, index):
        return str(index)

    def __getitem__(self, index):
        self.asked.append(index)
        image, mask = torch.zeros(3, 4, 4), torch.full((4, 4), index % 2)
        image[index % 2] = 1
        mask[:, 3] = 255
        return {"image": image, "mask": mask}


class Stored:
    """Codes of the images, as an earlier evaluation kept them."""

    def __init__(self, images):
        self.images, self.codes_of, self.labels_of = images, [], []

    def codes(self, numbers):
        self.codes_of.append(numbers.tolist())
        return torch.stack([self.images[number]["image"] for number in numbers.tolist()])

    def labels(self, numbers):
        self.labels_of.append(numbers.tolist())
        return torch.stack([self.images[number]["mask"] for number in numbers.tolist()])


def predictor(encoder=lambda images: images, **options):
    """Green is the first of three clusters, red the second; the linear probe has them the other way round."""
    clusters, linear = ClusterProbe(3, 3), LinearProbe(3, 2)
    clusters.clusters.data = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    linear.classifier.weight.data = torch.eye(3)[:2, :, None, None]
    linear.classifier.bias.data.zero_()
    return Predictor(encoder, clusters, linear, **options)


def coded_images(images, reader=None, **options):
    return CodedImages(images=images, predictor=reader or predictor(), **options)


def counts_of(counts):
    return {str(mode): scores["counts"].tolist() for mode, scores in counts.scores().items()}


FIVE = {"cluster": [[0, 24], [36, 0], [0, 0]], "linear": [[36, 0], [0, 24]]}
"""Of five images: three red ones of class 0, two green ones of class 1, 12 labelled pixels each."""


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_every_image_is_counted_once_in_every_mode(batch_size):
    images, heard = Flat(5), []
    coded = coded_images(images, batch_size=batch_size)
    counts = count_confusion(coded, 2, stage="judging", progress=lambda *step: heard.append(step))
    assert counts_of(counts) == FIVE
    assert counts.images == 5
    assert images.asked == [0, 1, 2, 3, 4]
    assert heard == [("judging", min(5, done), 5) for done in range(batch_size, 5 + batch_size, batch_size)]
    assert {str(mode): scores["accuracy"] for mode, scores in counts.scores().items()} == {
        "cluster": 100.0,  # matched
        "linear": 100.0,
    }


def test_a_linear_probes_classes_are_taken_at_their_word():
    counts = ConfusionCounts(2, 3, [CLUSTER, LINEAR])
    swapped = torch.tensor([[[1, 0]]])
    counts.add({CLUSTER: swapped, LINEAR: swapped}, torch.tensor([[[0, 1]]]))
    assert {mode: scores["accuracy"] for mode, scores in counts.scores().items()} == {CLUSTER: 100, LINEAR: 0}


@pytest.mark.parametrize("crf", [False, True])
def test_stored_codes_are_read_by_the_numbers_of_their_images_and_the_encoder_is_not_asked(crf):
    images = Flat(5)
    stored = Stored(Flat(5))
    counts = count_confusion(coded_images(images, predictor(None, crf=crf), batch_size=2, stored=stored), 2)
    assert {mode: counts_of(counts)[mode] for mode in FIVE} == FIVE
    assert stored.codes_of == [[0, 1], [2, 3], [4]]
    # The images themselves are for the CRF.
    assert (images.asked, stored.labels_of) == (([0, 1, 2, 3, 4], []) if crf else ([], [[0, 1], [2, 3], [4]]))


def test_counts_are_saved_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    saved, save = [], ConfusionCounts.save
    monkeypatch.setattr(confusion, "_SAVED_EVERY", 3)
    monkeypatch.setattr(ConfusionCounts, "save", lambda self, path: saved.append(self.images) or save(self, path))
    count_confusion(coded_images(Flat(8), batch_size=1), 2, counts_file=tmp_path / "counts.npz")
    assert saved == [3, 6, 8]
    count_confusion(coded_images(Flat(8), batch_size=1), 2)
    assert saved == [3, 6, 8]


@pytest.mark.parametrize("with_stored", [False, True])
def test_an_unfinished_count_is_gone_on_with(tmp_path, with_stored):
    file = tmp_path / "counts.npz"
    count_confusion(coded_images(Flat(3), batch_size=1), 2, counts_file=file)
    images, heard = Flat(5), []
    stored = Stored(Flat(5)) if with_stored else None
    coded = coded_images(images, predictor(crf=with_stored), batch_size=1, stored=stored)
    counts = count_confusion(coded, 2, counts_file=file, progress=lambda _, *step: heard.append(step))
    if with_stored:  # another way of reading is another count
        assert counts.images == 5
        assert stored.codes_of == [[0], [1], [2], [3], [4]]
    else:
        assert images.asked == [3, 4]
        assert heard == [(4, 5), (5, 5)]
    assert {mode: counts_of(counts)[mode] for mode in FIVE} == FIVE


def test_stored_codes_go_on_where_the_count_was(tmp_path):
    file = tmp_path / "counts.npz"
    count_confusion(coded_images(Flat(3), predictor(crf=True)), 2, counts_file=file)
    for crf in (True, False):
        stored = Stored(Flat(5))
        counts = count_confusion(coded_images(Flat(5), predictor(crf=crf), stored=stored), 2, counts_file=file)
        assert stored.codes_of == ([[3, 4]] if crf else [])  # where all is counted there is nothing left to read
        assert {mode: counts_of(counts)[mode] for mode in FIVE} == FIVE


def test_counts_of_another_size_damaged_or_lost_are_passed_over(tmp_path):
    file = tmp_path / "counts.npz"
    full = ConfusionCounts(2, 3, [CLUSTER, LINEAR])
    labels = torch.tensor([[[0, 1]]])
    full.add({CLUSTER: labels, LINEAR: labels}, labels)
    full.save(file)
    same = ConfusionCounts(2, 3, [CLUSTER, LINEAR])
    same.load(file)
    assert (same.images, counts_of(same)) == (1, counts_of(full))
    for other in (ConfusionCounts(2, 4, [CLUSTER, LINEAR]), ConfusionCounts(3, 3, [CLUSTER]),
                  ConfusionCounts(2, 3, [PredictionMode("cluster", crf=True)])):  # fmt: skip
        other.load(file)
        assert other.images == 0
    for content in (b"", b"no archive", file.read_bytes()[:-40]):
        file.write_bytes(content)
        damaged = ConfusionCounts(2, 3, [CLUSTER, LINEAR])
        damaged.load(file)
        assert damaged.images == 0
        damaged.load(tmp_path / "nothing")
        assert damaged.images == 0


def test_an_archive_that_would_be_unpickled_is_not(tmp_path):
    np.savez(tmp_path / "counts.npz", images=np.int64(3), cluster=np.array([print], object))
    counts = ConfusionCounts(2, 3, [CLUSTER])
    counts.load(tmp_path / "counts.npz")
    assert counts.images == 0
