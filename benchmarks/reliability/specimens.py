"""Sound files that attacks begin with, made once by the commands: a scene, its map, a model, an unfinished training."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks.reliability.isolation import Ended, Limits, run_command, run_function

SCENE_PX = (96, 128)
"""Rows and columns of the scene: three fields of colour side by side."""
ORIGIN, PIXEL_M, CRS = (380_000.0, 5_800_000.0), 0.5, "EPSG:32633"
TINY = (
    "data.images=scene.tif", "data.patches=8", "data.patch_px=32", "backbone.options={filters: 16, channels: 8}",
    "classes.count=3", "train.epochs=1", "train.batch_size=4", "train.cache=off", "train.compare_kmeans=false",
    "method.code_channels=8",
)  # fmt: skip
"""Settings of a training of a second or two."""
TRANSFORMER = "vit_tiny_patch16_224"
BESIDE = (
    *TINY[:3], f"backbone.name={TRANSFORMER}", "backbone.block=0", "classes.count=6", "classes.extra_clusters=3",
    "train.cache=off", "train.batch_size=4",
)  # fmt: skip
"""Settings of one of k-means on a transformer's features with colour beside, which gathers a cover."""


@dataclass(frozen=True)
class Specimens:
    """Files, all in one folder; nobody writes to them."""

    folder: Path

    @property
    def scene(self) -> Path:
        """Three bands of uint8."""
        return self.folder / "scene.tif"

    @property
    def labels(self) -> Path:
        """The scene's map, of three classes."""
        return self.folder / "labels.tif"

    @property
    def beside(self) -> Path:
        """A model of k-means on a transformer's features with colour beside: a cover, and clusters to spare."""
        return _beside() / "model.safetensors"

    @property
    def weights(self) -> Path:
        """The weights of its transformer."""
        return _beside().with_name("vit.safetensors")

    @property
    def labels_beside(self) -> Path:
        """The scene's map by that."""
        return _beside() / "labels.tif"

    @property
    def later(self) -> Path:
        """The same map, as if of another date."""
        return self.folder / "later.tif"

    @property
    def run(self) -> Path:
        """A run folder."""
        return self.folder / "run"

    @property
    def model(self) -> Path:
        """The model of the run."""
        return self.run / "model.safetensors"


@cache
def specimens() -> Specimens:
    """They are made when first asked for, and go with the process."""
    made = Specimens(Path(tempfile.mkdtemp(prefix="specimens-")))
    atexit.register(shutil.rmtree, made.folder, ignore_errors=True)
    write_scene(made.scene)
    settings = [word for setting in TINY for word in ("--set", setting)]
    must(run_command(["train", "orthophotos-hp", *settings, "--out", made.run], made.folder, Limits(seconds=300)))
    must(run_command(["segment", made.scene, "--model", made.run, "--out", made.labels], made.folder, Limits(300)))
    shutil.copy(made.labels, made.later)
    return made


@cache
def _beside() -> Path:
    """The run folder of the model with colour beside, and the scene's map in it; made when first asked for."""
    made = specimens()
    weights, run = made.folder / "vit.safetensors", made.folder / "beside"
    must(run_function(lambda: write_transformer(weights), made.folder, Limits(seconds=300)))
    settings = [word for setting in (*BESIDE, f"backbone.weights={weights}") for word in ("--set", setting)]
    must(run_command(["train", "orthophotos", *settings, "--out", run], made.folder, Limits(seconds=300)))
    must(run_command(["segment", made.scene, "--model", run, "--out", run / "labels.tif"], made.folder, Limits(300)))
    return run


def write_transformer(path: Path) -> None:
    """Random weights of the first block of a small transformer."""
    from safetensors.torch import save_file

    from geohp.backbones.vit import VisionTransformer

    save_file(VisionTransformer(TRANSFORMER, block=0).model.state_dict(), path)


def write_scene(path: Path, shape: tuple[int, int] = SCENE_PX) -> Path:
    """Three fields of noisy colour, which any clustering tells apart."""
    rows, cols = shape
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    fields = colours[np.arange(cols) * 3 // cols].T[:, None].repeat(rows, axis=1)
    values = np.clip(fields + np.random.default_rng(7).normal(0, 8, (3, rows, cols)), 1, 255).astype(np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": rows, "width": cols, "dtype": "uint8", "crs": CRS}
    with rasterio.open(path, "w", **profile, transform=from_origin(*ORIGIN, PIXEL_M, PIXEL_M)) as dataset:
        dataset.write(values)
    return path


def must(ended: Ended) -> Ended:
    """A command that has to succeed for an attack to mean anything."""
    if ended.code != 0:
        raise RuntimeError(f"code {ended.code}: {ended.err[-2000:]}")
    return ended
