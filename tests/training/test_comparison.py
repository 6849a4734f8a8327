"""What stands beside k-means is measured, and the sentence says what the figures do."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn

from geohp.backbones.factory import create_backbone
from geohp.classes import default_classes
from geohp.config.experiment import ClassesConfig
from geohp.data.base import ImageSet
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
from geohp.methods.kmeans.method import Standardise
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.training.comparison import KMeansComparison, MapFigures, compare_with_kmeans
from geohp.training.looks import draw_patches

THREE = ClassesConfig(count=3)
COLOURS = torch.tensor([[0.2, 0.6, 0.2], [0.5, 0.5, 0.5], [0.8, 0.3, 0.2]])


class Fields(ImageSet):
    """Images of 64 px of sixteen fields each, in three colours."""

    channels, labelled = 3, True

    def __init__(self, count=12):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = torch.Generator().manual_seed(index)
        mask = torch.randint(3, (4, 4), generator=rng).repeat_interleave(16, 0).repeat_interleave(16, 1)
        noise = 0.02 * torch.randn(3, 64, 64, generator=rng)
        return {"image": (COLOURS[mask].permute(2, 0, 1) + noise).clamp(0, 1), "mask": mask}

    def name(self, index):
        return str(index)


@pytest.fixture(scope="module")
def features():
    backbone = create_backbone("rcf", in_channels=3, seed=0, filters=16)
    sampler = FeatureSampler(Fields(), backbone, batch_size=4)
    backbone.fit(sampler.normalised(8))
    sampler.cache(CacheOptions("memory", 2**30, None, "float32"))
    return sampler


def model_of(features, centroids):
    channels = features.backbone.channels
    probe = ClusterProbe(channels, len(centroids))
    with torch.no_grad():
        probe.clusters.copy_(centroids)
    card = ModelCard(
        "hp", BackboneCard("rcf", 0), channels, channels, default_classes(len(centroids)), patch_px=64, input_px=64
    )
    return LandCoverModel(features.backbone, Standardise(channels), probe, card)


def class_means(features, images=12):
    """Mean features of the true classes."""
    maps = torch.cat(list(features.maps(torch.arange(images))))
    masks = torch.stack([features.images[i]["mask"] for i in range(images)])
    step = 64 // maps.shape[-1]
    flat, labels = maps.permute(0, 2, 3, 1).flatten(0, 2), masks[:, step // 2 :: step, step // 2 :: step].flatten()
    return torch.stack([flat[labels == k].mean(0) for k in range(3)])


def test_a_model_of_chance_loses_against_k_means_and_says_so(features):
    random = torch.randn(3, features.backbone.channels, generator=torch.Generator().manual_seed(0))
    comparison = compare_with_kmeans(model_of(features, random), features, THREE, label_classes=3)
    assert comparison.verdict == "worse"
    assert comparison.sentence.startswith("k-means on the same features is better here: mean IoU ")
    assert "method.name=kmeans" in comparison.sentence
    assert comparison.kmeans.miou > comparison.result.miou + 2
    json.dumps(comparison.document())


def test_the_true_classes_are_found_stable_and_along_the_edges(features):
    comparison = compare_with_kmeans(model_of(features, class_means(features)), features, THREE, label_classes=3)
    assert comparison.result.miou > 80
    assert comparison.result.vanished == 0
    assert comparison.result.stability > 95
    assert comparison.result.edges > 2 * comparison.edges_by_chance
    assert 100 / 3 < comparison.result.largest < 60
    assert comparison.verdict in ("better", "as good")


def test_classes_that_no_patch_is_in_have_vanished(features):
    means = class_means(features)
    rows = torch.cat(list(features.maps(torch.arange(12)))).permute(0, 2, 3, 1).flatten(0, 2)
    directions = F.normalize(torch.randn(200, rows.shape[1], generator=torch.Generator().manual_seed(0)), dim=1)
    nearest = (rows @ F.normalize(means, dim=1).T).amax(1, keepdim=True)
    far = directions[(rows @ directions.T < nearest).all(0)][:2]
    comparison = compare_with_kmeans(model_of(features, torch.cat([means, far])), features, ClassesConfig(count=5))
    assert comparison.clusters == 5
    assert comparison.result.vanished == 2
    assert comparison.result.miou is None
    assert "vanish" in comparison.sentence


def test_too_few_images_are_not_compared_and_nothing_is_drawn_from_the_caller(features):
    few = FeatureSampler(Fields(2), features.backbone, batch_size=2)
    assert compare_with_kmeans(model_of(features, class_means(features)), few, THREE) is None
    model = model_of(features, class_means(features))
    before = torch.random.get_rng_state()
    first, again = (compare_with_kmeans(model, features, THREE, seed=3) for _ in range(2))
    assert first.kmeans.stability == pytest.approx(again.kmeans.stability, abs=15)  # other images each time
    assert torch.equal(before, torch.random.get_rng_state())


class Meadows(Fields):
    """Five colours, three of which are greens, two thirds of the fields, and one class."""

    def __getitem__(self, index):
        rng = torch.Generator().manual_seed(index)
        colours = torch.tensor([(70, 90, 50), (110, 150, 80), (90, 120, 30), (128, 128, 128), (200, 80, 50)]) / 255
        chosen = torch.multinomial(torch.tensor([2.0, 2, 2, 1.5, 1.5]), 16, replacement=True, generator=rng)
        kinds = chosen.view(4, 4).repeat_interleave(16, 0).repeat_interleave(16, 1)
        noise = 0.02 * torch.randn(3, 64, 64, generator=rng)
        mask = (kinds - 2).clamp_min(0)
        return {"image": (colours[kinds].permute(2, 0, 1) + noise).clamp(0, 1), "mask": mask}


def test_covers_are_gathered_in_both_maps_or_in_none():
    """Else the map would be better than k-means by what any map is that gathers them."""
    backbone = create_backbone("rcf", in_channels=3, seed=0, filters=16)
    features = FeatureSampler(Meadows(40), backbone, batch_size=4)
    backbone.fit(features.normalised(8))
    features.cache(CacheOptions("memory", 2**30, None, "float32"))
    gathering = ClassesConfig(count=3, split_covers=False)
    gathered = draw_patches(nn.Identity(), features, 40, 6000, 0, with_looks=True).cluster(3)
    assert gathered.members is not None
    model = model_of(features, gathered.clusters.detach())
    model.probe = gathered
    alike = compare_with_kmeans(model, features, gathering, label_classes=3)
    assert (alike.clusters, alike.verdict) == (3, "as good")
    assert alike.result.miou == pytest.approx(alike.kmeans.miou, abs=2)
    split = compare_with_kmeans(model, features, THREE, label_classes=3)
    assert split.kmeans.miou < alike.kmeans.miou - 5


def test_the_model_is_left_as_it_was(features):
    model = model_of(features, class_means(features))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compare_with_kmeans(model, features, THREE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def figures(stability=80.0, edges=40.0, vanished=0, miou=None):
    return MapFigures(stability, edges, 50.0, vanished, miou, miou)


@pytest.mark.parametrize(
    ("result", "kmeans", "verdict"),
    [
        (figures(miou=40), figures(miou=37), "better"),
        (figures(miou=40), figures(miou=39), "as good"),
        (figures(miou=40), figures(miou=43), "worse"),
        # With labels nothing else counts.
        (figures(10, 10, 3, miou=40), figures(miou=37), "better"),
        # Stability is an upper bound of a trained map.
        (figures(99), figures(80), "as good"),
        (figures(80, 45), figures(80, 40), "better"),
        (figures(84), figures(80), "as good"),
        (figures(65, 50), figures(80, 40), "as good"),
        (figures(72, 40), figures(80, 40), "as good"),
        (figures(65, 40), figures(80, 40), "worse"),
        (figures(vanished=1), figures(), "worse"),
        (figures(edges=None), figures(), "as good"),
    ],
)
def test_the_verdict_follows_from_the_figures(result, kmeans, verdict):
    comparison = KMeansComparison(6, result, kmeans, 30.0, 1000, 20, 12)
    assert comparison.verdict == verdict
    assert comparison.document()["verdict"] == verdict
    assert {"better": "is better than k-means", "as good": "is as good here", "worse": "is better here"}[
        verdict
    ] in comparison.sentence


def test_agreement_is_that_of_the_best_match():
    from geohp.training.halves import contingency

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 500))
    second[:300] = (first[:300] + 1) % 4
    table = contingency(torch.from_numpy(first), torch.from_numpy(second), 4)
    rows, cols = linear_sum_assignment(table, maximize=True)
    assert table[rows, cols].sum() >= 300
    assert table.sum() == 500
