"""How much change is seen where there is none, by how two dates are scaled: together, or each by itself.

Two measures on a pair of dates with a near-infrared band (NAIP: red, green, blue, near infrared):

- water that is water at both dates (its index (green - nir) / (green + nir) above a threshold), the share of it that is
  said to have changed;
- the first date against itself with the second date's brightness (mean and deviation of each band), where nothing has
  changed at all, the share of everything.

Classes are found on both dates together, by several seeds. The last columns are after noise is suppressed.

    python benchmarks/change_scaling.py naip_4band_5m_2017.tif naip_4band_5m.tif
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

import geohp

WATER = 0.2
MIN_CONFIDENCE, MIN_AREA_M2 = 0.7, 2500
WAYS = {
    "0 to 255 (auto)": {},
    "percentiles of both": {"scaling": "percentiles:2,98"},
    "percentiles of each": {"scaling": "percentiles:2,98", "per_date_scaling": True},
    "percentiles of both, by band": {"scaling": "percentiles-per-band:2,98"},
    "percentiles of each, by band": {"scaling": "percentiles-per-band:2,98", "per_date_scaling": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        water = stable_water(options.old, options.new)
        same = relit(options.old, options.new, Path(folder) / "relit.tif")
        print(f"stable water: {100 * water.mean():.1f} % of the ground")
        print("| scaling | water | nothing | all | water, suppressed | nothing, suppressed | all, suppressed |")
        print("|---|---|---|---|---|---|---|")
        for way in options.ways:
            rows = [
                [
                    share(options.old, new, Path(folder), options.classes, seed, where, **noise, **WAYS[way])
                    for noise in ({}, {"min_confidence": MIN_CONFIDENCE, "min_area_m2": MIN_AREA_M2})
                    for new, where in ((options.new, water), (same, None), (options.new, None))
                ]
                for seed in range(options.seeds)
            ]
            print(f"| {way} | {' | '.join(f'{100 * value:.1f}' for value in np.mean(rows, axis=0))} |", flush=True)


def share(
    old: Path, new: Path, folder: Path, classes: int, seed: int, where: np.ndarray | None, **options: object
) -> float:
    """Of the ground, or of some of it, the share that is said to have changed."""
    maps = folder / "-".join(map(str, (new.stem, seed, *(v for k, v in options.items() if not k.startswith("min")))))
    out = folder / "change.tif"
    geohp.change(
        old,
        new,
        out,
        classes=classes,
        seed=seed,
        bands=[1, 2, 3, 4],
        device="cpu",
        maps=maps,
        overwrite=True,
        **options,
    )
    with rasterio.open(out) as dataset:
        codes = dataset.read(1)
    counted = codes != 65535
    if where is not None:
        counted &= where
    return float((codes // 100 != codes % 100)[counted].mean())


def stable_water(old: Path, new: Path) -> np.ndarray:
    """(rows, cols) of the old date: where both show water."""
    with rasterio.open(old) as first, rasterio.open(new) as second:
        place = {"crs": first.crs, "transform": first.transform, "width": first.width, "height": first.height}
        with WarpedVRT(second, resampling=Resampling.nearest, **place) as warped:
            bands = [dataset.read([2, 4]).astype(float) for dataset in (first, warped)]
    return np.logical_and(*((green - nir) / np.maximum(green + nir, 1) > WATER for green, nir in bands))


def relit(old: Path, new: Path, path: Path) -> Path:
    """The old date with the brightness of the new one."""
    with rasterio.open(old) as first, rasterio.open(new) as second:
        values, others, profile = first.read().astype(float), second.read().astype(float), first.profile
    valid = values.any(axis=0)
    for band, other in zip(values, others, strict=True):
        other = other[others.any(axis=0)]
        band[valid] = (band[valid] - band[valid].mean()) / band[valid].std() * other.std() + other.mean()
    values[:, valid] = values[:, valid].clip(1, 255)
    with rasterio.open(path, "w", **profile) as out:
        out.write(values.round().astype(profile["dtype"]))
    return path


if __name__ == "__main__":
    main()
