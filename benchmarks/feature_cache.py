"""Ten epochs on cached features against ten that compute them anew, in one run; and a step against its floor.

Drawn aerial imagery, a frozen vision transformer, HP with linear probe. On a CPU, times are those of the processor (of
both threads together), whatever else the machine does meanwhile; on a GPU those of the clock. The floor of a step is
that of the contrastive loss alone: 2 n^2 (C + 7 D) operations at the rate this machine multiplies matrices. At the end,
what keeping features in half precision changes: in the codes of a trained head, in loss and gradient, in the classes.

    python benchmarks/feature_cache.py
    python benchmarks/feature_cache.py --backbone vit_small_patch14_dinov2 --weights FILE --block 8
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from typing import Any

import torch
from measuring import describe, multiplications_per_second, optimise, synchronise
from torch import Tensor

from geohp.backbones.base import PatchFeatures
from geohp.backbones.factory import create_backbone
from geohp.data.base import ImageSet
from geohp.demo.town.drawing import draw_orthophoto
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Batch
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings


class Drawn(ImageSet):
    """Squares of one drawn scene, with their truth."""

    channels, labelled = 3, True

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side
        self.columns = max(1, int(count**0.5))
        rows = -(-count // self.columns)
        self.scene = draw_orthophoto(rows * side, self.columns * side, seed=1)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, col = (self.side * n for n in divmod(index, self.columns))
        place = (slice(row, row + self.side), slice(col, col + self.side))
        image = torch.from_numpy(self.scene.image[:, *place].copy()).float() / 255
        return {"image": image, "mask": torch.from_numpy(self.scene.truth[place].copy()).long()}

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_tiny_patch16_224")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--block", type=int, default=-1)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--brief", action="store_true", help="leave out what is done on disk")
    args = parser.parse_args()
    torch.manual_seed(0)
    backbone = create_backbone(args.backbone, weights=args.weights, block=args.block).to(args.device)
    images = Drawn(args.images, args.side)
    print(f"{describe(args.device)}; {args.backbone}, {args.images} images of {args.side} px, batches of {args.batch}")
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, dict[str, Any]] = {
            "online": {"mode": "off"},
            "cached in memory": {"mode": "memory"},
            "cached on disk": {"mode": "disk"},
            "loaded from disk": {"mode": "disk"},
            "mapped from disk": {"mode": "disk", "limit_bytes": 0},
        }
        times: dict[str, float] = {}
        ends: list[HP] = []
        for way, options in ways.items():
            if args.brief and "disk" in way:
                continue
            source = FeatureSampler(images, backbone, batch_size=args.batch)
            start = clock(args.device)
            source.cache(CacheOptions(**{"limit_bytes": float(1 << 36), "folder": folder, **options}))
            ready = clock(args.device) - start
            method, steps, reading = trained(source, args.epochs)
            times[way] = clock(args.device) - start
            ends.append(method)
            print(
                f"{way:18} {times[way]:7.2f} s ({times[way] / times['online']:.3f} times online), {ready:.2f} s of it "
                f"before training; a step {1000 * min(steps):.1f} ms, {1000 * min(reading):.1f} ms of it for features"
            )
        print("the same weights, to the last bit:", all(same(ends[0], end) for end in ends[1:]))
        n = args.batch * (args.side // backbone.patch_size) ** 2
        floor = 2 * n**2 * (backbone.channels + 7 * 256) / products_per_second(args.device)
        print(f"n {n}: a cached step takes {min(steps) / floor:.2f} times its floor of {1000 * floor:.1f} ms")
        compare_types(source, ends[0])


def trained(source: FeatureSampler, epochs: int) -> tuple[HP, list[float], list[float]]:
    """Train; gives the method, the seconds of every step, and those of them until its features were there."""
    torch.manual_seed(0)
    method = HP(source.backbone.channels, 3, HPSettings(warmup_steps=5), label_classes=6).to(source.device)
    method.prepare(source.sample)
    optimizers = method.optimizers()
    loader = source.batches()
    steps, reading = [], []
    for _ in range(epochs):
        start = clock(source.device.type)
        for step, batch in enumerate(loader):
            method.before_step(step, source.sample)
            given = Batch(source.patches(batch), labels=batch["mask"].to(source.device))
            reading.append(clock(source.device.type) - start)
            losses = method.losses(given, step=len(steps), total_steps=epochs * len(loader))
            optimise(method, losses, optimizers)
            steps.append(clock(source.device.type) - start)
            start = clock(source.device.type)
    return method, steps, reading


def clock(device: str) -> float:
    """Seconds; differences count."""
    synchronise(device)
    return time.process_time() if device == "cpu" else time.perf_counter()


def products_per_second(device: str, size: int = 1024) -> float:
    """Floating-point operations a second of a square matrix product, by that clock: the best of several."""
    if device != "cpu":
        return multiplications_per_second(device)
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(12):
        start = clock(device)
        a @ b
        best = min(best, clock(device) - start)
    return 2 * size**3 / best


def same(one: HP, other: HP) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def compare_types(source: FeatureSampler, method: HP) -> None:
    """What rounding features changes, all else being equal."""
    batch = next(iter(source.batches()))
    patches = source.patches(batch)
    assert patches.affinities is not None
    exact = outcome(method, patches)
    for dtype in (torch.float16, torch.bfloat16):
        rounded = PatchFeatures(*(t.to(dtype).float() for t in (patches.features, patches.affinities)))
        codes, loss, gradient, classes = outcome(method, rounded)
        angle = float(torch.acos(torch.cosine_similarity(codes.double(), exact[0].double(), dim=1).clamp(-1, 1)).max())
        print(
            f"kept as {str(dtype).removeprefix('torch.')}: codes {relative(codes, exact[0]):.1e} off (at most by an "
            f"angle of {angle:.1e}), loss {abs(loss / exact[1] - 1):.1e}, gradient {relative(gradient, exact[2]):.1e}; "
            f"{int((classes != exact[3]).sum())} of {classes.numel()} patches in another class"
        )


def relative(value: Tensor, exact: Tensor) -> float:
    return float((value - exact).norm() / exact.norm())


def outcome(method: HP, patches: PatchFeatures) -> tuple[Tensor, float, Tensor, Tensor]:
    """Codes, contrastive loss, its gradient on the head, and the classes of patches."""
    method = copy.deepcopy(method).eval()
    with torch.no_grad():
        codes = method.head(patches.features)
        classes = method.probe(codes).argmax(1)
    loss = method.losses(Batch(patches), step=50, total_steps=100)["contrastive"]
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in method.head.parameters() if p.grad is not None])
    return codes, float(loss.detach()), gradient, classes


if __name__ == "__main__":
    main()
