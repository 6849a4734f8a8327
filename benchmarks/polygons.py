"""From a label raster to a GeoPackage of polygons: geohp against what rasterio, geopandas and GDAL offer, in one run.

The label map is a given one, mirrored and repeated to the size asked for; without one, random blobs. The others read it
whole:

    shapes     rasterio.features.shapes (4-connected) into a GeoDataFrame
    dissolve   the same, dissolved by class and exploded again, as is done to mend polygons cut at the seams of tiles
    gdal       gdal_polygonize.py (GDAL's own tool, streaming), where it is installed

Each runs in a process of its own, from the file to a GeoPackage with a spatial index; time and memory leave out
imports. The number of polygons must agree. geohp also computes perimeters and true areas, the others nothing.

    geohp segment scene.tif --out labels.tif
    python benchmarks/polygons.py --labels labels.tif --size 8192
    python benchmarks/polygons.py --labels labels.tif --size 30000 --engines geohp          # memory
    python benchmarks/polygons.py --labels labels.tif --engines geohp --min-area 4 --simplify 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import rasterio.features
from affine import Affine
from measuring import PeakMemory, describe
from rasterio.windows import Window

NODATA = 255


def run_geohp(labels: Path, out: Path, min_area: float, simplify: float) -> None:
    """Block by block."""
    from geohp.vector.writing import polygonize_file

    polygonize_file(labels, out, min_area_m2=min_area, simplify_m=simplify)


def run_shapes(labels: Path, out: Path, *_: float) -> None:
    """The whole raster, polygons as Python objects."""
    _shapes(labels).to_file(out, layer="landcover")


def run_dissolve(labels: Path, out: Path, *_: float) -> None:
    """One multipolygon a class, and single ones again."""
    _shapes(labels).dissolve("class_id").explode(index_parts=False).reset_index().to_file(out, layer="landcover")


def _shapes(labels: Path) -> Any:
    import geopandas
    from shapely.geometry import shape

    with rasterio.open(labels) as dataset:
        values = dataset.read(1)
        found = rasterio.features.shapes(values, values != NODATA, connectivity=4, transform=dataset.transform)
        rows = [(int(label), shape(geometry)) for geometry, label in found]
        crs = dataset.crs
    return geopandas.GeoDataFrame({"class_id": [r[0] for r in rows]}, geometry=[r[1] for r in rows], crs=crs)


ENGINES: dict[str, Callable[..., None]] = {"geohp": run_geohp, "shapes": run_shapes, "dissolve": run_dissolve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="label raster to repeat")
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--engines", nargs="*", default=[*ENGINES, "gdal"], choices=[*ENGINES, "gdal"])
    parser.add_argument("--repeat", type=int, default=2, help="rounds; the least time and the most memory count")
    parser.add_argument("--min-area", type=float, default=0, help="geohp only, in square metres")
    parser.add_argument("--simplify", type=float, default=0, help="geohp only, in metres")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker, options.min_area, options.simplify)
        return
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.tif"
        repeat(options.labels, options.size, labels)
        results: dict[str, dict[str, float]] = {}
        for _ in range(options.repeat):
            for engine in options.engines:
                keep_best(results, engine, measure(engine, labels, options))
    report(results, options)


def repeat(source: Path | None, size: int, target: Path) -> None:
    """Write a label raster of that size, a strip of tiles at a time."""
    if source is None:
        rng = np.random.default_rng(0)
        coarse = rng.standard_normal((5, 64, 64))
        one = np.stack([np.kron(field, np.ones((16, 16))) for field in coarse]).argmax(0).astype(np.uint8)
        transform, crs = Affine(0.25, 0, 5e5, 0, -0.25, 5.5e6), "EPSG:25832"
    else:
        with rasterio.open(source) as dataset:
            one, transform, crs = dataset.read(1), dataset.transform, dataset.crs
    mirrored = np.block([[one, one[:, ::-1]], [one[::-1], one[::-1, ::-1]]])
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NODATA, "compress": "deflate", "tiled": True}
    shape = {"height": size, "width": size, "transform": transform, "crs": crs, "blockxsize": 512, "blockysize": 512}
    across = -(-size // mirrored.shape[1])
    with rasterio.open(target, "w", **profile, **shape) as dataset:
        for row in range(0, size, 512):
            rows = np.arange(row, min(row + 512, size)) % len(mirrored)
            strip = np.tile(mirrored[rows], (1, across))[:, :size]
            dataset.write(strip, 1, window=Window(0, row, size, len(rows)))


def measure(engine: str, labels: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, gigabytes and number of polygons of one engine, in its own process."""
    out = labels.with_name(f"{engine}.gpkg")
    out.unlink(missing_ok=True)
    if engine == "gdal":
        result = run_gdal(labels, out)
    else:
        figures = ["--min-area", str(options.min_area), "--simplify", str(options.simplify)]
        command = [sys.executable, __file__, "--worker", engine, str(labels), str(out), *figures]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
    if result:
        result["polygons"] = pyogrio.read_info(out, layer="landcover")["features"]
    return dict(result)


def work(engine: str, labels: str, out: str, min_area: float, simplify: float) -> None:
    """What a worker does: warm up on a corner, run, and print figures."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.tif"
        repeat(None, 512, small)
        ENGINES[engine](small, small.with_suffix(".gpkg"), 0, 0)
    with PeakMemory("cpu") as memory:
        start = time.perf_counter()
        ENGINES[engine](Path(labels), Path(out), min_area, simplify)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "gigabytes": memory.gigabytes}))


def run_gdal(labels: Path, out: Path) -> dict[str, float]:
    """GDAL's tool as it comes; its memory is that of the whole process, sampled, less that of a bare interpreter."""
    tool = shutil.which("gdal_polygonize.py") or shutil.which("gdal_polygonize")
    if tool is None:
        print("gdal is left out: gdal_polygonize.py is not installed (Debian: gdal-bin, python3-gdal)")
        return {}
    start = time.perf_counter()
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "GDAL_DATA")}
    process = subprocess.Popen([tool, "-q", labels, out, "landcover", "class_id"], env=environment)
    most = [0.0]

    def sample() -> None:
        status = Path(f"/proc/{process.pid}/statm")
        while process.poll() is None:
            if status.exists() and (text := status.read_text()):
                most[0] = max(most[0], int(text.split()[1]) * 4096 / 1e9)
            time.sleep(0.01)

    sampler = threading.Thread(target=sample)
    sampler.start()
    process.wait()
    seconds = time.perf_counter() - start
    sampler.join()
    if process.returncode:
        sys.exit("gdal_polygonize.py failed")
    return {"seconds": seconds, "gigabytes": most[0]}


def keep_best(results: dict[str, dict[str, float]], engine: str, found: dict[str, float]) -> None:
    """Least time, most memory."""
    if not found:
        return
    best = results.setdefault(engine, found)
    best["seconds"] = min(best["seconds"], found["seconds"])
    best["gigabytes"] = max(best["gigabytes"], found["gigabytes"])


def report(results: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    print(f"{options.labels or 'random blobs'}, {options.size} x {options.size} px; {describe('cpu')}")
    ours = results.get("geohp")
    for engine, found in results.items():
        ratio = f"  geohp takes {ours['seconds'] / found['seconds']:.2f} of its time" if ours and found != ours else ""
        print(
            f"{engine:>10}: {found['polygons']:>9,} polygons  {found['seconds']:7.2f} s  "
            f"{1000 * found['gigabytes']:6.0f} MB{ratio}"
        )
    counts = {found["polygons"] for found in results.values()}
    if len(counts) > 1 and not (options.min_area or options.simplify):
        sys.exit("the engines disagree on the number of polygons")


if __name__ == "__main__":
    main()
