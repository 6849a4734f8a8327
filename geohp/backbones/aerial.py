"""A residual network trained without labels on aerial orthophotos: a backbone from the PyPI package geoembed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geohp.backbones.aerial_weights import PACKAGE, PACKAGE_VERSION, check_digest, packaged_weights
from geohp.backbones.affinities import cosine_affinities
from geohp.backbones.base import Backbone, PatchFeatures
from geohp.errors import ConfigError, WeightsError

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages."""
STRIDES = (1, 2, 4, 8)
"""Pixels of the image a step of each stage's maps."""
_BATCH_NORM_EPS = 1e-5


class AerialNetwork(Backbone):
    """Activations of a ResNet-18's stages, averaged over patches.

    The network is the encoder ``v3`` of geoembed 1.1.2 (MIT), trained without labels on orthophotos with pixels of 10
    to 15 cm: a 3x3 convolution of stride 1, then four stages of two basic blocks with strides 1, 2, 2 and 2. A stage
    sees what lies within 5, 12, 26 and 54 pixels of a place; the first ones tell surfaces apart, the last ones whole
    neighbourhoods. Batch normalisation is folded into the convolutions, which alone remain.

    Affinities are the cosines of neighbours, see :func:`geohp.backbones.affinities.cosine_affinities`, between features
    less the image's mean: activations have no negative part, and would all look alike as they are.

    The weights go into every model file (0.6 MB for the first stage, 45 MB for all four), so that a model does not
    depend on the package.

    Args:
        stages: which stages, 1 to 4, side by side; later ones than needed are not computed.
        patch_size: side of a patch in pixels, at least the stride of every stage (1, 2, 4, 8). Where it is no multiple
            of one, neighbouring patches share the activations between them.

    Raises:
        ConfigError: for stages that there are not, or a patch size that does not fit them.
    """

    name = "aerial"
    block = -1
    in_channels = 3
    mean, std = (0.5,) * 3, (0.5,) * 3
    embedded = True
    weights_source: str | None = None

    def __init__(self, *, stages: Sequence[int] = (1,), patch_size: int = 8) -> None:
        super().__init__()
        self.stages = tuple(sorted(set(stages)))
        if not self.stages or not set(self.stages) <= {1, 2, 3, 4}:
            raise ConfigError(f"backbone aerial: stages must be some of 1, 2, 3 and 4, not {list(stages)}")
        stride = STRIDES[self.stages[-1] - 1]
        if patch_size < stride:
            raise ConfigError(
                f"backbone aerial: patch_size must be at least {stride}, the stride of stage {self.stages[-1]}, "
                f"not {patch_size}"
            )
        self.patch_size = patch_size
        self.channels = sum(WIDTHS[stage - 1] for stage in self.stages)
        self.stem = nn.Conv2d(self.in_channels, WIDTHS[0], 3, padding=1)
        self.layers = nn.ModuleList(_stage(number) for number in range(1, self.stages[-1] + 1))
        self.requires_grad_(False)
        self.eval()

    @property
    def parts(self) -> tuple[int, ...]:
        """One for each stage."""
        return tuple(WIDTHS[stage - 1] for stage in self.stages)

    def options(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"stages": list(self.stages), "patch_size": self.patch_size}

    def train(self, mode: bool = True) -> AerialNetwork:
        """Stays in eval mode: nothing in it is trained."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features (B, C, H/p, W/p) and affinities (B, N, 9) of normalised images (B, 3, H, W).

        Raises:
            ValueError: when the sides are no multiples of the patch size, or there are not three bands.
        """
        grid = self.grid_of(images)
        # One by one on a CPU, so that no image's bits depend on its company.
        images_at_once = 1 if images.device.type == "cpu" else len(images)
        features = torch.cat([self._patch_means(part, grid) for part in torch.split(images, images_at_once)])
        features = features.to(images.dtype)  # under autocasting convolutions alone are in half precision
        centred = features - features.mean((2, 3), keepdim=True)
        return PatchFeatures(features, cosine_affinities(centred) if affinities else None)

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """Activations (B, C, H/s, W/s) of every stage that is computed, of normalised images (B, 3, H, W)."""
        maps = [F.relu_(self.stem(images))]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]

    def _patch_means(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        maps = self.stage_maps(images)
        return torch.cat([F.adaptive_avg_pool2d(maps[stage - 1], grid) for stage in self.stages], 1)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take the weights of the package's file, by the names they have there.

        Raises:
            KeyError: for one that is missing.
            ValueError: for one of another shape.
        """
        _fold(self.stem, arrays, "bb.stem.0", "bb.stem.1")
        for number, layer in enumerate(self.layers, 1):
            for index, block in enumerate(module for module in layer.modules() if isinstance(module, _BasicBlock)):
                names = f"bb.layer{number}.{index}"
                _fold(block.conv1, arrays, f"{names}.conv1", f"{names}.bn1")
                _fold(block.conv2, arrays, f"{names}.conv2", f"{names}.bn2")
                if block.shortcut is not None:
                    _fold(block.shortcut, arrays, f"{names}.short.0", f"{names}.short.1")


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where width or stride change."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        changes = stride != 1 or width_in != width
        self.shortcut = nn.Conv2d(width_in, width, 1, stride) if changes else None

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv2(F.relu_(self.conv1(maps)))
        return F.relu_(inner.add_(maps if self.shortcut is None else self.shortcut(maps)))


def load_aerial_weights(network: AerialNetwork, path: Path | None) -> str:
    """Fill the network with weights.

    Args:
        network: filled in place.
        path: an ``.npz`` in the package's layout; ``None`` takes the installed package's own, whose code never runs.

    Returns:
        The package and version, or the path.

    Raises:
        WeightsError: where the package is not installed, or the file is not what it should be.
    """
    file = packaged_weights() if path is None else path
    if path is None:
        check_digest(file)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            network.load(arrays)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"{file}: holds no weights of the aerial backbone ({reason})"
        raise WeightsError(problem, "leave the weights out to take those of the installed package") from error
    return f"{PACKAGE} {PACKAGE_VERSION}" if path is None else str(path)


def _stage(number: int) -> nn.Sequential:
    """Stage 1 to 4: two basic blocks, the first of which halves the resolution from the second stage on."""
    width_in, width = WIDTHS[max(number - 2, 0)], WIDTHS[number - 1]
    return nn.Sequential(_BasicBlock(width_in, width, 1 if number == 1 else 2), _BasicBlock(width, width, 1))


def _fold(convolution: nn.Conv2d, arrays: Mapping[str, np.ndarray], weights: str, norm: str) -> None:
    """A convolution without bias and the batch normalisation after it (at rest) as one convolution with bias."""
    kernel = arrays[f"{weights}.weight"].astype(np.float64)
    if kernel.shape != tuple(convolution.weight.shape):
        raise ValueError(f"{weights}.weight is {kernel.shape}, not {tuple(convolution.weight.shape)}")
    gain, shift, mean, variance = (
        arrays[f"{norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + _BATCH_NORM_EPS)
    if not all(np.isfinite(values).all() for values in (kernel, scale, shift - mean * scale)):
        raise ValueError(f"{weights} is not finite")
    convolution.weight.copy_(torch.from_numpy(kernel * scale[:, None, None, None]))
    assert convolution.bias is not None
    convolution.bias.copy_(torch.from_numpy(shift - mean * scale))
