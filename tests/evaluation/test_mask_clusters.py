"""Clusters of masks: prototypes, whitening, and the score of masks whose classes are known."""

import numpy as np
import pytest
import torch
from pretended_card import pretended_card

from geohp.data.base import ImageSet
from geohp.errors import DataError
from geohp.evaluation import mask_clusters
from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.mask_clusters import _pixels_by_class, mask_prototypes, score_mask_clusters, whiten
from geohp.evaluation.predict import Predictor
from geohp.methods.probes import ClusterProbe


def test_patches_weigh_by_the_share_that_a_mask_covers():
    code = torch.arange(8.0).view(2, 2, 2)
    segments = torch.full((4, 4), -1)
    segments[:2, :3] = 5
    segments[3, 3] = 9
    means = mask_prototypes(code, segments, torch.tensor([5, 9]))
    torch.testing.assert_close(means[0], (code[:, 0, 0] * 4 + code[:, 0, 1] * 2) / 6)
    torch.testing.assert_close(means[1], code[:, 1, 1])
    assert mask_prototypes(code, segments, torch.empty(0)).shape == (0, 2)


def test_whitened_rows_are_uncorrelated():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 3, generator=generator) @ torch.tensor([[5.0, 1, 0, 2], [0, 0.1, 0, 3], [0, 1, 1, 0]]) + 7
    whitened = whiten(rows)
    assert whitened.shape == (300, 3)  # the fourth direction is flat
    torch.testing.assert_close(torch.cov(whitened.T), torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(whitened.mean(0), torch.zeros(3), atol=1e-4, rtol=0)


class Objects(ImageSet):
    """Images with an object each, whose colour tells its class; some masks are too large."""

    channels, labelled, segmented = 6, True, True

    def __init__(self, count=24, classes=4):
        self.count, self.classes = count, classes

    def __len__(self):
        return self.count

    def name(self, index):
        return f"object {index}"

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        kind = index % (self.classes - 1)
        image = np.zeros((6, 32, 32), np.float32)
        image[5] = 1
        mask, segments = np.zeros((32, 32), np.int64), np.full((32, 32), -1)
        image[:, 8:24, 8:24] = rng.normal(0, 0.05, (6, 1, 1))
        image[kind, 8:24, 8:24] += 1
        mask[8:24, 8:24], segments[8:24, 8:24] = kind + 1, 3
        segments[8:24, 24 : 24 + 4 * (index == 1)] = 3
        if index == 0:  # nothing salient, and so all background
            segments[:] = -1
        return {
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(mask),
            "segments": torch.from_numpy(segments),
        }


def predictor():
    return Predictor(lambda images: torch.nn.functional.avg_pool2d(images, 4), ClusterProbe(6, 4), patch_px=4)


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_masks_are_scored_as_a_segmentation(batch_size):
    scores = score_mask_clusters(CodedImages(images=Objects(), predictor=predictor(), batch_size=batch_size), 4)
    pixels, missed, beyond = 24 * 32 * 32, 256, 64
    assert scores["accuracy"] == pytest.approx(100 * (1 - (missed + beyond) / pixels))
    # Eight objects of each class: of the first, one is not salient; of the second, one is taken too large.
    background = pixels - 24 * 256
    expected = [
        (background - beyond) / (background + missed),
        7 / 8,
        8 * 256 / (8 * 256 + beyond),
        1,
    ]
    np.testing.assert_allclose(scores["class_iou"], 100 * np.array(expected))


def test_clusters_are_the_best_of_ten(monkeypatch):
    asked, cluster = [], mask_clusters.spherical_kmeans
    monkeypatch.setattr(
        mask_clusters, "spherical_kmeans", lambda *a, **options: asked.append(options) or cluster(*a, **options)
    )
    score_mask_clusters(CodedImages(images=Objects(), predictor=predictor()), 4)
    assert asked == [{"restarts": 10}]


def test_every_image_is_read_once():
    class Counted(Objects):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    read: list[int] = []
    score_mask_clusters(CodedImages(images=Counted(), predictor=predictor(), batch_size=5), 4)
    assert read == list(range(24))


def test_pixels_of_several_masks_of_an_image():
    segments = torch.tensor([[-1, 7, 7, 2], [2, 2, -1, 7]])
    truth = torch.tensor([[0, 1, 255, 2], [2, 1, 0, 1]])
    pixels = _pixels_by_class(segments, torch.tensor([2, 7]), truth, 3)
    assert pixels.tolist() == [[2, 0, 0], [0, 1, 2], [0, 2, 0]]


def test_stored_codes_give_the_same_scores_and_the_encoder_is_not_asked():
    images, reader = Objects(), predictor()
    direct = score_mask_clusters(CodedImages(images=images, predictor=reader, batch_size=5), 4)

    class Stored:
        def codes(self, numbers):
            return reader.codes(torch.stack([images[number]["image"] for number in numbers.tolist()]))

    silent = Predictor(None, ClusterProbe(6, 4), patch_px=4)
    coded = CodedImages(images=images, predictor=silent, stored=Stored(), batch_size=5)
    scores = score_mask_clusters(coded, 4)
    assert (scores["counts"] == direct["counts"]).all()


def test_codes_and_masks_meet_on_the_card():
    here = score_mask_clusters(CodedImages(images=Objects(), predictor=predictor()), 4)
    with pretended_card():
        reader = predictor()
        reader.probe.to("cuda")
        there = score_mask_clusters(CodedImages(images=Objects(), predictor=reader), 4)
    assert (here["counts"] == there["counts"]).all()


def test_fewer_masks_than_classes():
    with pytest.raises(DataError, match="3 masks"):
        score_mask_clusters(CodedImages(images=Objects(4), predictor=predictor()), 4)
