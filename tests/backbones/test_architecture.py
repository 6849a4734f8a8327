"""Vision transformers are told by the shapes of their weights."""

import pytest
import timm
import torch

from geohp.backbones.architecture import recognise

DINO = [f"vit_{size}_patch{patch}_224.dino" for size in ("small", "base") for patch in (8, 16)]
DINOV2 = [
    f"vit_{size}_patch14{registers}_dinov2.lvd142m"
    for size in ("small", "base", "large", "giant")
    for registers in ("", "_reg4")
]
OTHERS = ["vit_tiny_patch16_224", "vit_large_patch16_224"]


def shapes_of(name):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0).state_dict()


@pytest.mark.parametrize("name", DINO + DINOV2 + OTHERS)
def test_timm_names(name):
    assert timm.is_model(name.split(".")[0])
    assert recognise(shapes_of(name)) == name


def test_the_layout_that_dinov2_is_published_and_trained_in():
    state = shapes_of("vit_giant_patch14_reg4_dinov2")
    published = {
        name.replace("reg_token", "register_tokens").replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensor
        for name, tensor in state.items()
    }
    assert recognise(published) == "vit_giant_patch14_reg4_dinov2.lvd142m"
    chunked = {name.replace("blocks.", "blocks.3.", 1): tensor for name, tensor in published.items()}
    assert recognise(chunked) == "vit_giant_patch14_reg4_dinov2.lvd142m"


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_dinov3", "vit_medium_patch16_gap_256", "vit_small_patch32_224.augreg_in21k", "resnet18"]
)
def test_shapes_that_are_not_known(name):
    found = recognise(shapes_of(name))
    assert found is None or timm.is_model(found)
    assert found in (None, "vit_small_patch32_224")


def test_a_transformer_cut_short_is_not_taken_for_a_whole_one():
    state = {n: t for n, t in shapes_of("vit_small_patch16_224").items() if not n.startswith("blocks.11.")}
    assert recognise(state) is None
    assert recognise({}) is None


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "vit_base_patch16_224", "vit_tiny_patch16_224"])
def test_without_class_token_and_norm_it_is_selfpatchs(name):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0, class_token=False, global_pool="avg").state_dict()
    bare = {key: tensor for key, tensor in state.items() if not key.startswith("fc_norm.")}
    assert recognise(bare) == f"{name}.selfpatch"
    assert recognise({**bare, "norm.weight": torch.zeros(3)}) is None
