"""What is recommended can be built, holds what it says, and loads from the files that its authors hand out."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from geohp.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from geohp.backbones.factory import create_backbone
from geohp.backbones.hosted_weights import HOSTED
from geohp.backbones.recommended import RECOMMENDED, recommendation
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weights import fingerprint

SATELLITE = "vit_large_patch16_dinov3.sat493m"
PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


def built(name: str, block: int) -> VisionTransformer:
    """Without memory for its weights: shapes alone."""
    with torch.device("meta"):
        backbone = create_backbone(name, weights="random", block=block)
    assert isinstance(backbone, VisionTransformer)
    return backbone


TRANSFORMERS = [choice for choice in RECOMMENDED if choice.name != "aerial"]


def test_aerial_is_what_it_is_said_to_be():
    choice = recommendation("aerial")
    backbone = create_backbone("aerial", weights="random", block=choice.block)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == pytest.approx(choice.parameters, rel=0.05)
    assert recommendation("rcf") is None


@pytest.mark.parametrize("choice", TRANSFORMERS, ids=lambda choice: choice.name)
def test_each_is_built_as_its_authors_describe_it(choice):
    assert choice.name in HOSTED or choice.name in timm.list_pretrained(), "its weights can be fetched"
    whole, backbone = built(choice.name, -1), built(choice.name, choice.block)
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    assert parameters == pytest.approx(choice.parameters, rel=0.05)
    assert backbone.norm == (backbone.block == whole.depth - 1)
    images = torch.empty(1, 3, 2 * backbone.patch_size, 3 * backbone.patch_size, device="meta")
    assert backbone(images, affinities=False).features.shape == (1, whole.channels, 2, 3)
    assert f"`{choice.name}`" in PAGE.read_text(encoding="utf-8")


def test_satellite_weights_have_a_normalisation_of_their_own():
    satellite, photographs = built(SATELLITE, 0), built("vit_large_patch16_dinov3.lvd1689m", 0)
    # DINOv3's hub: transforms of the two sets of weights.
    assert (satellite.mean, satellite.std) == ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
    assert (photographs.mean, photographs.std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.slow
def test_satellite_weights_load_from_their_authors_file(tmp_path):
    torch.manual_seed(0)
    backbone = create_backbone(SATELLITE, weights="random", block=0)
    state = backbone.model.state_dict()
    state["storage_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.zeros(1, 1024)
    state["rope_embed.periods"] = torch.ones(16, dtype=torch.bfloat16)
    state["blocks.0.attn.qkv.bias"] = torch.zeros(3 * 1024)
    state["blocks.0.attn.qkv.bias_mask"] = torch.ones(3 * 1024)
    for layer in (1, 2):
        state[f"blocks.0.ls{layer}.gamma"] = state.pop(f"blocks.0.gamma_{layer}")
    torch.save(state, tmp_path / "dinov3_vitl16_pretrain_sat493m.pth")
    loaded = create_backbone(SATELLITE, weights=tmp_path / "dinov3_vitl16_pretrain_sat493m.pth", block=0)
    assert fingerprint(loaded) == fingerprint(backbone)
    images = torch.rand(1, 3, 32, 48)
    assert torch.equal(loaded(images).features, backbone(images).features)
