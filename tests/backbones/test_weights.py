"""Weight files in every layout that is published, and what a user is told where one cannot be used."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from geohp.backbones.factory import create_backbone
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weights import fingerprint
from geohp.errors import WeightsError

TINY = "vit_tiny_patch16_224"
REGISTERS = "vit_small_patch14_reg4_dinov2"
NINE_BLOCKS = Path(__file__).resolve().parents[3] / "shared" / "weights"


@pytest.fixture(scope="module")
def tiny() -> dict[str, torch.Tensor]:
    """Random weights of a whole tiny transformer, in timm's own layout."""
    torch.manual_seed(0)
    return timm.create_model(TINY).state_dict()


def layouts(state: dict[str, torch.Tensor]) -> dict[str, object]:
    worse = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    wrapped = {f"module.backbone.{name}": tensor for name, tensor in state.items()}
    zeros = {f"module.backbone.{name}": tensor for name, tensor in worse.items()}
    head = {"module.head.mlp.0.weight": torch.zeros(3, 3)}
    return {
        "flat": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": {f"backbone.{name}": tensor for name, tensor in state.items()}},
        "full": {
            "student": zeros | head,
            "teacher": wrapped | head,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_tiny", lr=0.1),
        },
        "dotted": {f"student.backbone.{n}": t for n, t in worse.items()}
        | {f"teacher.backbone.{n}": t for n, t in state.items()},
        "chunked": {n.replace("blocks.", f"blocks.{i}.", 1): t for i, (n, t) in enumerate(state.items())},
        "student only": {"student": wrapped},
    }


def expect_state(backbone: VisionTransformer, state: dict[str, torch.Tensor]) -> None:
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, state[name].float()), name


@pytest.mark.parametrize("layout", list(layouts({})))
def test_layouts(layout, tiny, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(layouts(tiny)[layout], path)
    backbone = create_backbone(TINY, weights=path)
    expect_state(backbone, tiny)
    assert backbone.weights_source == str(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_half_precision_and_file_kinds(suffix, tiny, tmp_path):
    path = tmp_path / f"weights{suffix}"
    half = {name: tensor.half() for name, tensor in tiny.items()}
    (save_file if suffix == ".safetensors" else torch.save)(half, path)
    backbone = create_backbone(TINY, weights=str(path), block=2)
    assert all(parameter.dtype == torch.float32 for parameter in backbone.parameters())
    expect_state(backbone, half)


@pytest.mark.parametrize("block", [0, -1])
def test_dinov2_with_registers_as_its_authors_publish_it(block, tmp_path):
    reference = VisionTransformer(REGISTERS)
    generator = torch.Generator().manual_seed(0)
    for parameter in reference.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    state = dict(reference.model.state_dict())
    cls_position = torch.randn(1, 1, 384)
    published = {name: tensor for name, tensor in state.items() if name not in ("reg_token", "pos_embed")}
    published |= {
        "cls_token": state["cls_token"] - cls_position,
        "pos_embed": torch.cat([cls_position, state["pos_embed"]], 1),
        "register_tokens": state["reg_token"],
        "mask_token": torch.zeros(1, 384),
    }
    torch.save(published, tmp_path / "dinov2.pth")
    loaded = create_backbone(REGISTERS, weights=tmp_path / "dinov2.pth", block=block)
    for name, tensor in loaded.model.state_dict().items():
        torch.testing.assert_close(tensor, state[name])
    with pytest.raises(WeightsError, match="holds reg_token, which it has not"):
        create_backbone("vit_small_patch14_dinov2", weights=tmp_path / "dinov2.pth")


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_dinov3_as_its_authors_publish_it(name, tmp_path):
    state = VisionTransformer(name, block=1, norm=True).model.state_dict()
    state = {key: torch.randn(value.shape) for key, value in state.items()}
    published = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    for key, tensor in state.items():
        key = key.replace("reg_token", "storage_tokens").replace("gamma_", "ls")
        key = key + ".gamma" if key.endswith((".ls1", ".ls2")) else key
        if key.endswith("q_bias"):
            value_bias = state[key.replace("q_bias", "v_bias")]
            published[key.replace("q_bias", "qkv.bias")] = torch.cat([tensor, torch.zeros(384), value_bias])
            published[key.replace("q_bias", "qkv.bias_mask")] = torch.ones(1152)
        elif not key.endswith("v_bias"):
            published[key] = tensor
    torch.save(published, tmp_path / "dinov3.pth")
    loaded = create_backbone(name, weights=tmp_path / "dinov3.pth", block=1)
    for key, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def test_positions_of_another_grid_are_used_as_they_are(tiny, tmp_path):
    positions = torch.randn(1, 1 + 9 * 9, 192)
    torch.save(tiny | {"pos_embed": positions}, tmp_path / "w.pth")
    backbone = create_backbone(TINY, weights=tmp_path / "w.pth", block=0)
    assert torch.equal(backbone.model.pos_embed, positions)
    assert not backbone.model.pos_embed.requires_grad
    images = torch.randn(1, 3, 64, 48)
    found = backbone(images).features
    # ... and a state embedded in a model file restores them into a backbone with the usual grid.
    again = create_backbone(TINY, weights="random", block=0)
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again(images).features, found)
    torch.save(tiny | {"pos_embed": positions[:, :-1]}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="pos_embed is 1 x 81 x 192"):
        create_backbone(TINY, weights=tmp_path / "w.pth")


def truncated(state: dict[str, torch.Tensor], blocks: int, norm: bool = False) -> dict[str, torch.Tensor]:
    kept = {n: t for n, t in state.items() if not n.startswith("blocks.") or int(n.split(".")[1]) < blocks}
    return kept if norm else {n: t for n, t in kept.items() if not n.startswith("norm.")}


def test_files_with_the_first_blocks_only(tiny, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(truncated(tiny, 4), path)
    expect_state(create_backbone(TINY, weights=path, block=3), tiny)
    with pytest.raises(WeightsError, match=r"w\.pth: holds 4 of the 12 blocks .* backbone.block from 0 to 3"):
        create_backbone(TINY, weights=path)
    with pytest.raises(WeightsError, match=r"no final norm, so not block 3 with the final norm; .*0 to 3 without norm"):
        create_backbone(TINY, weights=path, block=3, norm=True)
    torch.save(truncated(tiny, 4, norm=True), path)
    expect_state(create_backbone(TINY, weights=path, block=2, norm=True), tiny)


def test_nine_blocks_of_dinov2():
    path = NINE_BLOCKS / "vit_small_patch14_dinov2_9blocks_fp16.safetensors"
    if not path.is_file():
        pytest.skip("the nine-block weights are not present")
    backbone = create_backbone("vit_small_patch14_dinov2", weights=path, block=5)
    found = backbone(torch.zeros(1, 3, 70, 98))
    assert found.features.shape == (1, 384, 5, 7)
    assert bool(found.features.isfinite().all())
    with pytest.raises(WeightsError, match="holds 9 of the 12 blocks"):
        create_backbone("vit_small_patch14_dinov2", weights=path)


class _Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_files_that_cannot_be_used(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lacking = {n: t for n, t in tiny.items() if n != "blocks.1.mlp.fc1.bias"}
    foreign = tiny | {"blocks.0.ls1.gamma": torch.ones(192)}
    deeper = tiny | {n.replace("blocks.0.", "blocks.12."): t for n, t in tiny.items()}
    norm = tiny["blocks.0.norm1.weight"]
    cases = {
        "nan.pth": (
            lambda p: torch.save(tiny | {"blocks.0.norm1.weight": norm / 0}, p),
            "damaged, .*norm1.weight is not",
        ),
        "int8.pth": (
            lambda p: torch.save(tiny | {"blocks.0.norm1.weight": norm.char()}, p),
            "is of int8, not of floating",
        ),
        "harm.pth": (lambda p: torch.save({"model": tiny, "x": _Harmful()}, p), "could run code"),
        "lacking.pth": (lambda p: torch.save(lacking, p), r"lacks blocks\.1\.mlp\.fc1\.bias"),
        "foreign.pth": (lambda p: torch.save(foreign, p), r"holds blocks\.0\.ls1\.gamma, which it has not"),
        "deeper.pth": (lambda p: torch.save(deeper, p), "holds 13 blocks, .* has 12"),
        "cnn.pth": (lambda p: torch.save({"conv1.weight": torch.ones(2)}, p), "holds no vision transformer"),
        "list.pth": (lambda p: torch.save([1, 2], p), "holds no vision transformer"),
        "noise.pth": (lambda p: p.write_bytes(b"not weights at all"), "damaged"),
        "noise.safetensors": (lambda p: p.write_bytes(b"not weights at all"), "damaged"),
        "empty.bin": (lambda p: p.touch(), "damaged"),
        "missing.pth": (lambda p: None, "no such weight file"),
        "weights.h5": (lambda p: p.touch(), "not a kind of weight file"),
    }
    for name, (write, message) in cases.items():
        path = tmp_path / name
        write(path)
        with pytest.raises(WeightsError, match=message) as caught:
            create_backbone(TINY, weights=path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()
    # Cut short, as an interrupted copy leaves it.
    torch.save(tiny, tmp_path / "cut.pth")
    content = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        create_backbone(TINY, weights=tmp_path / "cut.pth")


def test_weights_of_another_architecture(tiny, tmp_path):
    torch.save(tiny, tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match=r"not the weights of vit_small_patch16_224 \(cls_token is 1 x 1 x 192"):
        create_backbone("vit_small_patch16_224", weights=tmp_path / "tiny.pth")


def test_no_hub_is_said_soon_with_both_remedies(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"connect to the hub .* or give a local file by `backbone.weights: FILE`"):
        create_backbone(TINY)
    assert time.monotonic() - start < 15


def test_the_cache_is_enough_where_there_is_no_hub(monkeypatch, tmp_path, tiny):
    repository = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(tiny, repository / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    backbone = create_backbone(TINY, block=1)
    expect_state(backbone, tiny)
    assert backbone.weights_source == "hub"


def test_fingerprints_tell_weights_apart():
    first, second = VisionTransformer(TINY, block=0), VisionTransformer(TINY, block=0)
    assert fingerprint(first) == fingerprint(first) != fingerprint(second)
    second.load_state_dict(first.state_dict())
    assert fingerprint(first) == fingerprint(second)
    second.model.cls_token[0, 0, 0] += 1e-3
    assert fingerprint(first) != fingerprint(second)
    assert create_backbone(TINY, weights="random", block=0).weights_source == "random"
