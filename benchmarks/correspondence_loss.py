"""Time and memory of STEGO's loss, forward and backward, and of its search for similar images, within one run.

The loss as it is (11 x 11 points of each image, seven pairs of images) against the same loss on all patches of the same
pairs, and against the sampled one by ``grid_sample``, which copies the maps of every random pair. The search by chunks
against the whole matrix of similarities.

    OMP_NUM_THREADS=1 python benchmarks/correspondence_loss.py
    python benchmarks/correspondence_loss.py --device cuda --images 64

Times are the best of the repetitions, after one to warm up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import PeakMemory, describe, synchronise
from torch import Tensor

from geohp.features.neighbours import nearest_rows
from geohp.methods.stego.correspondence import Comparison, Maps, Places, Rows
from geohp.methods.stego.settings import STEGOSettings

SETTINGS = STEGOSettings()
COMPARE = Comparison()

Sampler = Callable[[Maps, Tensor, Tensor | None], Rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--channels", type=int, nargs=2, default=(768, 70), metavar=("C", "D"))
    parser.add_argument("--set", type=int, default=16_000, help="images to look for similar ones in")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(describe(args.device))
    maps, similar = (batch(args, number) for number in range(2))
    generator = torch.Generator().manual_seed(0)
    places = Places.draw(args.images, SETTINGS.samples**2, SETTINGS.random_pairs, generator, maps.features.device)
    losses = {
        "sampled": Maps.at,
        "sampled by grid_sample": by_grid_sample,
        "all patches": all_patches,
    }
    times = {}
    for name, sampler in losses.items():
        times[name] = measured(name, lambda sampler=sampler: step(maps, similar, places, sampler), args)
    for name in ("sampled by grid_sample", "all patches"):
        time_s, memory = (other / own for other, own in zip(times[name], times["sampled"], strict=True))
        print(f"{name} over sampled: {time_s:.1f} times the time, {memory:.1f} times the memory")
    rows = F.normalize(torch.randn(args.set, args.channels[0], generator=generator), dim=1)
    chunked = measured("similar images, by chunks", lambda: nearest_rows(rows, SETTINGS.nearest_images), args, "cpu")
    whole = measured("similar images, at once", lambda: all_pairs(rows), args, "cpu")
    print(f"at once over by chunks: {whole[0] / chunked[0]:.1f} times the time, {whole[1] / chunked[1]:.1f} the memory")


def batch(args: argparse.Namespace, seed: int) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    shape = (args.images, args.side, args.side)
    features, codes = (torch.randn(*shape, width, generator=generator).permute(0, 3, 1, 2) for width in args.channels)
    return Maps(features.to(args.device), codes.to(args.device).requires_grad_())


def step(maps: Maps, similar: Maps, places: Places, at: Sampler) -> None:
    """Loss and gradient of the three kinds of pairs."""
    rows = at(maps, places.first, None)
    terms = [
        (SETTINGS.self_weight, COMPARE(rows, rows, SETTINGS.self_shift)),
        (SETTINGS.neighbour_weight, COMPARE(rows, at(similar, places.second, None), SETTINGS.neighbour_shift)),
    ]
    terms += [
        (
            SETTINGS.random_weight / len(places.others),
            COMPARE(rows, at(maps, places.second, others), SETTINGS.random_shift),
        )
        for others in places.others
    ]
    torch.autograd.grad(torch.stack([weight * loss for weight, (loss, _) in terms]).sum(), [maps.codes, similar.codes])


def by_grid_sample(maps: Maps, points: Tensor, images: Tensor | None) -> Rows:
    def sample(values: Tensor) -> Tensor:
        values = values if images is None else values[images]
        found = F.grid_sample(values, points[:, None], padding_mode="border", align_corners=True)[:, :, 0]
        return F.normalize(found, dim=1).transpose(1, 2)

    return Rows(sample(maps.features), sample(maps.codes))


def all_patches(maps: Maps, points: Tensor, images: Tensor | None) -> Rows:
    def rows(values: Tensor) -> Tensor:
        values = values if images is None else values[images]
        return F.normalize(values.flatten(2), dim=1).transpose(1, 2)

    return Rows(rows(maps.features), rows(maps.codes))


def all_pairs(rows: Tensor) -> Tensor:
    return (rows @ rows.T).fill_diagonal_(-torch.inf).topk(SETTINGS.nearest_images).indices


def measured(
    name: str, run: Callable[[], object], args: argparse.Namespace, device: str | None = None
) -> tuple[float, float]:
    """Best time in seconds, and peak memory above the inputs in GB."""
    device, best, memory = device or args.device, float("inf"), 0.0
    run()
    for _ in range(args.repeat):
        with PeakMemory(device) as peak:
            start = time.perf_counter()
            run()
            synchronise(device)
            best = min(best, time.perf_counter() - start)
        memory = max(memory, peak.gigabytes)
    print(f"{name:28} {best:8.4f} s, {memory:.3f} GB above the inputs", flush=True)
    return best, memory


if __name__ == "__main__":
    main()
