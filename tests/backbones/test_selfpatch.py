"""A transformer as SelfPatch trains it: no class token, no final norm; against attention and blocks written out."""

import pytest
import torch
from PIL import Image
from transformers_written_out import Drawing, embedded, through_blocks

import geohp
from geohp.backbones.affinities import neighbour_affinities
from geohp.backbones.factory import create_backbone
from geohp.backbones.weights import fingerprint
from geohp.errors import ConfigError, WeightsError
from geohp.model.file import load_model

NAME, WIDTH, HEADS, DEPTH = "vit_tiny_patch16_224.selfpatch", 192, 3, 12


@pytest.fixture(scope="module")
def teacher():
    """The names and shapes of a checkpoint's transformer, small numbers in them."""
    draw = Drawing(WIDTH)
    state = {
        "pos_embed": draw(1, 196, WIDTH, scale=0.3),
        "patch_embed.proj.weight": draw(WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": draw(WIDTH),
    }
    return state | draw.blocks(DEPTH)


@pytest.fixture(scope="module")
def checkpoint(teacher, tmp_path_factory):
    """As its training writes them: student and teacher, each with a head that has a class token and a norm."""
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    head = {"head.cls_token": torch.zeros(1, 1, WIDTH), "head.norm.weight": torch.ones(WIDTH)}
    wrapped = {f"backbone.{name}": tensor for name, tensor in teacher.items()}
    student = {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in teacher.items()}
    torch.save({"student": student, "teacher": wrapped | head, "epoch": 200}, path)
    return path


def expected(state, images, grid):
    """Tokens after the last block, and the head-averaged logits of its attention."""
    tokens = embedded(state, images, state["pos_embed"], grid)
    tokens, logits = through_blocks(state, tokens, range(DEPTH), HEADS)
    return tokens.transpose(1, 2).reshape(len(images), WIDTH, *grid), logits


@pytest.mark.parametrize("grid", [(14, 14), (3, 5)])
def test_features_and_affinities(teacher, checkpoint, grid):
    backbone = create_backbone(NAME, weights=checkpoint)
    images = torch.rand(2, 3, 16 * grid[0], 16 * grid[1], generator=torch.Generator().manual_seed(1))
    features, logits = expected(teacher, images, grid)
    patches = backbone(images)
    torch.testing.assert_close(patches.features, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone.attention_logits(images), logits, rtol=1e-4, atol=1e-4)
    assert patches.affinities.shape == (2, grid[0] * grid[1], 9)
    torch.testing.assert_close(patches.affinities, neighbour_affinities(logits, grid), rtol=1e-3, atol=1e-3)
    assert backbone.model.num_prefix_tokens == 0
    assert backbone.mean == (0.485, 0.456, 0.406)


def test_it_is_built_again_from_its_name_and_options(checkpoint):
    backbone = create_backbone(NAME, weights=checkpoint)
    again = create_backbone(backbone.name, weights="random", block=backbone.block, **backbone.options())
    again.load_state_dict(backbone.state_dict())
    assert fingerprint(again) == fingerprint(backbone)
    assert backbone.options() == {"norm": False, "positions": "offset"}


def test_its_checkpoint_is_recognised_and_imported(checkpoint, tmp_path):
    imported = geohp.import_checkpoint(checkpoint, tmp_path / "backbone.safetensors")
    assert (imported.kind, imported.backbone) == ("backbone", NAME)
    again = create_backbone(NAME, weights=imported.path)
    assert fingerprint(again) == fingerprint(create_backbone(NAME, weights=checkpoint))


def test_a_model_on_it_is_trained_and_loaded(checkpoint, tmp_path):
    rng = torch.Generator().manual_seed(2)
    fields = torch.randint(0, 255, (3, 4, 4), generator=rng).repeat_interleave(24, 1).repeat_interleave(24, 2)
    Image.fromarray(fields.permute(1, 2, 0).to(torch.uint8).numpy()).save(tmp_path / "fields.png")
    settings = [f"data.images={tmp_path / 'fields.png'}", "data.patches=8", "data.patch_px=32", "classes.count=2"]
    backbone = [f"backbone.name={NAME}", f"backbone.weights={checkpoint}", "method.name=kmeans", "train.device=cpu"]
    run = geohp.train("orthophotos", [*settings, *backbone], out=tmp_path / "run")
    assert load_model(run.model).backbone.name == f"{NAME}+colour"
    assert geohp.segment(tmp_path / "fields.png", model=run.model, device="cpu").shape == (96, 96)


def test_what_does_not_fit_is_refused(checkpoint):
    with pytest.raises(WeightsError, match="lacks cls_token"):
        create_backbone("vit_tiny_patch16_224", weights=checkpoint, norm=False)
    with pytest.raises(WeightsError, match=r"lacks norm\.weight"):
        create_backbone(NAME, weights=checkpoint, norm=True)
    with pytest.raises(WeightsError, match="SelfPatch"):
        create_backbone(NAME)
    with pytest.raises(ConfigError, match="unknown"):
        create_backbone("vit_tiny_patch16_224.selfpatched")
