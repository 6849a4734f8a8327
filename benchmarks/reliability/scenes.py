"""Scenes to try things on: small, of fields of colour, the same whenever they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

_COLOURS = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60], [40, 70, 110]])
_FIELD_PX = 32


def fields(seed: int, side_px: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Square fields of four colours, with noise.

    Returns:
        (3, side, side) uint8 image, and (side, side) uint8 of the number of each pixel's colour.
    """
    rng = np.random.default_rng(seed)
    count = -(-side_px // _FIELD_PX)
    kinds = rng.integers(0, len(_COLOURS), (count, count)).repeat(_FIELD_PX, 0).repeat(_FIELD_PX, 1)
    kinds = kinds[:side_px, :side_px].astype(np.uint8)
    image = np.moveaxis(_COLOURS[kinds], -1, 0) + rng.normal(0, 8, (3, side_px, side_px))
    return np.clip(image, 1, 255).astype(np.uint8), kinds


def write_raster(path: Path, data: NDArray[np.uint8], left: float = 380_000, **profile: object) -> Path:
    """(bands, rows, cols) as a GeoTIFF of 50 cm pixels in EPSG:32633."""
    bands, height, width = data.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(left, 5_800_000, 0.5, 0.5)}
    size = {"count": bands, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **{**place, **size, **profile}) as dataset:
        dataset.write(data)
    return path
