"""Time and memory of a whole HP training step on cached features, against the floor of its contrastive products.

Head forward and backward, averaged head, local mixing, probes, loss and every optimiser; by default the step of the
published Potsdam-3 setting (64 images of 28 x 28 patches, 768 features, 256 codes), in bfloat16 on a GPU. The floor is
that of the loss alone: 2 n^2 (C + 7 D) operations at the rate this machine multiplies matrices.

    python benchmarks/training_step.py --device cuda
    python benchmarks/training_step.py --images 8
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import PeakMemory, describe, multiplications_per_second, optimise, synchronise
from torch import Tensor

from geohp.backbones.base import PatchFeatures
from geohp.methods.base import Batch
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--channels", type=int, nargs=2, default=(768, 256), metavar=("C", "D"))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    dtype = torch.bfloat16 if args.device != "cpu" else torch.float32
    torch.manual_seed(0)
    n, (c, d) = args.images * args.side**2, args.channels
    step = training_step(args.images, args.side, c, d, args.device)
    print(f"{describe(args.device)}, {str(dtype).removeprefix('torch.')}")
    best, floor, peak_gb = float("inf"), float("inf"), 0.0
    for number in range(args.steps + 1):
        rate = multiplications_per_second(args.device, dtype)
        with PeakMemory(args.device) as peak:
            synchronise(args.device)
            start = time.perf_counter()
            losses = step()
            synchronise(args.device)
            elapsed = time.perf_counter() - start
        if number:  # the first one warms up
            rate = max(rate, multiplications_per_second(args.device, dtype))
            best, floor = min(best, elapsed), min(floor, 2 * n**2 * (c + 7 * d) / rate)
            peak_gb = max(peak_gb, peak.gigabytes)
    print(
        f"{args.images} images, n {n}: {best:.4f} s a step, {best / floor:.2f} times the floor of {floor:.4f} s, "
        f"{peak_gb:.2f} GB above features and weights; loss {float(losses['contrastive']):.3f}"
    )


def training_step(
    images: int, side: int, channels: int, code_channels: int, device: str
) -> Callable[[], dict[str, Tensor]]:
    """HP and a labelled batch of cached features: what one step of the loop does, giving its losses."""
    half = device != "cpu"
    method = HP(channels, 3, HPSettings(code_channels=code_channels, warmup_steps=0), label_classes=3).to(device)
    features = images_of_things(images, channels, side, device)
    batch = Batch(
        PatchFeatures(
            features.to(torch.bfloat16 if half else torch.float32), torch.rand(images, side**2, 9, device=device)
        ),
        labels=torch.randint(0, 3, (images, 224, 224), device=device),
    )
    method.prepare(lambda count: [features[:count]])
    optimizers = method.optimizers()

    def step() -> dict[str, Tensor]:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            losses = method.losses(batch, step=50, total_steps=100)
        optimise(method, losses, optimizers)
        return losses

    return step


def images_of_things(images: int, channels: int, side: int, device: str) -> Tensor:
    """Features around forty centres, in 4 x 4 pieces: neighbours belong together, as in imagery."""
    centres = torch.randn(40, channels, device=device)
    kinds = torch.randint(40, (images, side // 4 + 1, side // 4 + 1), device=device)
    kinds = kinds.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :side, :side]
    return F.normalize(centres[kinds] + 1.5 * torch.randn(images, side, side, channels, device=device), dim=3).permute(
        0, 3, 1, 2
    )


if __name__ == "__main__":
    main()
