"""A transformer as SatDINO trains it, with a register behind the patches; against its forward pass written out."""

import math

import pytest
import torch
import torch.nn.functional as F

import geohp
from geohp.backbones.affinities import neighbour_affinities
from geohp.backbones.factory import create_backbone
from geohp.backbones.hosted_weights import HOSTED
from geohp.backbones.weights import fingerprint
from geohp.errors import WeightsError

NAME, WIDTH, HEADS, DEPTH = "vit_tiny_patch16_224.satdino", 192, 3, 12


@pytest.fixture(scope="module")
def teacher():
    """The names and shapes of a checkpoint's transformer, small numbers in them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, base=0.0, scale=0.05):
        return base + scale * torch.randn(*shape, generator=generator)

    state = {
        "cls_token": draw(1, 1, WIDTH),
        "gsd_register": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + 196 + 1, WIDTH, scale=0.3),
        "patch_embed.proj.weight": draw(WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": draw(WIDTH, base=1.0),
        "norm.bias": draw(WIDTH),
    }
    for block in range(DEPTH):
        for name, shape in {
            "norm1": (WIDTH,), "attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH),
            "norm2": (WIDTH,), "mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH),
        }.items():  # fmt: skip
            state[f"blocks.{block}.{name}.weight"] = draw(*shape, base=float(len(shape) == 1))
            state[f"blocks.{block}.{name}.bias"] = draw(shape[0])
    return state


@pytest.fixture(scope="module")
def checkpoint(teacher, tmp_path_factory):
    """As its authors hand it out: the teacher and a classifier of what images show."""
    path = tmp_path_factory.mktemp("weights") / "satdino-vit_tiny-16.pth"
    torch.save({"teacher": teacher, "linear_head": {"linear.weight": torch.zeros(63, WIDTH)}}, path)
    return path


def expected(state, images, grid):
    """Patch tokens after the last block and the final norm, and the head-averaged logits of its attention."""
    positions = state["pos_embed"]
    maps = positions[:, 1:-1].reshape(1, 14, 14, WIDTH).permute(0, 3, 1, 2)
    if grid != (14, 14):
        maps = F.interpolate(maps, scale_factor=tuple((side + 0.1) / 14 for side in grid), mode="bicubic")
    patches = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    first, last = (
        (state[name] + positions[:, [place]]).expand(len(images), -1, -1)
        for name, place in (("cls_token", 0), ("gsd_register", -1))
    )
    tokens = torch.cat([first, (patches + maps).flatten(2).transpose(1, 2), last], 1)

    def layer(name, values):
        weight, bias = (state[f"{name}.{part}"] for part in ("weight", "bias"))
        if weight.ndim == 1:
            return F.layer_norm(values, (WIDTH,), weight, bias, 1e-6)
        return F.linear(values, weight, bias)

    for block in (f"blocks.{index}" for index in range(DEPTH)):
        projected = layer(f"{block}.attn.qkv", layer(f"{block}.norm1", tokens))
        q, k, v = projected.reshape(*tokens.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) / math.sqrt(WIDTH / HEADS)
        attended = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        tokens = tokens + layer(f"{block}.attn.proj", attended)
        inner = F.gelu(layer(f"{block}.mlp.fc1", layer(f"{block}.norm2", tokens)))
        tokens = tokens + layer(f"{block}.mlp.fc2", inner)
    features = layer("norm", tokens)[:, 1:-1].transpose(1, 2).reshape(len(images), WIDTH, *grid)
    return features, logits.mean(1)[:, 1:-1, 1:-1]


@pytest.mark.parametrize("grid", [(14, 14), (3, 5)])
def test_features_and_affinities(teacher, checkpoint, grid):
    backbone = create_backbone(NAME, weights=checkpoint)
    images = torch.rand(2, 3, 16 * grid[0], 16 * grid[1], generator=torch.Generator().manual_seed(1))
    features, logits = expected(teacher, images, grid)
    patches = backbone(images)
    torch.testing.assert_close(patches.features, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone.attention_logits(images), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(patches.affinities, neighbour_affinities(logits, grid), rtol=1e-3, atol=1e-3)
    assert backbone.mean == (0.485, 0.456, 0.406)
    assert backbone.options() == {"norm": True, "positions": "offset"}


def test_its_checkpoint_is_recognised_and_imported(checkpoint, tmp_path):
    imported = geohp.import_checkpoint(checkpoint, tmp_path / "backbone.safetensors")
    assert (imported.kind, imported.backbone) == ("backbone", NAME)
    again = create_backbone(NAME, weights=imported.path)
    assert fingerprint(again) == fingerprint(create_backbone(NAME, weights=checkpoint))


def test_what_does_not_fit_is_refused(checkpoint):
    with pytest.raises(WeightsError, match="holds reg_token"):
        create_backbone("vit_tiny_patch16_224", weights=checkpoint)
    with pytest.raises(WeightsError, match=r"strakaj/SatDINO"):
        create_backbone(NAME)


@pytest.mark.parametrize("name", [name for name in HOSTED if name.endswith(".satdino")])
def test_the_address_of_each_name_is_of_its_own_size_and_patch(name):
    _, size, patch = name.partition("_224")[0].split("_")
    backbone = create_backbone(name, weights="random", block=0)
    assert (backbone.channels, backbone.patch_size) == ({"small": 384, "base": 768}[size], int(patch[5:]))
    assert HOSTED[name].path.name == f"satdino-vit_{size}-{backbone.patch_size}.pth"
    assert backbone(torch.rand(1, 3, 32, 32)).features.shape == (1, backbone.channels, *2 * [32 // backbone.patch_size])
