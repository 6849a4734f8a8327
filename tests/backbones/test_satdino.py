"""A transformer as SatDINO trains it, with a register behind the patches; against its forward pass written out."""

import pytest
import torch
from transformers_written_out import Drawing, embedded, layer, through_blocks

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
    draw = Drawing(WIDTH)
    state = {
        "cls_token": draw(1, 1, WIDTH),
        "gsd_register": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + 196 + 1, WIDTH, scale=0.3),
        "patch_embed.proj.weight": draw(WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": draw(WIDTH, base=1.0),
        "norm.bias": draw(WIDTH),
    }
    return state | draw.blocks(DEPTH)


@pytest.fixture(scope="module")
def checkpoint(teacher, tmp_path_factory):
    """As its authors hand it out: the teacher and a classifier of what images show."""
    path = tmp_path_factory.mktemp("weights") / "satdino-vit_tiny-16.pth"
    torch.save({"teacher": teacher, "linear_head": {"linear.weight": torch.zeros(63, WIDTH)}}, path)
    return path


def expected(state, images, grid):
    """Patch tokens after the last block and the final norm, and the head-averaged logits of its attention."""
    positions = state["pos_embed"]
    first, last = (
        (state[name] + positions[:, [place]]).expand(len(images), -1, -1)
        for name, place in (("cls_token", 0), ("gsd_register", -1))
    )
    tokens = torch.cat([first, embedded(state, images, positions[:, 1:-1], grid), last], 1)
    tokens, logits = through_blocks(state, tokens, range(DEPTH), HEADS)
    features = layer(state, "norm", tokens)[:, 1:-1].transpose(1, 2).reshape(len(images), WIDTH, *grid)
    return features, logits[:, 1:-1, 1:-1]


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
    with pytest.raises(WeightsError, match=r"a checkpoint of github\.com/strakaj/SatDINO by"):
        create_backbone(NAME)


@pytest.mark.parametrize("name", [name for name in HOSTED if name.endswith(".satdino")])
def test_the_address_of_each_name_is_of_its_own_size_and_patch(name):
    _, size, patch = name.partition("_224")[0].split("_")
    backbone = create_backbone(name, weights="random", block=0)
    assert (backbone.channels, backbone.patch_size) == ({"small": 384, "base": 768}[size], int(patch[5:]))
    assert HOSTED[name].path.name == f"satdino-vit_{size}-{backbone.patch_size}.pth"
    assert backbone(torch.rand(1, 3, 32, 32)).features.shape == (1, backbone.channels, *2 * [32 // backbone.patch_size])
