"""What a model knows of its codes."""

from torch import nn

from geohp.backbones.factory import create_backbone
from geohp.classes import default_classes
from geohp.methods.kmeans.method import Standardise
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel


def model(head, width):
    backbone = create_backbone("rcf+colour", in_channels=3, filters=16)
    card = ModelCard("hp", BackboneCard.of(backbone), backbone.channels, width, default_classes(2))
    return LandCoverModel(backbone, head, ClusterProbe(width, 2), card)


def test_codes_have_the_parts_of_the_features_where_the_head_mixes_none():
    width = model(nn.Identity(), 1).backbone.channels
    assert model(nn.Identity(), width).code_parts == (width - 6, 6)
    assert model(Standardise(width), width).code_parts == (width - 6, 6)
    assert model(nn.Conv2d(width, 5, 1), 5).code_parts == (5,)
