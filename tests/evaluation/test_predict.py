"""What is read off codes: labels at full resolution, through the CRF and averaged over the mirrored image."""

import pytest
import torch
import torch.nn.functional as F

from geohp.crf.mean_field import dense_crf
from geohp.evaluation import predict
from geohp.evaluation.predict import PredictionMode, Predictor, in_whole_patches
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.model.smoothing import fit_to_colours, neighbourhood_shares


def predictor(codes, **options):
    torch.manual_seed(0)
    return Predictor(lambda images: codes(images), ClusterProbe(4, 3), LinearProbe(4, 3), **options)


def pooled(images):
    """Codes that tell left from right: means of 8 px patches, and the column."""
    means = F.avg_pool2d(images, 8)
    column = torch.linspace(-1, 1, means.shape[-1]).expand_as(means[:, :1])
    return torch.cat([means, column], 1)


def test_crf_reads_the_published_unaries():
    torch.manual_seed(1)
    images = torch.rand(2, 3, 48, 64)
    predict = predictor(pooled, crf=True)
    labels = predict(images)
    codes = F.interpolate(pooled(images), size=(48, 64), mode="bilinear", align_corners=False)
    for index in range(2):
        image = (images[index] * 255).round().to(torch.uint8)
        cluster = (2 * predict.probe.cosines(codes[index][None]))[0].log_softmax(0)
        linear = predict.linear_probe(codes[index][None])[0].log_softmax(0)
        for probe, logits in (("cluster", cluster), ("linear", linear)):
            expected = dense_crf(image, logits).argmax(0)
            assert (labels[PredictionMode(probe, crf=True)][index] == expected).float().mean() > 0.999


def test_mirrored_images_give_mirrored_labels_only_when_averaged():
    torch.manual_seed(2)
    images = torch.rand(1, 3, 32, 32)
    plain, averaged = predictor(pooled), predictor(pooled, tta=True)
    mirrored = {name: labels.flip(2) for name, labels in averaged(images.flip(3)).items()}
    assert all(torch.equal(mirrored[name], labels) for name, labels in averaged(images).items())
    other = {name: labels.flip(2) for name, labels in plain(images.flip(3)).items()}
    assert not all(torch.equal(other[name], labels) for name, labels in plain(images).items())


@pytest.mark.parametrize(("side", "seen"), [(320, 322), (224, 224), (5, 14)])
def test_images_are_resized_to_whole_patches(side, seen):
    shapes = []

    def encoder(images):
        shapes.append(tuple(images.shape[-2:]))
        return F.avg_pool2d(images, 14)[:, [0, 1, 2, 0]]

    predict = predictor(encoder, patch_px=14)
    labels = predict(torch.rand(1, 3, side, side))
    assert shapes == [(seen, seen)]
    assert labels[PredictionMode("cluster")].shape == (1, side, side)


def test_where_what_lies_around_has_a_say_in_the_model_it_has_it_here():
    torch.manual_seed(3)
    images = torch.rand(2, 3, 5, 6).repeat_interleave(8, 2).repeat_interleave(8, 3)
    plain = predictor(pooled)
    codes = pooled(images)
    means = F.avg_pool2d(plain.linear_probe(codes), 3, 1, 1, count_include_pad=False)
    shares = fit_to_colours(neighbourhood_shares(plain.probe.cosines(codes), plain.probe.spread()), images).log()
    for probe, other, scores in (("cluster", "linear", shares), ("linear", "cluster", means)):
        labels = predictor(pooled, smooth_probe=probe)(images)
        expected = F.interpolate(scores, size=(40, 48), mode="bilinear", align_corners=False).argmax(1)
        assert (labels[PredictionMode(probe)] == expected).float().mean() > 0.999
        assert not torch.equal(labels[PredictionMode(probe)], plain(images)[PredictionMode(probe)])
        assert torch.equal(labels[PredictionMode(other)], plain(images)[PredictionMode(other)])


def test_images_of_whole_patches_are_taken_as_they_are():
    images = torch.rand(1, 3, 28, 42)
    assert in_whole_patches(images, 14) is images
    assert in_whole_patches(images, 7) is images
    assert in_whole_patches(images, 28).shape == (1, 3, 28, 56)  # the nearest even of one and a half
    assert in_whole_patches(images, 16).shape == (1, 3, 32, 48)


@pytest.mark.parametrize("smooth_probe", ["cluster", "linear"])
def test_the_crf_is_given_codes_of_which_neighbouring_patches_are_averaged_not_pixels(monkeypatch, smooth_probe):
    given = []
    monkeypatch.setattr(predict, "dense_crf", lambda guide, unaries: given.append(unaries) or unaries)
    images = torch.rand(1, 3, 40, 48)
    reader = predictor(pooled, crf=True, smooth_probe=smooth_probe)
    reader(images)
    means = F.avg_pool2d(pooled(images), 3, 1, 1, count_include_pad=False)
    for unaries, probe in zip(given, ("cluster", "linear"), strict=True):
        codes = means if probe == smooth_probe else pooled(images)
        codes = F.interpolate(codes, size=(40, 48), mode="bilinear", align_corners=False)
        logits = 2 * reader.probe.cosines(codes) if probe == "cluster" else reader.linear_probe(codes)
        torch.testing.assert_close(unaries, logits[0].log_softmax(0))


def test_the_crf_is_given_the_published_probabilities_and_the_image(monkeypatch):
    given = []
    monkeypatch.setattr(predict, "dense_crf", lambda guide, unaries: given.append((guide, unaries)) or unaries)
    torch.manual_seed(1)
    images = torch.rand(1, 3, 16, 24)
    reader = predictor(pooled, crf=True)
    labels = reader(images)
    codes = F.interpolate(pooled(images), size=(16, 24), mode="bilinear", align_corners=False)
    expected = {"cluster": 2 * reader.probe.cosines(codes), "linear": reader.linear_probe(codes)}
    for (guide, unaries), (probe, logits) in zip(given, expected.items(), strict=True):
        assert torch.equal(guide, (images[0] * 255).round().to(torch.uint8))
        torch.testing.assert_close(unaries, logits[0].log_softmax(0))
        assert torch.equal(labels[PredictionMode(probe, crf=True)][0], unaries.argmax(0))


@pytest.mark.parametrize("crf", [False, True])
def test_classes_of_the_linear_probe_may_be_numbered_otherwise(crf):
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    numbers = torch.tensor([2, 255, 0])
    plain, named = (predictor(pooled, crf=crf, linear_classes=each)(images) for each in (None, numbers))
    for mode, labels in plain.items():
        assert torch.equal(named[mode], numbers[labels] if mode.probe == "linear" else labels)


@pytest.mark.parametrize("crf", [False, True])
def test_raw_features_that_a_probe_was_taught_on_have_no_clusters_to_read(crf):
    taught = Predictor(pooled, ClusterProbe(4, 1), LinearProbe(4, 3), crf=crf)
    assert {mode.probe for mode in taught.modes} == {"linear"}
    assert {mode.probe for mode in Predictor(pooled, ClusterProbe(4, 1), crf=crf).modes} == {"cluster"}
    assert list(taught(torch.rand(1, 3, 32, 32))) == list(taught.modes)
