"""A vision transformer written out, for backbones to be held against."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class Drawing:
    """Small numbers for a state of width C, the same ones every time."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int, base: float = 0.0, scale: float = 0.05) -> Tensor:
        return base + scale * torch.randn(*shape, generator=self._generator)

    def blocks(self, depth: int) -> State:
        """Weights and biases of so many blocks, by the names that DINO gives them."""
        width, state = self.width, {}
        for block in range(depth):
            for name, shape in {
                "norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width),
                "norm2": (width,), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width),
            }.items():  # fmt: skip
                state[f"blocks.{block}.{name}.weight"] = self(*shape, base=float(len(shape) == 1))
                state[f"blocks.{block}.{name}.bias"] = self(shape[0])
        return state


def layer(state: State, name: str, values: Tensor) -> Tensor:
    """A linear layer or a layer norm."""
    weight, bias = (state[f"{name}.{part}"] for part in ("weight", "bias"))
    if weight.ndim == 1:
        return F.layer_norm(values, weight.shape, weight, bias, 1e-6)
    return F.linear(values, weight, bias)


def embedded(state: State, images: Tensor, positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches of 16 px (B, N, C) with positions (1, 196, C) brought to the grid as DINO does."""
    maps = positions.reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    if grid != (14, 14):
        maps = F.interpolate(maps, scale_factor=tuple((side + 0.1) / 14 for side in grid), mode="bicubic")
    patches = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    return (patches + maps).flatten(2).transpose(1, 2)


def through_blocks(state: State, tokens: Tensor, blocks: Iterable[int], heads: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, T, C) after the last block, and the head-averaged logits (B, T, T) of its attention."""
    for block in (f"blocks.{index}" for index in blocks):
        projected = layer(state, f"{block}.attn.qkv", layer(state, f"{block}.norm1", tokens))
        q, k, v = projected.reshape(*tokens.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        attended = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        tokens = tokens + layer(state, f"{block}.attn.proj", attended)
        inner = F.gelu(layer(state, f"{block}.mlp.fc1", layer(state, f"{block}.norm2", tokens)))
        tokens = tokens + layer(state, f"{block}.mlp.fc2", inner)
    return tokens, logits.mean(1)
