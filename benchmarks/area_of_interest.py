"""What an area of interest saves: windows scored and processor time, for areas of several sizes, in one run.

A drawn scene (RGB, uint8, tiled) is mapped with classes found on it, whole and in a square area at its middle that
takes the shares below of it. The label map inside must be that of the whole scene.

    python benchmarks/area_of_interest.py --side 4096
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from measuring import describe
from rasterio.transform import from_origin

import geohp
from geohp.inference.engine.forward import Runner
from geohp.options import FitOptions

SHARES = (1.0, 0.5, 0.25, 0.1, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="of the scene, in pixels")
    parser.add_argument("--classes", type=int, default=6)
    side = parser.parse_args().side
    print(describe("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        scene = draw(Path(folder) / "scene.tif", side)
        with geohp.open_scene(scene) as opened:
            segmenter = geohp.Segmenter.fit(opened, FitOptions(classes=parser.parse_args().classes), device="cpu")
        whole = None
        print("| share of the scene | windows | seconds of processor time |\n|---|---|---|")
        for share in (None, *SHARES):
            area = None if share is None else middle(side, share)
            out = Path(folder) / f"{share}.tif"
            windows, seconds = measured(scene, out, segmenter, area)
            with rasterio.open(out) as dataset:
                labels = dataset.read(1)
            whole = labels if whole is None else whole
            inside = labels != 255
            assert (labels[inside] == whole[inside]).all()
            assert share is None or abs(inside.mean() - share) < 0.01
            print(f"| {'no area' if share is None else f'{100 * share:g} %'} | {windows} | {seconds:.1f} |", flush=True)


def measured(scene: Path, out: Path, segmenter: geohp.Segmenter, area: geopandas.GeoSeries | None) -> tuple[int, float]:
    """Windows scored, and seconds of processor time, which other work on the machine does not change."""
    windows, plain = 0, Runner.__call__

    def counting(self: Runner, images: object) -> object:
        nonlocal windows
        windows += len(images)
        return plain(self, images)

    Runner.__call__ = counting
    try:
        start = time.process_time()
        geohp.segment_file(scene, out, segmenter, aoi=area)
        return windows, time.process_time() - start
    finally:
        Runner.__call__ = plain


def middle(side: int, share: float) -> geopandas.GeoSeries:
    """A square at the middle of the scene."""
    half = side * share**0.5 / 2 * 0.5
    centre = 380000 + side / 4, 5800000 - side / 4
    square = shapely.box(centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half)
    return geopandas.GeoSeries([square], crs="EPSG:32633")


def draw(path: Path, side: int) -> Path:
    """Fields of colour with noise, pixels of 50 cm."""
    rng = np.random.default_rng(0)
    options = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    cells = -(-side // 64)
    fields = rng.integers(0, 200, (3, cells, cells), np.uint8).repeat(64, 1).repeat(64, 2)[:, :side, :side]
    with rasterio.open(path, "w", crs="EPSG:32633", transform=from_origin(380000, 5800000, 0.5, 0.5), **options) as out:
        out.write(fields + rng.integers(0, 50, fields.shape, np.uint8))
    return path


if __name__ == "__main__":
    main()
