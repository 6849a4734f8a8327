"""Time and memory of the contrastive loss, forward and backward, as ratios taken within one run.

Against the floor its matrix products set, 2 n^2 (C + 7 D) operations at the rate this machine multiplies matrices;
against the same formula written down densely with automatic differentiation, at a size where that fits; and against
itself at twice the images, which costs four times as much where work grows with n^2 and memory twice as much.

    OMP_NUM_THREADS=2 python benchmarks/contrastive_loss.py
    python benchmarks/contrastive_loss.py --device cuda --dtype bfloat16 --images 64 --dense-images 8

Times are the best of the repetitions, the rate that of just before and after each. Where other processes compete for
the cores, OpenMP threads that spin while they wait cost more than all else: set OMP_WAIT_POLICY=PASSIVE there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import PeakMemory, describe, multiplications_per_second, synchronise
from torch import Tensor

from geohp.methods.hp.loss import contrastive_loss

Loss = Callable[..., Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--dense-images", type=int, default=4, help="0 leaves the dense formula out")
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--channels", type=int, nargs=2, default=(768, 256), metavar=("C", "D"))
    parser.add_argument("--pool", type=int, default=1024)
    parser.add_argument("--keep", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--double", action="store_true", help="twice the images as well")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    args = parser.parse_args()
    print(f"{describe(args.device)}, {args.dtype}")
    measured(contrastive_loss, 1, args, quiet=True)  # warm up
    time_s, memory = measured(contrastive_loss, args.images, args)
    if args.double:
        twice_s, twice = measured(contrastive_loss, 2 * args.images, args)
        print(f"twice the images: {twice_s / time_s:.2f} times the time, {twice / memory:.2f} times the memory")
    if args.dense_images:
        time_s, memory = measured(contrastive_loss, args.dense_images, args)
        dense_s, dense = measured(dense_loss, args.dense_images, args)
        print(f"dense over streamed: {dense_s / time_s:.2f} times the time, {dense / memory:.1f} times the memory")


def measured(loss: Loss, images: int, args: argparse.Namespace, quiet: bool = False) -> tuple[float, float]:
    """Best time of a step in seconds, and its peak memory above the inputs in GB."""
    n, (c, d) = images * args.side**2, args.channels
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    z, z_mix = (rows(n, d, args.device).to(dtype).requires_grad_() for _ in range(2))
    features, codes = (rows(n + args.pool, width, args.device).to(dtype) for width in (c, d))
    best, floor, memory = float("inf"), float("inf"), 0.0
    for _ in range(args.repeat):
        rate = multiplications_per_second(args.device, dtype)
        z.grad = z_mix.grad = None
        with PeakMemory(args.device) as peak:
            start = time.perf_counter()
            value = loss(
                z, z_mix, features[:n], codes[:n], features[n:], codes[n:],
                images=images, temperature=0.4, task_specific_weight=0.5, keep=args.keep,
            )  # fmt: skip
            torch.autograd.backward(value)
            synchronise(args.device)
            elapsed = time.perf_counter() - start
        memory = max(memory, peak.gigabytes)
        rate = max(rate, multiplications_per_second(args.device, dtype))
        best, floor = min(best, elapsed), min(floor, 2 * n**2 * (c + 7 * d) / rate)
    if not quiet:
        print(
            f"{loss.__name__:17} {images:3} images, n {n:6}: {best:8.3f} s, {best / floor:5.2f} times the floor of "
            f"{floor:.3f} s, {memory:.3f} GB above the inputs",
            flush=True,
        )
    return best, memory


def rows(count: int, channels: int, device: str) -> Tensor:
    """Unit rows around forty centres, as features of land cover are."""
    centres = torch.randn(40, channels, device=device)
    members = torch.randint(40, (count,), device=device)
    return F.normalize(centres[members] + 1.5 * torch.randn(count, channels, device=device), dim=1)


def dense_loss(
    z: Tensor, z_mix: Tensor, features: Tensor, codes: Tensor, pool_agnostic: Tensor, pool_specific: Tensor, *,
    images: int, temperature: float, task_specific_weight: float, keep: float,
) -> Tensor:  # fmt: skip
    """The published formula on n x n matrices; every row is taken for an anchor."""
    n = len(z)

    def positives(rows: Tensor, pool: Tensor) -> Tensor:
        bound = (rows @ pool.T).amax(1)
        similar = rows @ rows.T
        return ((similar > bound[:, None]) | (similar > bound)).fill_diagonal_(False)

    agnostic = positives(features, pool_agnostic)
    weights = agnostic.to(z.dtype) + task_specific_weight * positives(codes, pool_specific)
    kept = (torch.rand(n // images, n, device=z.device) < keep).repeat(images, 1)
    outside = ~(agnostic | kept).fill_diagonal_(False)
    mass = weights.sum(1)
    emphasis = mass.view(images, -1) / mass.view(images, -1).mean(1, keepdim=True)
    total = z.new_zeros(())
    for view in (z, z_mix):
        logits = view @ view.T / temperature
        log_p = logits - logits.masked_fill(outside, -torch.inf).logsumexp(1, keepdim=True)
        total = total - (emphasis.flatten() * (weights * log_p).sum(1) / mass.clamp_min(1e-6)).mean() / 2
    return temperature / 0.07 * total


if __name__ == "__main__":
    main()
