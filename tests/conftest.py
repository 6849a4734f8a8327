"""What many tests need: small scenes, a tiny model, and the shared data where it is present."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import settings
from rasterio.crs import CRS
from rasterio.transform import from_origin

# What a machine that checks every landing finds must be found again: the same examples each time. Elsewhere new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scenes and weights that lies beside the repository, where there is one."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared scenes are not present beside the repository")
    return SHARED


@pytest.fixture
def write_scene(tmp_path):
    """Write an array (bands, rows, cols) as a GeoTIFF of 50 cm pixels in EPSG:32633; gives its path."""

    def write(data: np.ndarray, name: str = "scene.tif", **profile) -> Path:
        path = tmp_path / name
        settings = {
            "driver": "GTiff",
            "count": data.shape[0],
            "height": data.shape[1],
            "width": data.shape[2],
            "dtype": data.dtype,
            "crs": CRS.from_epsg(32633),
            "transform": from_origin(380000, 5800000, 0.5, 0.5),
            **profile,
        }
        with rasterio.open(path, "w", **settings) as dataset:
            dataset.write(data)
        return path

    return write


@pytest.fixture
def three_fields() -> np.ndarray:
    """(3, 150, 200) uint8: green, grey and brown noise side by side, which any clustering must tell apart."""
    rng = np.random.default_rng(7)
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    stripes = colours[np.minimum(np.arange(200) // 67, 2)].T[:, None, :].repeat(150, axis=1)
    return np.clip(stripes + rng.normal(0, 8, (3, 150, 200)), 1, 255).astype(np.uint8)
