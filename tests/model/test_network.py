"""What a model knows of its codes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from geohp.backbones.factory import create_backbone
from geohp.classes import default_classes
from geohp.methods.kmeans.method import Standardise
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.model.smoothing import CONFIDENCE_TEMPERATURE, fit_to_colours, neighbourhood_shares


def model(head, width):
    backbone = create_backbone("rcf+colour", in_channels=3, filters=16)
    card = ModelCard("hp", BackboneCard.of(backbone), backbone.channels, width, default_classes(2))
    return LandCoverModel(backbone, head, ClusterProbe(width, 2), card)


def test_codes_have_the_parts_of_the_features_where_the_head_mixes_none():
    width = model(nn.Identity(), 1).backbone.channels
    assert model(nn.Identity(), width).code_parts == (width - 6, 6)
    assert model(Standardise(width), width).code_parts == (width - 6, 6)
    assert model(nn.Conv2d(width, 5, 1), 5).code_parts == (5,)


@pytest.mark.parametrize("pixels", [(32, 40), (48, 16)])
def test_scores_of_a_model_that_asks_what_lies_around_are_of_cells(pixels):
    plain = model(nn.Identity(), model(nn.Identity(), 1).backbone.channels)
    images = torch.rand(2, 3, *pixels, generator=torch.Generator().manual_seed(0))
    plain.backbone.fit([images])
    smooth = plain.with_card(replace(plain.card, smooth_scores=True))
    assert (plain.scores_along, smooth.scores_along) == (1, 2)
    scores = smooth(images)
    rows, cols = plain(images).shape[-2:]
    assert scores.shape == (2, 3, 2 * rows, 2 * cols)
    probe = smooth.probe
    shares = fit_to_colours(neighbourhood_shares(probe.cosines(smooth.codes(images)), probe.spread()), images)
    torch.testing.assert_close((scores[:, :-1] / scores[:, -1:] / CONFIDENCE_TEMPERATURE).softmax(1), shares)
