"""Time of the say that neighbours and colour have in the classes of patches, beside that of the transformer.

    OMP_NUM_THREADS=1 python benchmarks/smoothing.py scene.tif

A window is cut from the middle of the picture (without one, of a drawn orthophoto) and goes through a vision
transformer with random weights; its classes are random and smooth. All take turns: the transformer, the smoothing in
cells, and the published CRF on all pixels. Times are of the processor, the best of the repetitions, one aside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from dense_crf import squares
from measuring import describe

from geohp.backbones.factory import create_backbone
from geohp.crf.mean_field import dense_crf
from geohp.model.smoothing import fit_to_colours, neighbourhood_shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--classes", type=int, nargs="+", default=[6, 18])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--transformer", default="vit_small_patch14_dinov2", metavar="NAME")
    parser.add_argument("--block", type=int, default=5)
    args = parser.parse_args()
    print(f"{describe('cpu')}, a window of {args.side} px")
    _, image = next(squares([] if args.picture is None else [args.picture], args.side))
    transformer = create_backbone(args.transformer, weights="random", block=args.block)
    images = image[None].float() / 255
    patches = args.side // transformer.patch_size
    for classes in args.classes:
        torch.manual_seed(0)
        coarse = torch.randn(1, classes, patches // 4, patches // 4)
        cosines = F.interpolate(coarse, size=(patches, patches), mode="bilinear").clamp(-1, 1)
        fine = F.interpolate(neighbourhood_shares(cosines, 1.0), size=image.shape[1:], mode="bilinear").log()
        ways: dict[str, Callable[[], object]] = {
            "transformer": lambda: transformer(images, affinities=False),
            "smoothing in cells": lambda cosines=cosines: fit_to_colours(neighbourhood_shares(cosines, 1.0), images),
            "CRF on pixels": lambda fine=fine: dense_crf(image, fine[0]),
        }
        best = dict.fromkeys(ways, float("inf"))
        for turn in range(args.repeat + 1):
            for name, work in ways.items():
                start = time.process_time()
                with torch.inference_mode():
                    work()
                if turn:
                    best[name] = min(best[name], time.process_time() - start)
        floor = best["transformer"]
        print(
            f"{classes} classes: " + ", ".join(f"{n} {s:.3f} s ({s / floor:.0%})" for n, s in best.items()), flush=True
        )


if __name__ == "__main__":
    main()
