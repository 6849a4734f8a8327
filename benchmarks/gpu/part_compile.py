"""Whether torch.compile pays for the head and the backbones."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from benchmarks.gpu.measurement import Measurement, precision
from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone
from geohp.backbones.vit import VisionTransformer
from geohp.methods.hp.head import SegmentationHead


def measure(m: Measurement) -> None:
    """Eager and compiled beside one another, with the time that compiling takes."""
    sizes = m.sizes
    torch.manual_seed(0)
    maps = torch.randn(sizes.images, sizes.channels, sizes.side, sizes.side, device=m.device)
    maps = maps.contiguous(memory_format=torch.channels_last)
    head = SegmentationHead(sizes.channels, sizes.codes, 0.0).to(m.device)
    _compare(m, "head, forward and backward", _Training(head), maps)
    for name in dict.fromkeys((sizes.small_backbone, sizes.backbone)):
        images = torch.rand(sizes.windows, 3, sizes.window_px, sizes.window_px, device=m.device)
        with torch.no_grad():
            _compare(m, f"{name}, forward", _Features(create_backbone(name, weights="random").to(m.device)), images)


class _Training(nn.Module):
    """A head with a gradient flowing back."""

    def __init__(self, head: SegmentationHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: Tensor) -> Tensor:
        codes: Tensor = self.head(maps)
        return codes


class _Features(nn.Module):
    """A transformer's features, by what its forward pass calls: what sets its own gradient mode does not compile."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone: VisionTransformer = backbone  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone._as_learnt(images).features


def _compare(m: Measurement, what: str, module: nn.Module, inputs: Tensor) -> None:
    compiled = torch.compile(module) if m.on_card else module

    def run(function: nn.Module) -> Tensor:
        with precision(m):
            result: Tensor = function(inputs)
        if result.requires_grad:
            result.float().sum().backward()
        return result.detach().float()

    wanted = run(module)
    start = time.perf_counter()
    error = float((run(compiled) - wanted).norm() / wanted.norm())  # type: ignore[arg-type]
    m.report(f"{what}: compiling", time.perf_counter() - start, "s")
    m.report(f"{what}: difference", 100 * error, "% of norm", most=2)
    eager, faster = m.seconds(lambda: run(module)), m.seconds(lambda: run(compiled))  # type: ignore[arg-type]
    m.report(f"{what}: eager", 1e3 * eager, "ms")
    m.report(f"{what}: compiled", 1e3 * faster, "ms")
    m.report(f"{what}: eager over compiled", eager / faster, "x")
