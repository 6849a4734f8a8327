"""Features of nothing but colour."""

import pytest
import torch
from pretended_card import CARD, pretended_card

from geohp.backbones.factory import create_backbone, create_backbone_for_bands
from geohp.errors import ConfigError
from geohp.features.encoder import FrozenEncoder


def test_means_and_deviations_of_patches_are_those_of_their_pixels():
    images = torch.rand(2, 4, 24, 16, generator=torch.Generator().manual_seed(0))
    backbone = create_backbone_for_bands("colour", 4, remove_position_bias=True)
    out = backbone(images)
    patch = images[1, :, 8:16, 8:16].flatten(1)
    expected = torch.cat([patch.mean(1), patch.std(1, correction=0)])
    assert out.features.shape == (2, 8, 3, 2) == (2, backbone.channels, *out.grid)
    torch.testing.assert_close(out.features[1, :, 1, 1], expected)
    assert out.affinities.shape == (2, 6, 9)
    assert backbone(images, affinities=False).affinities is None
    assert not backbone.needs_fit


def test_it_is_built_again_from_its_options_and_takes_no_weights():
    backbone = create_backbone("colour", in_channels=2, patch_size=14)
    again = create_backbone(backbone.name, block=backbone.block, **backbone.options())
    images = torch.rand(1, 2, 28, 28)
    assert torch.equal(backbone(images).features, again(images).features)
    with pytest.raises(ConfigError, match="takes no weights, it learns nothing"):
        create_backbone("colour", weights="file.safetensors")
    with pytest.raises(ConfigError, match="no option 'filters'"):
        create_backbone("colour", filters=3)


def test_it_computes_where_it_is_although_it_has_no_weights():
    backbone = create_backbone("colour")
    assert backbone.device == torch.device("cpu")
    with pretended_card():
        assert backbone.to("cuda").device == CARD
        assert FrozenEncoder(backbone, 2)(torch.rand(2, 3, 16, 16)).features.is_cuda
