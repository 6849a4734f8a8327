"""Vision transformers: the same tokens and attention as timm's own model, and as DINO's on any grid."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.eva import EvaAttention
from timm.models.vision_transformer import Attention

from geohp.backbones.affinities import neighbour_affinities
from geohp.backbones.factory import create_backbone
from geohp.backbones.vit import VisionTransformer, resize_positions
from geohp.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED_GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
TINY = "vit_tiny_patch16_224"
DINOV3 = "vit_small_patch16_dinov3_qkvb"


def drawn_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The recorded numbers were made with weights drawn by their names."""
    scale, base = 0.04, 0.0
    if name.endswith(("norm1.weight", "norm2.weight")) or name == "norm.weight":
        scale, base = 0.1, 1.0
    elif name.endswith("bias"):
        scale = 0.05
    elif name in ("pos_embed", "cls_token"):
        scale = 0.2
    elif name.endswith("qkv.weight"):
        scale = 0.08
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy((base + scale * rng.standard_normal(shape)).astype(np.float32))


def dino_like(name: str, folder: Path) -> VisionTransformer:
    random = create_backbone(name, weights="random")
    path = folder / "dino.pth"
    torch.save({k: drawn_weight(k, v.shape) for k, v in random.model.state_dict().items()}, path)
    return create_backbone(name, weights=path)


def shake(model: torch.nn.Module) -> None:
    """Random values everywhere, so that no zero or one hides an omission."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def test_a_grid_that_is_not_square_equals_dino(tmp_path):
    golden = np.load(GOLDEN / "vit_tiny_p16_96x160.npz")
    images = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(96160))
    if not np.allclose(images[0, 0, 0, :8], golden["img_first"]):
        pytest.skip("this torch draws other random numbers than the recording")
    backbone = dino_like(TINY, tmp_path)
    found = backbone(images)
    assert found.grid == (6, 10)
    tokens = found.features.flatten(2).transpose(1, 2)
    np.testing.assert_allclose(tokens, golden["features"], rtol=0, atol=1e-4)
    logits = backbone.attention_logits(images)
    np.testing.assert_allclose(logits[:, golden["rows"]], golden["logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.affinities, neighbour_affinities(logits, (6, 10)))


@pytest.mark.parametrize(
    ("file", "name"),
    [("vit_small_p16_224x320", "vit_small_patch16_224.dino"), ("vit_small_p8_224x224", "vit_small_patch8_224.dino")],
)
def test_larger_recordings_of_dino(file, name, tmp_path):
    path = SHARED_GOLDEN / f"vit_{file}.npz"
    if not path.is_file():
        pytest.skip("the larger recordings are not present")
    golden = np.load(path)
    backbone = dino_like(name, tmp_path)
    images = torch.from_numpy(golden["img"])
    tokens = backbone(images, affinities=False).features.flatten(2).transpose(1, 2)
    np.testing.assert_allclose(tokens, golden["feat"][:, 1:], rtol=0, atol=1e-4)
    logits = backbone.attention_logits(images)
    rows = golden["rows"] > 0
    expected = golden["attn_rows"].mean(1)[:, rows, 1:]
    np.testing.assert_allclose(logits[:, golden["rows"][rows] - 1], expected, rtol=0, atol=1e-4)
    diagonal = logits.diagonal(dim1=1, dim2=2)
    np.testing.assert_allclose(diagonal, golden["attn_headmean_diag"][:, 1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [TINY, "vit_tiny_patch16_dinov3_qkvb", "vit_medium_patch16_rope_reg1_gap_256"])
@pytest.mark.parametrize("block", [0, 2, -1])
def test_blocks_and_attention_equal_hooks_on_the_timm_model(name, block, monkeypatch):
    backbone = VisionTransformer(name, block=block)
    shake(backbone)
    model = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    model.load_state_dict(backbone.model.state_dict(), strict=False)
    if not list(model.norm.children()) and not list(model.norm.parameters()):
        model.norm = backbone.model.norm
    seen, attended = {}, {}
    index = block % len(model.blocks)
    side = {TINY: 224}.get(name, 96)  # timm resizes learned positions its own way: its own size leaves them alone
    size = (side, side) if name == TINY else (96, 160)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    model.blocks[index].register_forward_hook(lambda m, i, o: seen.update(tokens=o))
    original = F.scaled_dot_product_attention

    def spy(q, k, v, **kwargs):
        attended[len(attended)] = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).mean(1)
        return original(q, k, v, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    with torch.no_grad():
        final = model.forward_features(images)
    monkeypatch.undo()
    skipped = model.num_prefix_tokens
    tokens = (final if block == -1 else seen["tokens"])[:, skipped:]
    if block == -1 and not isinstance(backbone.model.norm, torch.nn.Identity):
        tokens = backbone.model.norm(seen["tokens"])[:, skipped:]
    found = backbone(images)
    torch.testing.assert_close(found.features.flatten(2).transpose(1, 2), tokens, rtol=1e-4, atol=1e-4)
    logits = attended[index][:, skipped:, skipped:]
    torch.testing.assert_close(backbone.attention_logits(images), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.affinities, neighbour_affinities(logits, found.grid), rtol=1e-2, atol=1e-3)


def test_normalised_queries_and_keys_take_part_in_the_attention():
    backbone = VisionTransformer(TINY, block=0)
    normalised = Attention(192, 3, qkv_bias=True, qk_norm=True, norm_layer=torch.nn.LayerNorm).eval()
    backbone.model.blocks[0].attn = normalised
    shake(backbone)
    images = torch.randn(1, 3, 48, 48)
    tokens, _ = backbone._embed(images, (3, 3))
    patches = backbone.model.blocks[0].norm1(tokens)[:, 1:]
    q, k, _ = normalised.qkv(patches).reshape(1, 9, 3, 3, 64).permute(2, 0, 3, 1, 4)
    expected = (normalised.q_norm(q) @ normalised.k_norm(k).transpose(-2, -1) / 8).mean(1)
    torch.testing.assert_close(backbone.attention_logits(images), expected, rtol=1e-4, atol=1e-4)


def test_separate_projections_equal_the_fused_one():
    backbone = VisionTransformer(DINOV3, block=0)
    shake(backbone)
    images = torch.randn(1, 3, 32, 48)
    fused = backbone.attention_logits(images)
    old = backbone.model.blocks[0].attn
    separate = EvaAttention(384, 6, qkv_fused=False, num_prefix_tokens=5, rotate_half=old.rotate_half, scale_norm=False)
    query, key, value = old.qkv.weight.chunk(3)
    for projection, weight in ((separate.q_proj, query), (separate.k_proj, key), (separate.v_proj, value)):
        projection.weight.data = weight
    separate.q_proj.bias.data = old.q_bias
    backbone.model.blocks[0].attn = separate
    torch.testing.assert_close(backbone.attention_logits(images), fused, rtol=1e-4, atol=1e-5)


def test_later_blocks_are_not_kept():
    backbone = VisionTransformer(TINY, block=-9)
    assert (backbone.block, backbone.depth, len(backbone.model.blocks)) == (3, 12, 4)
    assert not any("norm." in name and "blocks" not in name for name in backbone.state_dict())


def test_the_final_norm_belongs_to_the_last_block_unless_asked_for():
    images = torch.randn(1, 3, 32, 32)
    plain = VisionTransformer(TINY, block=3)
    normed = VisionTransformer(TINY, block=3, norm=True)
    normed.load_state_dict(plain.state_dict(), strict=False)
    expected = normed.model.norm(plain(images).features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(normed(images).features, expected)
    assert VisionTransformer(TINY, block=11).norm
    assert not VisionTransformer(TINY, norm=False).norm


def test_affinities_cost_nothing_where_not_asked_for(monkeypatch):
    backbone = VisionTransformer(TINY, block=1)
    images = torch.randn(1, 3, 32, 48)
    with_affinities = backbone(images)
    monkeypatch.setattr("geohp.backbones.vit.neighbour_affinities", lambda *a: pytest.fail("was computed"))
    without = backbone(images, affinities=False)
    assert without.affinities is None
    assert torch.equal(without.features, with_affinities.features)


def test_many_images_are_attended_in_turns(monkeypatch):
    backbone = VisionTransformer(TINY, block=0)
    images = torch.randn(5, 3, 32, 48)
    whole = backbone(images).affinities
    monkeypatch.setattr("geohp.backbones.vit._LOGITS", 2 * 36)
    torch.testing.assert_close(backbone(images).affinities, whole)


def test_frozen_and_always_in_eval_mode():
    backbone = VisionTransformer("vit_tiny_patch16_224", block=0)
    torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    found = backbone(torch.randn(1, 3, 32, 32, requires_grad=True))
    assert not found.features.requires_grad
    # Unlike in inference mode, a head can be trained on the features.
    torch.nn.Conv2d(192, 2, 1)(found.features).sum().backward()


def test_options_build_the_same_again():
    backbone = VisionTransformer(TINY, block=-3, norm=True, positions="antialias")
    again = create_backbone(TINY, weights="random", block=backbone.block, **backbone.options())
    assert (again.block, again.options()) == (backbone.block, backbone.options())
    again.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 48, 32)
    assert torch.equal(again(images).features, backbone(images).features)


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("vit_small_patch8_224.dino", "offset"),
        ("vit_small_patch8_224", "offset"),
        ("vit_small_patch14_dinov2.lvd142m", "offset"),
        ("vit_small_patch14_reg4_dinov2", "antialias"),
        ("vit_tiny_patch16_224.augreg_in21k", "antialias"),
    ],
)
def test_positions_are_resized_as_the_authors_do(name, positions):
    assert VisionTransformer(name, block=0).positions == positions


def test_resized_positions():
    positions = torch.randn(1, 25, 4)
    assert resize_positions(positions, (5, 5), "offset") is positions
    for method in ("offset", "antialias"):
        assert resize_positions(positions, (3, 8), method).shape == (1, 24, 4)
    maps = positions.reshape(1, 5, 5, 4).permute(0, 3, 1, 2)
    plain = F.interpolate(maps, (3, 8), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(resize_positions(positions, (3, 8), "antialias"), plain)
    # Rows and columns keep their order: an embedding that only grows along the columns still does.
    ramp = torch.arange(5.0).repeat(5)[None, :, None]
    wide = resize_positions(ramp, (5, 10), "offset").reshape(5, 10)
    assert bool((wide.diff(dim=1) > 0).all())
    torch.testing.assert_close(wide[0], wide[4])


def test_sizes_and_bands_that_do_not_fit():
    backbone = VisionTransformer(TINY, block=0)
    with pytest.raises(ValueError, match="multiples of its patch size 16 px, not 32 x 40 px"):
        backbone(torch.zeros(1, 3, 32, 40))
    with pytest.raises(ValueError, match="3 bands, not 4"):
        backbone(torch.zeros(1, 4, 32, 32))


def test_normalisation_comes_from_the_pretrained_model():
    assert VisionTransformer(TINY, block=0).mean == (0.5, 0.5, 0.5)
    assert VisionTransformer("vit_small_patch8_224.dino", block=0).mean == (0.485, 0.456, 0.406)


def test_normalisation_of_its_own_is_kept_and_the_usual_one_not_mentioned():
    usual = VisionTransformer("vit_small_patch8_224.dino", block=0)
    told = VisionTransformer("vit_small_patch8_224.dino", block=0, mean=usual.mean, std=list(usual.std))
    assert told.options() == usual.options() == {"norm": False, "positions": "offset"}
    other = VisionTransformer(TINY, block=0, mean=usual.mean, std=usual.std)
    assert (other.mean, other.std) == (usual.mean, usual.std)
    again = create_backbone(TINY, weights="random", block=0, **other.options())
    assert (again.mean, again.std, again.options()) == (other.mean, other.std, other.options())
    assert VisionTransformer(TINY, block=0, std=(1, 1, 1)).options()["std"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vit_smal_patch8_224.dino", {}, "did you mean vit_small_patch8_224.dino"),
        ("vit_small_patch8_224.dinoo", {}, "did you mean vit_small_patch8_224.dino"),
        ("qqq", {}, "choose rcf, aerial or"),
        ("resnet18", {}, "not a plain vision transformer"),
        ("deit_tiny_distilled_patch16_224", {}, "not a plain vision transformer"),
        (TINY, {"block": 12}, "0 to 11"),
        (TINY, {"positions": "nearest"}, "offset or antialias"),
        (TINY, {"mean": [0.5, 0.5]}, "mean must be 3 numbers, one a band"),
        (TINY, {"mean": "imagenet"}, "mean must be 3 numbers, one a band, not imagenet"),
        (TINY, {"std": [0.2, 0.0, 0.2]}, "std must be 3 positive numbers"),
        (TINY, {"patch": 3}, "no option 'patch'; it has norm, positions, mean, std"),
        ("rcf", {"norm": True}, "no option 'norm'"),
        ("rcf", {"weights": "x.pth"}, "takes no weights"),
    ],
)
def test_configurations_that_cannot_be(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        create_backbone(name, **{"weights": "random", **arguments})
