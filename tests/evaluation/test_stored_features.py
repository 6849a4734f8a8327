"""Features of labelled images on disk: scores are the same, and the backbone is not asked twice."""

import json
from types import SimpleNamespace

import pytest
import torch
from fields import MadeUp

from geohp.backbones.rcf import RandomConvolutionalFeatures
from geohp.errors import DataError
from geohp.evaluation import stored_features
from geohp.evaluation.evaluate import evaluate
from geohp.evaluation.stored_features import SeenImages

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


@pytest.mark.parametrize(("dtype", "kept"), [("auto", "float32"), ("float16", "float16")])
def test_what_was_trained_in_half_precision_is_judged_in_full_unless_asked(run, tmp_path, dtype, kept):
    disk = ["train.cache=disk", f"train.cache_dir={tmp_path}/features", f"train.cache_dtype={dtype}"]
    evaluate(run, overrides=[*disk, "train.precision=bf16"])
    (manifest,) = tmp_path.glob("features/*/manifest.json")
    assert json.loads(manifest.read_text())["image"]["features"][0] == kept


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


def test_what_encodes_is_told_how(monkeypatch):
    made = []

    class Sampler:
        def __init__(self, *arguments, **options):
            made.append((arguments, options))
            self.images = arguments[0]

        def __len__(self):
            return len(self.images)

        def cache(self, options, progress):
            made[-1][1].update(kept=options, progress=progress)
            return True

    monkeypatch.setattr(stored_features, "FeatureSampler", Sampler)
    images, backbone = MadeUp().evaluation(), SimpleNamespace(patch_size=8)
    kept = stored_features.store_features(
        images, backbone, "here", mirrored=True, batch_size=5, workers=2, unchanged="seen", progress="heard"
    )
    assert [arguments[0].mirrored for arguments, _ in made] == [False, True]
    assert [arguments[0].patch_px for arguments, _ in made] == [8, 8]
    assert all(arguments[1] is backbone for arguments, _ in made)
    told = {
        "batch_size": 5, "workers": 2, "affinities": False, "exact": True, "unchanged": "seen", "kept": "here",
        "progress": "heard",
    }  # fmt: skip
    assert [options for _, options in made] == [told, told]
    assert (kept.plain.images.mirrored, kept.mirrored.images.mirrored) == (False, True)
    plain = stored_features.store_features(images, backbone, "here")
    assert plain.mirrored is None
    assert (made[-1][1]["batch_size"], made[-1][1]["workers"]) == (16, 0)
    # Where an image could not be read, whoever reads the images themselves says which.
    monkeypatch.setattr(Sampler, "__len__", lambda self: 9)
    assert stored_features.store_features(images, backbone, "here") is None


def test_codes_of_both_views_are_averaged_the_mirrored_one_turned_back():
    def maps(number, flipped):
        grid = torch.arange(6.0).view(1, 1, 2, 3) + 10 * number
        return grid.flip(3) + 100 if flipped else grid

    def sampler(flipped):
        return SimpleNamespace(
            maps=lambda numbers: (maps(number, flipped) for number in numbers.tolist()),
            labels=lambda numbers: numbers + 50,
        )

    plain = stored_features.StoredCodes(stored_features.StoredFeatures(sampler(False)), lambda found: 2 * found)
    numbers = torch.tensor([3, 1])
    expected = 2 * torch.cat([maps(3, False), maps(1, False)])
    assert torch.equal(plain.codes(numbers), expected)
    both = stored_features.StoredFeatures(sampler(False), sampler(True))
    assert torch.equal(stored_features.StoredCodes(both, lambda found: 2 * found).codes(numbers), expected + 100)
    assert plain.labels(numbers).tolist() == [53, 51]


def test_a_set_seen_by_a_backbone_is_the_set_but_for_how_it_is_seen():
    images = MadeUp().evaluation()
    closed = []
    images.close = lambda: closed.append(True)
    images.files = lambda: ["a.tif"]
    seen = SeenImages(images, 8)
    seen.close()
    assert closed == [True]
    assert (len(seen), seen.name(4), seen.files(), seen.channels, seen.labelled) == (10, "1-4", ["a.tif"], 3, True)
    assert seen.identity() == SeenImages(images, 8).identity()
