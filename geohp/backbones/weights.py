"""Pretrained weights of vision transformers: from the hub or from a local file in whatever layout it was published."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geohp.backbones.hosted_weights import HOSTED, fetch
from geohp.backbones.names import SATDINO, SELFPATCH, VARIANTS
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weight_files import read_state
from geohp.backbones.weight_paths import HUB, RANDOM
from geohp.errors import WeightsError

HUB_TIMEOUT_S = 10.0

_AUTHORS = {
    SELFPATCH: ("SelfPatch", "github.com/alinlab/SelfPatch"),
    SATDINO: ("SatDINO", "github.com/strakaj/SatDINO"),
}

_ANCHOR = "patch_embed.proj.weight"  # every layout has it: what stands before it is the layout's prefix
_EMBEDDING = ("patch_embed.", "cls_token", "reg_token", "pos_embed", "norm_pre.", "dist_token", "rope.freqs")


def load_weights(backbone: VisionTransformer, weights: str | os.PathLike[str] | None) -> str:
    """Fill a vision transformer with weights.

    Args:
        backbone: filled in place.
        weights: ``None`` or ``"hub"`` for the pretrained weights of its name, from the hub or their authors' address
            (:mod:`geohp.backbones.hosted_weights`); a local ``.safetensors``, ``.pth``,
            ``.pt``, ``.bin`` or ``.ckpt`` file; ``"random"`` leaves the random initialisation, for tests and
            benchmarks only.

    Returns:
        Where the weights came from: ``"hub"``, ``"random"`` or the path.

    Raises:
        WeightsError: when they cannot be had, read, or matched to the architecture and block.
    """
    if weights is None or str(weights) == HUB:
        if backbone.name in HOSTED:
            path = fetch(backbone.name)
            load_state(backbone, read_state(path), path)
            return HUB
        tag = backbone.name.partition(".")[2]
        if tag in VARIANTS:
            method, address = _AUTHORS[tag]
            raise WeightsError(
                f"{backbone.name}: the hub has no such weights of {method}",
                f"give a checkpoint of {address} by `backbone.weights: FILE` / `{{option}}`",
                option="weights",
                value="FILE",
            )
        _load_from_hub(backbone)
        return HUB
    if str(weights) == RANDOM:
        return RANDOM
    path = Path(weights)
    load_state(backbone, read_state(path), path)
    return str(path)


def fingerprint(backbone: nn.Module) -> str:
    """The :func:`digest` of the parameters and stored buffers, wherever they are."""
    return digest(backbone.state_dict())


def digest(tensors: Mapping[str, Tensor], before: bytes = b"") -> str:
    """SHA-256, in hexadecimal, over some bytes and the names, types, shapes and bytes of tensors in order of names."""
    sha = hashlib.sha256(before)
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        sha.update(f"{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        sha.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def load_state(backbone: VisionTransformer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Match the tensors of a file to the architecture and load them as its own type; ``path`` is for messages.

    Raises:
        WeightsError: when they do not fit, or lack the chosen block.
    """
    state = _to_timm(unwrap(tensors, path), backbone)
    _check_blocks(backbone, state, path)
    expected = backbone.model.state_dict()
    missing = [name for name in expected if name not in state]
    strange = [name for name in state if name not in expected and _matters(name, backbone.block)]
    if missing or strange:
        reason = f"lacks {missing[0]}" if missing else f"holds {strange[0]}, which it has not"
        raise WeightsError(f"{path}: not the weights of {backbone.name} ({reason})", "give the name they belong to")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape and not (name == "pos_embed" and _fits(state[name], backbone)):
            raise WeightsError(
                f"{path}: not the weights of {backbone.name} ({name} is {_size(state[name])}, not {_size(tensor)})",
                "give the name they belong to",
            )
        if state[name].is_floating_point() != tensor.is_floating_point():
            problem = f"{path}: {name} is of {str(state[name].dtype).removeprefix('torch.')}, not of floating point"
            raise WeightsError(problem, "give weights that are not quantised")
        if not torch.isfinite(state[name].float()).all():
            raise WeightsError(f"{path}: damaged, {name} is not finite", "download or copy it again")
    # Through the wrapper, which takes position embeddings of any grid; copying casts half precision to float32.
    backbone.load_state_dict({f"model.{name}": state[name] for name in expected})


def unwrap(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The transformer's own tensors, without what its layout put before their names (teacher., module., backbone.).

    Raises:
        WeightsError: when there is no vision transformer among them.
    """
    prefixes = [name.removesuffix(_ANCHOR) for name in tensors if name.endswith(_ANCHOR)]
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    if not prefixes:
        raise WeightsError(f"{path}: holds no vision transformer", "give the weights of one")
    # Self-distillation evaluates the teacher, the student's running average.
    prefix = min(prefixes, key=lambda p: ("teacher" not in p, "ema" not in p, len(p)))
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_from_hub(backbone: VisionTransformer) -> None:
    import timm

    try:
        cached = _in_cache(backbone.model.pretrained_cfg)
        # A cached file is taken without asking the hub for a newer one, which takes long where there is no network.
        overlay = {"file": cached} if cached else None
        pretrained: Any = timm.create_model(
            backbone.name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay
        )
        state = pretrained.state_dict()
    except Exception as error:  # no network, no such file, no permission, no space, no pretrained weights...
        raise WeightsError(
            f"{backbone.name}: its pretrained weights cannot be fetched ({_first_line(error)})",
            "connect to the hub (or pre-fill the Hugging Face cache), or give a local file by "
            "`backbone.weights: FILE` / `{option}`",
            option="weights",
            value="FILE",
        ) from error
    if isinstance(pretrained.norm, nn.Identity):
        state |= {f"norm.{k}": v for k, v in pretrained.fc_norm.state_dict().items()}
    expected = backbone.model.state_dict()
    backbone.load_state_dict({f"model.{name}": state[name] for name in expected})


def _in_cache(config: Mapping[str, Any]) -> str | None:
    """The pretrained file where the Hugging Face cache has it.

    Otherwise makes sure that the hub answers: its own client tries again for most of a minute where there is none.
    """
    import huggingface_hub as hub
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined, unused-ignore]

    if not config.get("hf_hub_id"):
        return None
    for name in (config.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin"):
        cached = hub.try_to_load_from_cache(config["hf_hub_id"], name) if name else None
        if isinstance(cached, str):
            return cached
    if hub.constants.HF_HUB_OFFLINE:
        raise OSError("the hub is switched off by HF_HUB_OFFLINE")
    get_session().head(hub.constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    return None


def _to_timm(state: dict[str, Tensor], backbone: VisionTransformer) -> dict[str, Tensor]:
    """Rename what DINOv2, DINOv3 and SatDINO name otherwise than timm."""
    expected = backbone.model.state_dict()
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)  # DINOv2 trains its blocks in chunks
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        name = re.sub(r"^(register|storage)_tokens$", "reg_token", name)
        if "blocks.0.gamma_1" in expected:
            name = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name)
            if name.endswith(".attn.qkv.bias"):
                # The key's part is zero by construction, and all of it in the smaller models.
                query, _, value = tensor.chunk(3)
                if name.replace("qkv.bias", "q_bias") in expected:
                    renamed[name.replace("qkv.bias", "q_bias")] = query
                    renamed[name.replace("qkv.bias", "v_bias")] = value
                continue
            if name.endswith(".attn.qkv.bias_mask"):
                continue
        renamed[name] = tensor
    if "gsd_register" in state and "pos_embed" in state:
        # SatDINO has its register behind the patches, timm before them, with the position that belongs to it.
        renamed["reg_token"] = renamed.pop("gsd_register")
        first, patches, last = state["pos_embed"].tensor_split((1, state["pos_embed"].shape[1] - 1), dim=1)
        renamed["pos_embed"] = torch.cat([first, last, patches], dim=1)
    if "register_tokens" in state and "cls_token" in state and "pos_embed" in state:
        # timm gives no position to class and register tokens: DINOv2's goes into the class token itself.
        renamed["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        renamed["pos_embed"] = state["pos_embed"][:, 1:]
    return renamed


def _check_blocks(backbone: VisionTransformer, state: Mapping[str, Tensor], path: Path) -> None:
    numbers = [int(match.group(1)) for name in state if (match := re.match(r"blocks\.(\d+)\.", name))]
    blocks = max(numbers, default=-1) + 1
    if blocks > backbone.depth:
        raise WeightsError(
            f"{path}: holds {blocks} blocks, {backbone.name} has {backbone.depth}", "give the name they belong to"
        )
    normless = backbone.norm and "norm.weight" not in state and "norm.weight" in backbone.model.state_dict()
    if blocks <= backbone.block or (blocks < backbone.depth and normless):
        chosen = f"block {backbone.block}" + (" with the final norm" if backbone.norm else "")
        raise WeightsError(
            f"{path}: holds {blocks} of the {backbone.depth} blocks of {backbone.name}"
            f"{' and no final norm' if normless else ''}, so not {chosen}",
            f"choose backbone.block from 0 to {blocks - 1}{' without norm' if normless else ''}",
        )


def _matters(name: str, block: int) -> bool:
    """Whether a tensor takes part in the chosen block's output (heads, masks and later blocks do not)."""
    match = re.match(r"blocks\.(\d+)\.", name)
    return int(match.group(1)) <= block if match else name.startswith(_EMBEDDING)


def _fits(positions: Tensor, backbone: VisionTransformer) -> bool:
    """A position embedding of another square grid."""
    current = backbone.model.pos_embed
    skipped = 0 if backbone.model.no_embed_class else backbone.model.num_prefix_tokens
    if positions.ndim != 3 or positions.shape[0] != 1 or positions.shape[2] != current.shape[2]:
        return False
    patches = positions.shape[1] - skipped
    return patches > 0 and round(patches**0.5) ** 2 == patches


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
