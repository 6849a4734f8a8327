"""What stays in float32 while a caller's products are in half precision."""

from types import SimpleNamespace

import pytest
import torch

from geohp.backbones.factory import create_backbone
from geohp.backbones.rcf import RandomConvolutionalFeatures
from geohp.backbones.vit import _mean_logits

TRANSFORMERS = ["vit_tiny_patch16_224", "vit_tiny_patch16_224.selfpatch"]
ALL = [*TRANSFORMERS, "aerial", "rcf", "colour", "vit_tiny_patch16_224+colour", "rcf+colour"]


def fitted(name):
    torch.manual_seed(0)
    backbone = create_backbone(name, **({} if name.startswith(("rcf", "colour")) else {"weights": "random"}))
    if backbone.needs_fit:
        backbone.fit([torch.randn(4, 3, 32, 32)])
    return backbone


@pytest.mark.parametrize("name", ALL)
def test_features_and_affinities_are_float32(name):
    backbone, images = fitted(name), torch.randn(2, 3, 32, 32)
    exact = backbone(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = backbone(images)
    assert half.features.dtype == half.affinities.dtype == torch.float32
    assert (half.features - exact.features).norm() < 0.03 * exact.features.norm()
    # Weights of neighbours, which in bfloat16 would sum to something else.
    if name in ("aerial", "rcf", "colour"):
        torch.testing.assert_close(half.affinities.sum(-1), exact.affinities.sum(-1), rtol=1e-5, atol=1e-5)


def test_products_of_queries_and_keys_are_in_full():
    queries, keys = (torch.randn(1, 4, 8).bfloat16() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        logits = _mean_logits(queries, keys, SimpleNamespace(scale=0.5, num_heads=2))
    torch.testing.assert_close(logits, queries.float() @ keys.float().mT / 4, rtol=0, atol=1e-5)


def test_what_is_standardised_is_exact():
    backbone, images = RandomConvolutionalFeatures(filters=8, channels=4), torch.randn(2, 3, 32, 32)
    backbone.fit([images])
    exact = backbone(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = backbone(images)
    assert torch.equal(half.features, exact.features)
