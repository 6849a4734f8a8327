"""Seconds a megapixel of the backbones that need no download, beside the bare convolutions they are made of.

The floor of ``rcf`` is the one convolution with its filters, in the same strips; that of ``aerial`` the convolutions of
its stages, each on maps of its size, without activations and pooling. A vision transformer (random weights) is timed
for comparison.

    OMP_NUM_THREADS=1 python benchmarks/backbone_speed.py

Times are of the processor, the best of the repetitions after one to warm up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import describe
from torch import Tensor

from geohp.backbones.aerial import AerialNetwork
from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone
from geohp.backbones.rcf import RandomConvolutionalFeatures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=448, help="side in pixels")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--transformer", default="vit_small_patch14_dinov2", metavar="NAME")
    parser.add_argument("--block", type=int, default=8)
    args = parser.parse_args()
    print(f"{describe('cpu')}, windows of {args.window} px")
    images = torch.randn(1, 3, args.window, args.window, generator=torch.Generator().manual_seed(0))
    rcf = create_backbone("rcf")
    rcf.fit([images])
    assert isinstance(rcf, RandomConvolutionalFeatures)
    report("rcf", rcf, images, args.repeat, lambda: rcf_convolutions(rcf, images))
    for stages in ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)):
        network = AerialNetwork(stages=stages)
        floor = aerial_convolutions(network, images)
        report(f"aerial, stages {', '.join(map(str, stages))}", network, images, args.repeat, floor)
    transformer = create_backbone(args.transformer, weights="random", block=args.block)
    report(f"{args.transformer}, block {args.block}", transformer, images, args.repeat)


def report(
    name: str, backbone: Backbone, images: Tensor, repeat: int, convolutions: Callable[[], object] | None = None
) -> None:
    """Print how long the backbone takes, and how long its convolutions alone."""
    megapixels = images.shape[-1] * images.shape[-2] / 1e6
    whole = seconds(lambda: backbone(images, affinities=False), repeat) / megapixels
    line = f"{name}: {whole:.3f} s a megapixel"
    if convolutions is not None:
        floor = seconds(convolutions, repeat) / megapixels
        line += f", its convolutions {floor:.3f} s ({whole / floor:.2f} times)"
    print(line, flush=True)


@torch.no_grad()
def seconds(call: Callable[[], object], repeat: int) -> float:
    """Of the processor, the least of several."""
    call()
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def rcf_convolutions(rcf: RandomConvolutionalFeatures, images: Tensor, rows: int = 32) -> None:
    """The convolution with all filters, in strips that stay in the cache, as the backbone does it."""
    reach = rcf.kernel - 1
    padded = F.pad(images, (0, reach, 0, reach)).contiguous(memory_format=torch.channels_last)
    for row in range(0, images.shape[-2], rows):
        F.conv2d(padded[:, :, row : row + rows + reach], rcf.filters, rcf.biases)


def aerial_convolutions(network: AerialNetwork, images: Tensor) -> Callable[[], None]:
    """Every convolution on maps of the size that it meets."""
    met: list[tuple[torch.nn.Module, Tensor]] = []
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    hooks = [
        layer.register_forward_hook(lambda layer, maps, _: met.append((layer, maps[0].clone()))) for layer in layers
    ]
    network(images, affinities=False)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for layer, maps in met:
            layer(maps)

    return run


if __name__ == "__main__":
    main()
