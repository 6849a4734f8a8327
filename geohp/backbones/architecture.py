"""Which of timm's vision transformers a set of weights belongs to, told by the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import timm
from torch import Tensor

from geohp.backbones.names import SATDINO, SELFPATCH

# Width and depth of the sizes; all have heads of 64 channels, whose number the tensors do not tell.
_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1536, 40): "giant"}
_DINO_SIZES, _DINO_PATCHES = ("small", "base"), (8, 16)
_DINOV2_SIZES, _DINOV2_PATCH, _DINOV2_REGISTERS = ("small", "base", "large", "giant"), 14, 4


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """The name in timm for the vision transformer with these weights.

    DINO's at its sizes and patches, DINOv2's with or without registers, timm's plain one of the same shape elsewhere,
    SelfPatch's where there is no class token, and SatDINO's where there is its register. Weights of one shape do not
    tell who trained them, so plain ones of DINO's shapes are called DINO's.

    Args:
        state: tensors by their names in timm's, DINO's or DINOv2's layout, without anything before the names.

    Returns:
        The name, or ``None`` for a transformer of no shape known here.
    """
    projection = state.get("patch_embed.proj.weight")
    blocks = [re.match(r"blocks\.(?:\d+\.)?(\d+)\.\D", name) for name in state]  # DINOv2 trains its blocks in chunks
    depth = 1 + max((int(block.group(1)) for block in blocks if block), default=-1)
    if projection is None or projection.ndim != 4 or "pos_embed" not in state:
        return None
    width, patch = projection.shape[0], projection.shape[-1]
    size = _SIZES.get((width, depth))
    if size is None:
        return None
    if "cls_token" not in state:
        return f"vit_{size}_patch{patch}_224.{SELFPATCH}" if _is_selfpatch(state, size, patch) else None
    if "gsd_register" in state:
        return f"vit_{size}_patch{patch}_224.{SATDINO}" if timm.is_model(f"vit_{size}_patch{patch}_224") else None
    registers = _registers(state)
    if any(re.search(r"\.ls1\.gamma$", name) for name in state):
        if size not in _DINOV2_SIZES or patch != _DINOV2_PATCH or registers not in (0, _DINOV2_REGISTERS):
            return None
        return f"vit_{size}_patch14{'_reg4' if registers else ''}_dinov2.lvd142m"
    if registers:
        return None
    if size in _DINO_SIZES and patch in _DINO_PATCHES:
        return f"vit_{size}_patch{patch}_224.dino"
    plain = f"vit_{size}_patch{patch}_224"
    return plain if timm.is_model(plain) else None


def _is_selfpatch(state: Mapping[str, Tensor], size: str, patch: int) -> bool:
    return "norm.weight" not in state and timm.is_model(f"vit_{size}_patch{patch}_224")


def _registers(state: Mapping[str, Tensor]) -> int:
    for name in ("reg_token", "register_tokens"):
        if name in state and state[name].ndim == 3:
            return state[name].shape[1]
    return 0
