"""Time and memory of the contrastive loss, forward and backward, as ratios taken within one run.

Against the floor its matrix products set, 2 n^2 (C + 7 D) operations at the rate this machine multiplies matrices;
against the same formula written down densely with automatic differentiation, at a size where that fits; and against
itself at twice the images, which costs four times as much where work grows with n^2 and memory twice as much.

    OMP_NUM_THREADS=2 python benchmarks/contrastive_loss.py
    python benchmarks/contrastive_loss.py --device cuda --images 64

Times are the best of the repetitions, the rate that of just before and after each. Where other processes compete for
the cores, OpenMP threads that spin while they wait cost more than all else: set OMP_WAIT_POLICY=PASSIVE there.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.methods.hp import contrastive_loss

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
    args = parser.parse_args()
    if args.device == "cpu":
        print(f"{torch.get_num_threads()} threads")
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
    z, z_mix = (rows(n, d, args.device).requires_grad_() for _ in range(2))
    features, codes = rows(n + args.pool, c, args.device), rows(n + args.pool, d, args.device)
    best, floor, memory = float("inf"), float("inf"), 0.0
    for _ in range(args.repeat):
        rate = multiplications_per_second(args.device)
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
        rate = max(rate, multiplications_per_second(args.device))
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


def multiplications_per_second(device: str, size: int = 1024) -> float:
    """Floating-point operations a second of a square matrix product in float32, the best of several."""
    size = size if device == "cpu" else 8 * size
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


class PeakMemory:
    """Most memory held within the context, above what was held when entering it.

    On the CPU the process's resident memory is sampled every few milliseconds (Linux only; 0 elsewhere).
    """

    def __init__(self, device: str) -> None:
        self.gigabytes = 0.0
        self._cuda = device != "cpu"
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            if sys.platform == "linux":
                ctypes.CDLL(None).malloc_trim(0)  # or what earlier runs left behind would hide what this one takes
            self._before = resident_bytes()
            self._sampler = threading.Thread(target=self._sample)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            self.gigabytes = (torch.cuda.max_memory_allocated() - self._before) / 1e9
        else:
            self._over.set()
            self._sampler.join()

    def _sample(self) -> None:
        while not self._over.wait(0.004):
            self.gigabytes = max(self.gigabytes, (resident_bytes() - self._before) / 1e9)


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


if __name__ == "__main__":
    main()
