"""Time of the dense CRF, as a ratio to pydensecrf2's taken within one run, and how far their marginals are apart.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE python benchmarks/dense_crf.py scene.tif picture.jpg

From the middle of each picture a square is cut; without pictures, one of a drawn orthophoto. Last comes noise, the
worst case: no two pixels share a corner of the lattice. The class probabilities are smooth and random. Both take turns,
and of each the best of the repetitions counts. pydensecrf2 (pip install pydensecrf2, Python 3.12 at most) runs on one
thread; without it only geohp's own times are told, as on a GPU (--device cuda).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring import describe, synchronise
from PIL import Image
from torch import Tensor

from geohp.crf.mean_field import dense_crf
from geohp.demo.town.drawing import draw_orthophoto

try:
    from pydensecrf.densecrf import DenseCRF2D
except ImportError:
    DenseCRF2D = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--classes", type=int, default=27)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(
        f"{describe(args.device)}; {args.side} x {args.side} px, {args.classes} classes, {args.iterations} iterations"
    )
    for name, image in squares(args.pictures, args.side):
        torch.manual_seed(0)
        coarse = 1.5 * torch.randn(1, args.classes, args.side // 8, args.side // 8)
        log_p = F.interpolate(coarse, size=image.shape[1:], mode="bilinear")[0].log_softmax(0)
        compare(name, image.to(args.device), log_p.to(args.device), args)


def squares(pictures: list[Path], side: int) -> Iterator[tuple[str, Tensor]]:
    """Names and (3, side, side) uint8 images."""
    for path in pictures:
        pixels = np.array(Image.open(path).convert("RGB"))
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        if min(top, left) < 0:
            raise SystemExit(f"{path}: smaller than {side} x {side} px")
        square = pixels[top : top + side, left : left + side]
        yield f"{path.parent.name}/{path.name}", torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))
    if not pictures:
        yield "drawn orthophoto", torch.from_numpy(np.array(draw_orthophoto(side, side).image))
    yield "noise", torch.randint(0, 256, (3, side, side), dtype=torch.uint8)


def compare(name: str, image: Tensor, log_p: Tensor, args: argparse.Namespace) -> None:
    """Print the best times of both, their ratio, and the difference of the marginals."""
    ours, theirs = [], []
    for _ in range(args.repeat + 1):  # the first warms up
        seconds, found = timed(lambda: dense_crf(image, log_p, iterations=args.iterations), args.device)
        ours.append(seconds)
        if DenseCRF2D is not None and args.device == "cpu":
            seconds, wanted = timed(lambda: pydensecrf(image, log_p, args.iterations), args.device)
            theirs.append(seconds)
    best = min(ours[1:])
    if not theirs:
        print(f"{name:24} geohp {best:6.3f} s", flush=True)
        return
    agree = (found.argmax(0) == wanted.argmax(0)).float().mean()
    print(
        f"{name:24} geohp {best:6.3f} s, pydensecrf2 {min(theirs[1:]):6.3f} s, ratio {best / min(theirs[1:]):.2f}; "
        f"labels agree {agree:.4%}, marginals differ by {(found - wanted).abs().mean():.1e}",
        flush=True,
    )


def timed(work: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    start = time.perf_counter()
    found = work()
    synchronise(device)
    return time.perf_counter() - start, found


def pydensecrf(image: Tensor, log_p: Tensor, iterations: int) -> Tensor:
    classes, height, width = log_p.shape
    unary = -log_p.flatten(1).softmax(0).clamp_min(1e-5).log().numpy()
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    field.addPairwiseGaussian(sxy=1, compat=3)
    bgr = np.ascontiguousarray(image.flip(0).permute(1, 2, 0).numpy())
    field.addPairwiseBilateral(sxy=67, srgb=3, rgbim=bgr, compat=4)
    return torch.from_numpy(np.array(field.inference(iterations), dtype=np.float32)).view_as(log_p)


if __name__ == "__main__":
    main()
