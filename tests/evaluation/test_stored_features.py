"""Features of labelled images on disk: scores are the same, and the backbone is not asked twice."""

import pytest
import torch

from geohp.backbones.rcf import RandomConvolutionalFeatures
from geohp.errors import DataError
from geohp.evaluation.evaluate import evaluate
from geohp.evaluation.stored_features import SeenImages

from .conftest import MadeUp
from .test_evaluate import scores_of, without_best


@pytest.fixture
def run(runs, tmp_path):
    return without_best(runs[0], tmp_path)


@pytest.fixture
def encoded(monkeypatch):
    """Numbers of images that the backbone has been asked for."""
    asked, forward = [], RandomConvolutionalFeatures.forward

    def counted(self, images, affinities=True):
        asked.append(len(images))
        return forward(self, images, affinities)

    monkeypatch.setattr(RandomConvolutionalFeatures, "forward", counted)
    return asked


@pytest.mark.parametrize("options", [{}, {"tta": True}, {"crf": True}, {"batch_size": 3}])
def test_scores_are_those_without_and_the_backbone_is_asked_once(run, tmp_path, encoded, options):
    def stored():
        return evaluate(run, overrides=["train.cache=disk", f"train.cache_dir={tmp_path}/features"], **options)

    plain = evaluate(run, overrides=["train.cache=off"], **options)
    first, computed = stored(), sum(encoded)
    encoded.clear()
    second = stored()
    # To know what there is, one image is looked at, on a CPU as one of a lot of equals.
    assert sum(encoded) <= 8 < computed
    assert scores_of(first) == scores_of(second)
    for direct, kept in zip(plain.results, first.results, strict=True):
        assert abs(direct.scores["counts"] - kept.scores["counts"]).sum() <= 20  # ties of neighbouring clusters


def test_by_default_what_takes_moments_is_not_kept(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    evaluate(run)
    assert not (tmp_path / "cache").exists()


def test_an_image_that_cannot_be_read_is_named_not_replaced(run, tmp_path, monkeypatch):
    class Broken(MadeUp):
        def evaluation(self, progress=None):
            images = super().evaluation()

            class Torn(type(images)):
                def __getitem__(self, index):
                    if index == 7:
                        raise DataError("image 7: torn", "copy it again")
                    return super().__getitem__(index)

            images.__class__ = Torn
            return images

    monkeypatch.setattr("geohp.data.factory.open_data", lambda config, seed=0: Broken())
    with pytest.raises(DataError, match="image 7: torn"):
        evaluate(run, overrides=["train.cache=disk", f"train.cache_dir={tmp_path}/features"])


def test_mirror_images_are_seen_without_labels_and_told_apart():
    images = MadeUp().evaluation()
    plain, mirrored, resized = (
        SeenImages(images, 8),
        SeenImages(images, 8, mirrored=True),
        SeenImages(images, 14),
    )
    assert torch.equal(mirrored[3]["image"], plain[3]["image"].flip(2))
    assert (plain.labelled, mirrored.labelled, "mask" in mirrored[3]) == (True, False, False)
    assert resized[0]["image"].shape == (3, 98, 98)
    assert resized[0]["mask"].shape == (96, 96)
    assert len({each.identity() for each in (plain, mirrored, resized)}) == 3
