"""What a model knows of its codes."""

from dataclasses import replace

import torch
from torch import nn

from geohp.backbones.factory import create_backbone
from geohp.classes import default_classes
from geohp.methods.kmeans.method import Standardise
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import CONFIDENCE_TEMPERATURE, LandCoverModel, neighbourhood_shares


def model(head, width):
    backbone = create_backbone("rcf+colour", in_channels=3, filters=16)
    card = ModelCard("hp", BackboneCard.of(backbone), backbone.channels, width, default_classes(2))
    return LandCoverModel(backbone, head, ClusterProbe(width, 2), card)


def test_codes_have_the_parts_of_the_features_where_the_head_mixes_none():
    width = model(nn.Identity(), 1).backbone.channels
    assert model(nn.Identity(), width).code_parts == (width - 6, 6)
    assert model(Standardise(width), width).code_parts == (width - 6, 6)
    assert model(nn.Conv2d(width, 5, 1), 5).code_parts == (5,)


def test_shares_are_of_the_neighbourhood_near_patches_counting_more():
    torch.manual_seed(0)
    cosines = torch.rand(2, 3, 4, 5)
    own = (cosines / 0.1).softmax(1)
    shares = neighbourhood_shares(cosines)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 4, 5))
    weights = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(shares[:, :, 2, 2], (own[:, :, 1:4, 1:4] * weights).sum((2, 3)) / 16)
    torch.testing.assert_close(shares[:, :, 0, 0], (own[:, :, :2, :2] * weights[1:, 1:]).sum((2, 3)) / 9)
    torch.testing.assert_close(shares[:, :, 3, 4], (own[:, :, 2:, 3:] * weights[:2, :2]).sum((2, 3)) / 9)


def test_a_single_patch_unlike_its_neighbours_goes_with_them_and_a_clear_one_stays():
    cosines = torch.zeros(1, 2, 5, 5)
    cosines[:, 0] = 0.3
    cosines[0, 1, 2, 2] = 0.32
    assert neighbourhood_shares(cosines).argmax(1).sum() == 0
    cosines[0, 1, 2] = 0.9  # a road of one patch
    assert (neighbourhood_shares(cosines).argmax(1)[0] == torch.tensor([0, 0, 1, 0, 0])[:, None]).all()


def test_the_confidence_of_a_model_that_asks_neighbours_is_their_share():
    smooth = model(nn.Identity(), width := model(nn.Identity(), 1).backbone.channels)
    smooth = smooth.with_card(replace(smooth.card, smooth_scores=True))
    images = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    smooth.backbone.fit([images])
    scores, codes = smooth(images), smooth.codes(images)
    assert codes.shape[1] == width
    shares = neighbourhood_shares(smooth.probe.cosines(codes))
    torch.testing.assert_close((scores[:, :-1] / scores[:, -1:] / CONFIDENCE_TEMPERATURE).softmax(1), shares)
