"""Where the time of HP's training steps goes, by kind of operation, as a picture; on a GPU also how busy it is.

Steps of the published Potsdam-3 setting on cached features, run by the loop's own method, under torch's profiler. On a
CPU fewer images keep it short: the loss costs with their square.

    python benchmarks/training_profile.py --images 8 --out docs/images/profile.png
    python benchmarks/training_profile.py --device cuda --images 64 --out profile.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measuring import describe, synchronise
from torch.profiler import ProfilerActivity, profile
from training_step import training_step

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::matmul", "contrastive"),
    "exponentials and logarithms": ("exp", "log", "softmax"),
    "comparisons and masks": ("gt", "ge", "lt", "where", "mask", "logical", "bitwise", "eq", "aten::max"),
    "head and probes (convolutions)": ("conv", "upsample", "cross_entropy", "nll"),
    "sums": ("sum", "mean"),
    "copies": ("copy", "clone", "contiguous", "cat", "aten::to", "Memcpy", "Memset", "fill", "zero"),
    "optimisers": ("adam", "addcdiv", "addcmul", "lerp"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    half = args.device != "cpu"
    torch.manual_seed(0)
    step = training_step(args.images, args.side, 768, 256, args.device)
    step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if half else [])]
    with profile(activities=activities) as profiler:
        synchronise(args.device)
        start = time.perf_counter()
        for _ in range(args.steps):
            step()
        synchronise(args.device)
        wall = time.perf_counter() - start
    spent: dict[str, float] = dict.fromkeys([*KINDS, "everything else"], 0.0)
    for event in profiler.key_averages():
        seconds = (event.self_device_time_total if half else event.self_cpu_time_total) / 1e6
        kind = next((k for k, words in KINDS.items() if any(w in event.key for w in words)), "everything else")
        spent[kind] += seconds
    machine = describe(args.device)
    print(machine)
    for kind, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{kind:32} {seconds / args.steps:8.4f} s a step, {100 * seconds / sum(spent.values()):5.1f} %")
    print(
        f"a step takes {wall / args.steps:.4f} s"
        + (f"; GPU busy {100 * sum(spent.values()) / wall:.0f} %" if half else "")
    )
    draw(spent, args.steps, f"{args.images} images of {args.side} x {args.side} patches, {machine}", args.out)


def draw(spent: dict[str, float], steps: int, title: str, out: Path) -> None:
    """Bars, the longest on top."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    kinds = sorted((kind for kind in spent if spent[kind]), key=spent.__getitem__)
    total = sum(spent.values())
    bars = axes.barh(kinds, [spent[kind] / steps for kind in kinds], color="#4477aa")
    axes.bar_label(bars, [f"{100 * spent[kind] / total:.1f} %" for kind in kinds], padding=3)
    axes.set(xlabel="seconds a step", title=title)
    axes.title.set_fontsize(9)
    axes.margins(x=0.12)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
