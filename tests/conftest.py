"""What many tests need: small scenes, a tiny model, and the shared data where it is present."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Tests share the cores among themselves, a thread each; has to be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory):
    """Features that tests compute do not end up among those of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(scope="session")
def tall_scene(tmp_path_factory) -> Path:
    """Fields of colour, 2500 x 600 px: three blocks of the default side."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 200, (3, 50, 12)).repeat(50, 1).repeat(50, 2)
    data = (fields + rng.integers(0, 50, (3, 2500, 600))).astype(np.uint8)
    options = {"driver": "GTiff", "width": 600, "height": 2500, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=from_origin(3e5, 5e6, 0.5, 0.5), **options) as out:
        out.write(data)
    return path


@pytest.fixture(scope="session")
def tall_model(tall_scene, tmp_path_factory) -> Path:
    """Four classes found on the tall scene, as a model file."""
    from geohp.inference.map_options import ModelOptions
    from geohp.inference.segment import resolve_segmenter
    from geohp.model.file import save_model

    model = resolve_segmenter(tall_scene, ModelOptions(classes=4)).model
    return save_model(model, tmp_path_factory.mktemp("model") / "model.safetensors")


# Sampled: the peaks that a system keeps may be those of the process that started this one.
SAMPLED = """
import atexit, threading, time
from pathlib import Path
most = 0
def sample():
    global most
    while True:
        most = max(most, int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        time.sleep(0.005)
threading.Thread(target=sample, daemon=True).start()
atexit.register(lambda: print(most / 2**20))
"""


@pytest.fixture
def peak_memory():
    """Run a script in a process of its own; gives what it printed, and the most memory it held in MiB."""
    if sys.platform != "linux":
        pytest.skip("Linux tells how much memory a process holds")

    def run(script: str, *arguments: object) -> tuple[str, float]:
        command = [sys.executable, "-c", SAMPLED + script, *map(str, arguments)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        printed, _, most = output.rstrip().rpartition("\n")
        return printed, float(most)

    return run
