"""Any timm vision transformer as a frozen backbone: DINO, DINOv2, DINOv3 and their relatives."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from geohp.backbones.affinities import neighbour_affinities
from geohp.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, PatchFeatures
from geohp.backbones.hosted_weights import timm_name
from geohp.backbones.names import SELFPATCH, VARIANTS
from geohp.backbones.position_bias import PositionBias
from geohp.errors import ConfigError

OFFSET = 0.1
_LOGITS = 1 << 25  # logits held at once (128 MB in float32): more images than that are taken in turns


class VisionTransformer(Backbone):
    """Patch tokens of one block of a timm vision transformer, and the affinities in that block's attention.

    Features are the tokens after ``block``, without class and register tokens; blocks after it are dropped. The last
    block's tokens are taken after the final LayerNorm, those of other blocks as they are, unless ``norm`` says
    otherwise. Affinities are made of the same block's attention logits (scaled, with normalised and rotated queries
    and keys where the block has them), averaged over heads, patch to patch.

    Images may have any sides that are multiples of the patch size. Learned position embeddings are brought to
    another grid as the authors of the weights do it (``positions``):

    - ``"offset"``, DINO, SelfPatch, SatDINO, and DINOv2 without registers: bicubic with the scale factor
      (h + 0.1) / side, no antialiasing. Resizing to the size itself, as plain timm does, shifts the embeddings
      noticeably.
    - ``"antialias"``, DINOv2 with registers, and timm's own models: bicubic to the size, antialiased.
    - ``"auto"``: "antialias" for names with registers or with a tag of none of those, else "offset".

    DINOv3 has rotary embeddings, computed for the grid at hand, and nothing to interpolate.

    Features of a patch tell where in the window it lies, and not only what it shows: of DINOv2's, position makes up
    some 15 % of the variance, enough to cluster by. With ``remove_position_bias`` the part that is the same whatever
    is shown is subtracted: the mean over images of a single colour, place by place, less its own mean (as Denoising
    Vision Transformers, ECCV 2024, separates it; measured here in :mod:`.position_bias`, without any data).

    A tag of :data:`VARIANTS` after the name of a plain transformer makes it what SelfPatch trains
    (``vit_small_patch16_224.selfpatch``: no class token, no final norm) or SatDINO (``vit_small_patch16_224.satdino``:
    a register with a position of its own), normalised and with positions as DINO's.

    The module is frozen: parameters need no gradient, it stays in eval mode, and the forward pass records nothing.

    Args:
        name: timm's name, with or without a tag, e.g. ``vit_small_patch8_224.dino``, or one of
            :data:`geohp.backbones.hosted_weights.HOSTED`.
        block: block counted from 0; negative numbers count from the end, -1 is the last.
        norm: apply the final LayerNorm; ``None`` means for the last block only.
        positions: see above.
        mean, std: normalisation of the bands that the weights were trained with; what timm says for the name by
            default.
        remove_position_bias: see above.

    Raises:
        ConfigError: for an architecture that is no plain vision transformer, a block it does not have, an
            unknown ``positions``, or a normalisation that does not fit its bands.
    """

    weights_source: str = "random"

    def __init__(
        self,
        name: str,
        *,
        block: int = -1,
        norm: bool | None = None,
        positions: str = "auto",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        remove_position_bias: bool = False,
    ) -> None:
        super().__init__()
        model = _build(name)
        self.depth = len(model.blocks)
        self.name = name
        self.block = _resolve_block(name, block, self.depth)
        selfpatch = name.endswith(f".{SELFPATCH}")
        self.norm = self.block == self.depth - 1 and not selfpatch if norm is None else norm
        self.positions = _resolve_positions(name, positions)
        self.patch_size = model.patch_embed.patch_size[0]
        self.channels = model.embed_dim
        self.in_channels = model.patch_embed.proj.in_channels
        variant = name.partition(".")[2] in VARIANTS
        own = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if variant else model.pretrained_cfg
        usual = {key: tuple(map(float, own[key])) for key in ("mean", "std")}
        self.mean, self.std = (
            usual[key] if values is None else _normalisation(name, key, values, self.in_channels)
            for key, values in (("mean", mean), ("std", std))
        )
        self._normalisation = {
            key: list(values) for key, values in (("mean", self.mean), ("std", self.std)) if values != usual[key]
        }
        self.model = _prune(model, self.block, self.norm)
        self._bias = PositionBias(self._as_learnt, self.mean, self.std) if remove_position_bias else None
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> VisionTransformer:
        """Stays in eval mode: the features must not depend on what is being trained on top."""
        super().train(False)
        return self

    def options(self) -> dict[str, Any]:
        """``norm`` and ``positions``, resolved; what else is not the name's own."""
        bias = {"remove_position_bias": True} if self._bias else {}
        return {"norm": self.norm, "positions": self.positions, **self._normalisation, **bias}

    @torch.no_grad()
    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features (B, C, H/p, W/p) and affinities (B, N, 9) of normalised images (B, 3, H, W).

        Raises:
            ValueError: when the sides are no multiples of the patch size, or the bands are not ``in_channels``.
        """
        patches = self._as_learnt(images, affinities)
        if self._bias is None:
            return patches
        bias = self._bias((images.shape[-2], images.shape[-1]), self.model.patch_embed.proj.weight)
        return replace(patches, features=patches.features - bias.to(patches.features.dtype))

    def _as_learnt(self, images: Tensor, affinities: bool = False) -> PatchFeatures:
        """Features as the transformer gives them, position included."""
        grid = self.grid_of(images)
        tokens, rotations = self._embed(images, grid)
        blocks = list(self.model.blocks)
        weights = None
        for index, (block, rotation) in enumerate(zip(blocks, rotations, strict=True)):
            if affinities and index == self.block:
                weights = self._affinities(block, tokens, rotation, grid)
            tokens = block(tokens) if rotation is None else block(tokens, rope=rotation)
        if self.norm:
            tokens = self.model.norm(tokens)
        patches = tokens[:, self.model.num_prefix_tokens :]
        features = patches.transpose(1, 2).reshape(len(images), self.channels, *grid)
        return PatchFeatures(features, weights)

    @torch.no_grad()
    def attention_logits(self, images: Tensor) -> Tensor:
        """Head-averaged, scaled attention logits (B, N, N) between the patches at the chosen block, float32."""
        grid = self.grid_of(images)
        tokens, rotations = self._embed(images, grid)
        blocks = list(self.model.blocks)
        for block, rotation in zip(blocks[:-1], rotations[:-1], strict=True):
            tokens = block(tokens) if rotation is None else block(tokens, rope=rotation)
        return _mean_logits(*self._queries_and_keys(blocks[-1], tokens, rotations[-1]), blocks[-1].attn)

    def _embed(self, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, list[Tensor | None]]:
        """Tokens before the first block, and each block's rotary embedding (``None`` where it has none)."""
        model = self.model
        tokens = model.patch_embed(images).reshape(len(images), grid[0] * grid[1], self.channels)
        learned = [token for token in (model.cls_token, model.reg_token) if token is not None]
        prefix = [token.expand(len(images), -1, -1) for token in learned]
        if model.pos_embed is not None:
            skipped = 0 if model.no_embed_class else model.num_prefix_tokens
            positions = resize_positions(model.pos_embed[:, skipped:], grid, self.positions)
            tokens = tokens + positions.to(model.pos_embed.dtype)  # in float32 also where autocasting has halved tokens
            if skipped:
                prefix = [torch.cat(prefix, 1) + model.pos_embed[:, :skipped]]
        tokens = model.norm_pre(torch.cat([*prefix, tokens], 1))
        rope = getattr(model, "rope", None)
        if rope is None:
            return tokens, [None] * len(model.blocks)
        embedding = rope.get_embed(shape=grid)
        mixed = getattr(model, "rope_mixed", False)
        return tokens, [embedding[i] if mixed else embedding for i in range(len(model.blocks))]

    def _affinities(self, block: Any, tokens: Tensor, rotation: Tensor | None, grid: tuple[int, int]) -> Tensor:
        queries, keys = self._queries_and_keys(block, tokens, rotation)
        chunk = max(1, _LOGITS // queries.shape[1] ** 2)
        return torch.cat(
            [
                neighbour_affinities(_mean_logits(q, k, block.attn), grid)
                for q, k in zip(torch.split(queries, chunk), torch.split(keys, chunk), strict=True)
            ]
        )

    def _queries_and_keys(self, block: Any, tokens: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys of the patches, normalised and rotated, heads side by side: (B, N, heads * width) each."""
        attention = block.attn
        patches = block.norm1(tokens)[:, self.model.num_prefix_tokens :]
        if attention.qkv is not None:
            width = attention.num_heads * attention.head_dim
            both = F.linear(patches, attention.qkv.weight[: 2 * width], _query_key_bias(attention, width))
            projected = torch.split(both, width, -1)
        else:
            projected = (attention.q_proj(patches), attention.k_proj(patches))
        heads = []
        for values, norm in zip(projected, (attention.q_norm, attention.k_norm), strict=True):
            values = norm(values.reshape(*values.shape[:2], -1, attention.head_dim).transpose(1, 2))
            if rotation is not None:
                values = apply_rot_embed_cat(values, rotation, half=getattr(attention, "rotate_half", False))
            if values.shape[1] != attention.num_heads:  # grouped queries share keys
                values = values.repeat_interleave(attention.num_heads // values.shape[1], 1)
            heads.append(values.transpose(1, 2).flatten(2))
        return heads[0], heads[1]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take a position embedding of whatever grid the state holds: :meth:`forward` resizes it anyway."""
        positions = state_dict.get(f"{prefix}model.pos_embed")
        if positions is not None and self.model.pos_embed is not None:
            self.set_positions(positions)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_positions(self, positions: Tensor) -> None:
        """Take a learned position embedding (1, tokens, C) of any square grid in place of the present one."""
        current = self.model.pos_embed
        if positions.shape != current.shape:
            values = positions.to(current.device, current.dtype, copy=True)
            self.model.pos_embed = nn.Parameter(values, requires_grad=False)


def resize_positions(positions: Tensor, grid: tuple[int, int], method: str) -> Tensor:
    """Learned position embeddings of a square grid on another grid.

    Args:
        positions: (1, side * side, C).
        grid: rows and columns wanted.
        method: ``"offset"`` or ``"antialias"``, see :class:`VisionTransformer`.

    Returns:
        (1, rows * columns, C); the same tensor where the grid is the same.
    """
    side = math.isqrt(positions.shape[1])
    if grid == (side, side):
        return positions
    maps = positions.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if method == "offset":
        factors = ((grid[0] + OFFSET) / side, (grid[1] + OFFSET) / side)
        resized = F.interpolate(maps, scale_factor=factors, mode="bicubic")
    else:
        resized = F.interpolate(maps, size=grid, mode="bicubic", antialias=True)
    return resized.flatten(2).transpose(1, 2)


def _mean_logits(queries: Tensor, keys: Tensor, attention: Any) -> Tensor:
    """The mean over heads of scaled q.k is one product of the heads side by side: nothing of heads * N * N exists."""
    with torch.autocast(queries.device.type, enabled=False):
        scaled = queries.float() * (attention.scale / attention.num_heads)
        return cast(Tensor, scaled @ keys.float().transpose(1, 2))


def _query_key_bias(attention: Any, width: int) -> Tensor | None:
    if attention.qkv.bias is not None:
        return cast(Tensor, attention.qkv.bias[: 2 * width])
    if getattr(attention, "q_bias", None) is not None:
        return torch.cat((attention.q_bias, attention.k_bias))
    return None


def _build(name: str) -> Any:
    """The transformer; only architectures whose embedding and attention are written out above."""
    model: Any = None
    # A constructor that does not know these arguments is not one of a vision transformer of that kind.
    with contextlib.suppress(TypeError):
        architecture, _, tag = name.partition(".")
        model = timm.create_model(
            architecture if tag in VARIANTS else timm_name(name),
            pretrained=False,
            num_classes=0,
            dynamic_img_size=True,
            **VARIANTS.get(tag, {}),
        )
    supported = type(model) in (TimmVisionTransformer, Eva) and type(model.patch_embed) is PatchEmbed
    for block in model.blocks if supported else []:
        attention = getattr(block, "attn", None)
        plain = type(attention).__name__ in ("Attention", "EvaAttention", "AttentionRope")
        supported = supported and plain and hasattr(block, "norm1") and "PostNorm" not in type(block).__name__
    sides = getattr(getattr(model, "patch_embed", None), "patch_size", (0, 1))
    if not supported or sides[0] != sides[1]:
        raise ConfigError(
            f"backbone {name}: not a plain vision transformer",
            "choose a DINO, DINOv2 or DINOv3 one such as vit_small_patch8_224.dino",
        )
    return model


def _resolve_block(name: str, block: int, depth: int) -> int:
    if not -depth <= block < depth:
        raise ConfigError(
            f"backbone {name}: has no block {block}", f"it has {depth}, 0 to {depth - 1} or -{depth} to -1"
        )
    return block % depth


def _resolve_positions(name: str, positions: str) -> str:
    if positions not in ("auto", "offset", "antialias"):
        raise ConfigError(f"backbone {name}: positions must be auto, offset or antialias, not {positions!r}")
    if positions != "auto":
        return positions
    architecture, _, tag = timm_name(name).partition(".")
    if "dinov2" in architecture:
        return "antialias" if "_reg" in architecture else "offset"
    return "offset" if tag in ("", "dino", *VARIANTS) else "antialias"


def _normalisation(name: str, key: str, values: Sequence[float], bands: int) -> tuple[float, ...]:
    numbers: tuple[float, ...] = ()
    with contextlib.suppress(TypeError, ValueError):
        numbers = tuple(float(value) for value in values)
    if len(numbers) != bands or not all(map(math.isfinite, numbers)) or (key == "std" and min(numbers) <= 0):
        kind = "positive numbers" if key == "std" else "numbers"
        raise ConfigError(f"backbone {name}: {key} must be {bands} {kind}, one a band, not {values}")
    return numbers


def _prune(model: Any, block: int, norm: bool) -> Any:
    """Drop what the chosen block's output does not need, so that it is neither stored nor loaded nor asked for."""
    if isinstance(model.norm, nn.Identity):  # pooled models normalise after pooling, with this
        model.norm = model.fc_norm
    model.fc_norm = nn.Identity()
    if not norm:
        model.norm = nn.Identity()
    model.blocks = nn.ModuleList(list(model.blocks)[: block + 1])
    model.attn_pool = None
    model.head = nn.Identity()
    return model
