"""How often labels change across the borders of windows, compared with elsewhere, for several overlaps.

A class should change from one pixel to the next no oftener where a window begins or ends than anywhere else: the ratio
of both rates is 1 without seams. Printed with the time that the overlap costs. The model is cosine k-means on the
features of a vision transformer, fitted once; windows are small, so that there are many borders.

    python benchmarks/seams.py scene.tif --weights vits14.safetensors --block 5
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from measuring import describe

from geohp.classes import NODATA_LABEL
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import engine_settings
from geohp.inference.engine.windows import WindowGrid
from geohp.inference.segmenter import Segmenter
from geohp.options import FitOptions, WindowOptions
from geohp.raster.read.scene import open_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+")
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2")
    parser.add_argument("--weights")
    parser.add_argument("--block", type=int, default=-1)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--window", type=int, default=224)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0, 0.125, 0.25, 0.375, 0.5])
    args = parser.parse_args()
    fit = FitOptions(classes=args.classes, backbone=args.backbone, weights=args.weights, block=args.block)
    print(describe("cpu"))
    print(f"{'scene':30}  overlap  at borders  elsewhere  ratio  windows  seconds")
    for path in args.scenes:
        with open_scene(path) as scene:
            segmenter = Segmenter.fit(scene, fit, device="cpu")
            for overlap in args.overlaps:
                settings = engine_settings(
                    segmenter.model, scene, WindowOptions(overlap=overlap, window_px=args.window)
                )
                labels = np.full((scene.height, scene.width), NODATA_LABEL, dtype=np.uint8)
                start = time.perf_counter()
                for found in label_blocks(scene, segmenter.model, settings):
                    row, col, height, width = found.block
                    labels[row : row + height, col : col + width] = found.layers["labels"]
                seconds = time.perf_counter() - start
                grid = settings.grid(scene.height, scene.width)
                there, elsewhere = change_rates(labels, grid)
                print(
                    f"{path.rpartition('/')[2][:30]:30} {overlap:8.3f} {there:11.4f} {elsewhere:10.4f} "
                    f"{there / elsewhere:6.2f} {len(grid):8} {seconds:8.1f}",
                    flush=True,
                )


def change_rates(labels: np.ndarray, grid: WindowGrid) -> tuple[float, float]:
    """Share of neighbouring pixels of different class: across window borders, and everywhere else."""
    changed, counted = np.zeros(2), np.zeros(2)
    for axis, starts in ((0, grid.rows), (1, grid.cols)):
        turned = labels if axis == 0 else labels.T
        pairs = (turned[1:] != NODATA_LABEL) & (turned[:-1] != NODATA_LABEL)
        different = (turned[1:] != turned[:-1]) & pairs
        borders = {at for start in starts for at in (start, start + grid.shape[axis]) if 0 < at < len(turned)}
        at_border = np.isin(np.arange(1, len(turned)), list(borders))
        for kind, chosen in enumerate((at_border, ~at_border)):
            changed[kind] += different[chosen].sum()
            counted[kind] += pairs[chosen].sum()
    there, elsewhere = changed / counted
    return float(there), float(elsewhere)


if __name__ == "__main__":
    main()
