"""Made-up data of the sizes asked for: rows, batches, images, scenes, models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu.sizes import Sizes
from geohp.backbones.factory import create_backbone
from geohp.classes import default_classes
from geohp.data.base import ImageSet
from geohp.methods.hp.head import SegmentationHead
from geohp.methods.hp.loss import contrastive_loss
from geohp.methods.probes import ClusterProbe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel

CLASSES = 6
_KINDS = 40
_SPREAD = 1.5
_LOSS_SCALE = 2.0**16
"""What torch's ``GradScaler`` begins with."""


@dataclass(frozen=True)
class LossInputs:
    """What the contrastive loss takes, unit rows.

    Attributes:
        images: B.
        views: z and z_mix, (n, D).
        fixed: features, codes and their pools.
    """

    images: int
    views: tuple[Tensor, Tensor]
    fixed: tuple[Tensor, Tensor, Tensor, Tensor]

    @classmethod
    def draw(cls, sizes: Sizes, images: int, device: str, dtype: torch.dtype) -> LossInputs:
        """Rows around a few dozen centres, as features of land cover are."""
        torch.manual_seed(0)
        n = images * sizes.side**2
        z, z_mix = (unit_rows(n, sizes.codes, device).to(dtype) for _ in range(2))
        features, codes = (
            unit_rows(n + sizes.pool, width, device).to(dtype) for width in (sizes.channels, sizes.codes)
        )
        return cls(images, (z, z_mix), (features[:n], codes[:n], features[n:], codes[n:]))

    def to(self, device: str, dtype: torch.dtype) -> LossInputs:
        """The same numbers elsewhere."""
        views = tuple(view.detach().to(device, dtype) for view in self.views)
        fixed = tuple(part.to(device, dtype) for part in self.fixed)
        return LossInputs(self.images, views, fixed)  # type: ignore[arg-type]

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and both gradients, by the settings of Potsdam-3 in mid-training; float16's as a scaler has them."""
        views = [view.detach().requires_grad_() for view in self.views]
        loss = contrastive_loss(
            *views, *self.fixed, images=self.images, temperature=0.4, task_specific_weight=0.5, keep=1.0
        )
        scale = _LOSS_SCALE if views[0].dtype == torch.float16 else 1.0
        gradients = torch.autograd.grad(scale * loss, views)
        return (loss.detach(), *(gradient.float() / scale if scale != 1 else gradient for gradient in gradients))  # type: ignore[return-value]


def unit_rows(count: int, channels: int, device: str) -> Tensor:
    centres = torch.randn(_KINDS, channels, device=device)
    members = torch.randint(_KINDS, (count,), device=device)
    return F.normalize(centres[members] + _SPREAD * torch.randn(count, channels, device=device), dim=1)


class MadeUpImages(ImageSet):
    """Images of rectangles in a few colours under noise, with the rectangles' kinds as labels; drawn when asked for.

    Args:
        count: how many.
        side: in pixels.
    """

    channels, labelled = 3, True

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        cell = max(1, self.side // 8)
        cells = -(-self.side // cell)
        kinds = torch.randint(CLASSES, (cells, cells), generator=generator)
        kinds = kinds.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[: self.side, : self.side]
        colours = torch.linspace(0.1, 0.9, CLASSES)[:, None] * torch.tensor([1.0, 0.7, 0.4])
        noise = 0.1 * torch.rand(3, self.side, self.side, generator=generator)
        return {"image": (colours[kinds].permute(2, 0, 1) + noise).clamp(0, 1), "mask": kinds}

    def name(self, index: int) -> str:
        """Its number."""
        return f"image {index}"

    def identity(self) -> str:
        """They depend on nothing else."""
        return f"made up: {self.count} of {self.side} px"


class ArrayScene:
    """A scene in memory, where there is no GDAL: noise on large rectangles, uint8.

    Args:
        side: rows and columns.

    Attributes:
        pixels: (3, side, side).
    """

    def __init__(self, side: int) -> None:
        self.height = self.width = side
        generator = np.random.default_rng(0)
        cell = max(1, side // 24)
        cells = -(-side // cell)
        coarse = generator.integers(0, 200, (3, cells, cells), dtype=np.uint8)
        large = coarse.repeat(cell, 1).repeat(cell, 2)[:, :side, :side]
        self.pixels = large + generator.integers(0, 50, (3, side, side), dtype=np.uint8)

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Data (3, height, width) in [0, 1]; all of it is valid."""
        part = self.pixels[:, row : row + height, col : col + width]
        return part.astype(np.float32) / np.float32(255), np.ones((height, width), dtype=bool)

    def thumbnail(self, max_px: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Every so manieth pixel."""
        step = -(-self.height // max_px)
        pixels = self.pixels[:, ::step, ::step]
        return pixels.astype(np.float32) / np.float32(255), np.ones(pixels.shape[1:], dtype=bool)


def land_cover_model(backbone_name: str, sizes: Sizes, device: str) -> LandCoverModel:
    """A whole model with weights drawn at random."""
    torch.manual_seed(0)
    backbone = create_backbone(backbone_name, weights="random")
    head = SegmentationHead(backbone.channels, sizes.codes, 0.0)
    card = ModelCard(
        "hp", BackboneCard(backbone_name, -1), backbone.channels, sizes.codes, default_classes(CLASSES),
        patch_px=sizes.window_px, input_px=sizes.window_px,
    )  # fmt: skip
    return LandCoverModel(backbone, head, ClusterProbe(sizes.codes, CLASSES), card).to(device)
