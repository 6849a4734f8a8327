import pytest
import torch

from geohp.backbones.factory import create_backbone, create_backbone_for_bands
from geohp.backbones.position_bias import PositionBias
from geohp.backbones.vit import VisionTransformer

TINY = "vit_tiny_patch16_224"


def _transformer(remove: bool, seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    backbone = VisionTransformer(TINY, block=1, remove_position_bias=remove)
    # Strong embeddings, so that position shows.
    backbone.model.pos_embed.copy_(torch.randn_like(backbone.model.pos_embed))
    return backbone


def _share_by_position(features: torch.Tensor) -> float:
    by_place = features.mean(0)
    by_place = by_place - by_place.mean((1, 2), keepdim=True)
    return float(by_place.pow(2).sum(0).mean() / features.var((0, 2, 3)).sum())


def test_position_tells_less_once_it_is_removed():
    images = torch.randn(24, 3, 64, 96)
    kept, removed = (_share_by_position(_transformer(flag)(images).features) for flag in (False, True))
    assert kept > 0.2
    assert removed < kept / 3


def test_the_bias_is_the_mean_of_plain_images_by_hand():
    backbone, plain = _transformer(True), _transformer(False)
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))
    greys = torch.stack([(torch.full((3, 48, 64), grey) - mean) / std for grey in (0.2, 0.5, 0.8)])
    bias = plain(greys).features.mean(0)
    images = torch.randn(2, 3, 48, 64)
    expected = plain(images).features - (bias - bias.mean((1, 2), keepdim=True))
    torch.testing.assert_close(backbone(images).features, expected)
    # Affinities are the attention's, and not touched.
    torch.testing.assert_close(backbone(images).affinities, plain(images).affinities)


def test_another_precision_is_measured_anew():
    backbone = _transformer(True)
    images = torch.randn(2, 3, 48, 64)
    exact = backbone(images).features
    with torch.autocast("cpu", torch.bfloat16):
        backbone(images)
        again = _transformer(True)
        expected = again(images).features
        assert torch.equal(backbone(images).features, expected)
    assert torch.equal(backbone(images).features, exact)


def test_another_state_of_weights_or_another_size_is_measured_anew():
    backbone = _transformer(True)
    images = torch.randn(1, 3, 64, 64)
    before = backbone(images).features
    other = _transformer(False, seed=1)
    backbone.load_state_dict(other.state_dict())
    fresh = _transformer(True, seed=1)
    assert torch.equal(backbone(images).features, fresh(images).features)
    assert not torch.equal(backbone(images).features, before)
    assert backbone(torch.randn(1, 3, 32, 96)).grid == (2, 6)


def test_measured_once_for_a_size():
    calls = []
    backbone = _transformer(False)

    def features(images):
        calls.append(tuple(images.shape))
        return backbone(images, affinities=False)

    bias = PositionBias(features, backbone.mean, backbone.std)
    weight = backbone.model.patch_embed.proj.weight
    for size in ((64, 64), (64, 96), (64, 64)):
        assert bias(size, weight).shape == (192, size[0] // 16, size[1] // 16)
    assert calls == [(3, 3, 64, 64), (3, 3, 64, 96)]


def test_options_remember_it():
    backbone = _transformer(True)
    again = create_backbone(TINY, weights="random", block=1, **backbone.options())
    again.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again(images).features, backbone(images).features)
    assert "remove_position_bias" not in _transformer(False).options()


def test_a_head_can_be_trained_on_a_bias_measured_in_inference_mode():
    backbone = _transformer(True)
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        backbone(images)
    torch.nn.Conv2d(192, 2, 1)(backbone(images).features).sum().backward()


@pytest.mark.parametrize("name", ["rcf", TINY])
def test_only_transformers_have_it(name):
    backbone = create_backbone_for_bands(
        name, 3, weights=None if name == "rcf" else "random", remove_position_bias=True
    )
    assert backbone.options().get("remove_position_bias", False) == (name == TINY)
