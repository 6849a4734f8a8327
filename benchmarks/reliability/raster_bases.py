"""Sound files to be damaged or held against hostile ones: by GDAL, by geohp, and real ones where there are."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, PhotometricInterp

from benchmarks.reliability.isolation import Limits, run_function
from benchmarks.reliability.raster_generated import PLAIN
from benchmarks.reliability.specimens import TRANSFORMER, write_transformer

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
_REAL = (
    "RGBA.uint16.tif",
    "all-nodata.tif",
    "float_nan.tif",
    "image_51px.tif",
    "rotated.tif",
    "cogeo.tif",
    "201404_13SED190110_201404_0x1500m_CL_1_mask.tif",
)
_COMPANIONS = (
    *("scene.tif", "labels.tif", "numbers.tif", "model.safetensors", "legend.yaml"),
    *("covers.safetensors", "beside.safetensors", "vit.safetensors"),
)
"""What lies beside every hostile raster: a scene, its map, numbers that say nothing of a model, a model, names, a model
with covers, and one of a transformer with colour beside, whose weights are the last."""


@functools.cache
def bases() -> Path:
    """A folder of sound files; made once a process, removed when it ends.

    Raises:
        RuntimeError: they cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="reliability-bases-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ended = run_function(lambda: _make(folder), folder, Limits(seconds=300))
    if ended.code:
        raise RuntimeError(ended.err)
    return folder


def companions(folder: Path) -> None:
    """Copy the sound files that commands need beside a hostile one."""
    for name in _COMPANIONS:
        shutil.copyfile(bases() / name, folder / name)


def damageable() -> list[Path]:
    """What is to be damaged."""
    kept = {*_COMPANIONS[-3:]}
    return sorted(p for p in bases().iterdir() if p.suffix not in (".yaml", ".hdr", ".xml") and p.name not in kept)


def _make(folder: Path) -> None:
    from geohp.inference.segmenter import Segmenter
    from geohp.model.file import save_model
    from geohp.options import FitOptions
    from geohp.raster.read.scene import open_scene

    scene = folder / "scene.tif"
    _write(
        scene,
        _picture(),
        crs="EPSG:32633",
        transform=PLAIN,
        compress="deflate",
        tiled=True,
        blockxsize=32,
        blockysize=32,
    )
    with open_scene(scene) as opened:
        segmenter = Segmenter.fit(opened, FitOptions(classes=3))
    save_model(segmenter.model, folder / "model.safetensors")
    _map(scene, folder)
    _further_models(folder)
    (folder / "legend.yaml").write_text("0: water\n1: wood\n2: wood\n")
    _formats(folder)
    for path in (SHARED / "odd" / name for name in _REAL):
        if path.exists():
            shutil.copyfile(path, folder / f"real_{path.name}")
    for path in (SHARED / "scenes").glob("*.tif") if SHARED.exists() else ():
        _crop(path, folder / f"crop_{path.name}")


def _further_models(folder: Path) -> None:
    """A model that has gathered a cover, and one that sees colour beside a transformer's features."""
    from geohp.inference.segmenter import Segmenter
    from geohp.model.file import save_model
    from geohp.options import FitOptions
    from geohp.raster.read.scene import open_scene

    weights = folder / "vit.safetensors"
    write_transformer(weights)
    green = folder / "green.tif"
    values = _picture()
    values[:, :60] = np.array([60, 110, 50])[:, None, None] + values[:, :60] // 16
    _write(green, values, crs="EPSG:32633", transform=PLAIN)
    transformer = FitOptions(classes=3, backbone=TRANSFORMER, weights=weights, block=0)
    for name, options in (("covers", FitOptions(classes=3)), ("beside", transformer)):
        with open_scene(green) as opened:
            save_model(Segmenter.fit(opened, options).model, folder / f"{name}.safetensors")
    green.unlink()


def _picture() -> Any:
    rows, cols = np.indices((80, 96))
    rng = np.random.default_rng(5)
    kinds = (rows // 27 + cols // 33) % 3
    colours = np.array([[40, 90, 180], [60, 140, 60], [170, 160, 150]])
    return (colours[kinds].transpose(2, 0, 1) + rng.integers(0, 30, (3, 80, 96))).astype(np.uint8)


def _map(scene: Path, folder: Path) -> None:
    from geohp.inference.map_options import MapOptions
    from geohp.inference.map_scene import map_scene
    from geohp.inference.products import Products

    map_scene(scene, Products(folder / "labels.tif"), MapOptions(model=folder / "model.safetensors"))


def _write(path: Path, values: Any, **profile: Any) -> None:
    count, height, width = values.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": values.dtype.name,
        **profile,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
        if count == 4:
            dataset.colorinterp = [*dataset.colorinterp[:3], ColorInterp.alpha]


def _formats(folder: Path) -> None:
    """A scene in the formats that people send each other."""
    values = _picture()
    place = {"crs": "EPSG:32633", "transform": PLAIN}
    _write(folder / "strips.tif", values, **place, compress="lzw", predictor=2, blockysize=8)
    _write(folder / "planes.tif", values.astype(np.uint16) * 99, **place, interleave="band", nodata=0)
    _write(
        folder / "jpeg.tif",
        values,
        **place,
        compress="jpeg",
        photometric="ycbcr",
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    _write(folder / "big.tif", values.astype(np.float32) / 7, **place, bigtiff="yes", compress="zstd", nodata=-9999)
    alpha = np.where(np.indices((80, 96))[0] < 20, 0, 255).astype(np.uint8)
    _write(folder / "alpha.tif", np.concatenate([values, alpha[None]]), **place, compress="deflate", endianness="big")
    _write(folder / "numbers.tif", (values[:1] // 64), **place, compress="packbits")
    for driver, name in (
        ("COG", "cog.tif"),
        ("PNG", "png.png"),
        ("JPEG", "jpg.jpg"),
        ("JP2OpenJPEG", "jp2.jp2"),
        ("HFA", "hfa.img"),
        ("netCDF", "net.nc"),
        ("GPKG", "tiles.gpkg"),
        ("ENVI", "envi.dat"),
        ("WEBP", "webp.webp"),
        ("GIF", "gif.gif"),
        ("NITF", "nitf.ntf"),
        ("VRT", "virtual.vrt"),
    ):
        source = folder / ("numbers.tif" if driver == "GIF" else "scene.tif")
        rasterio.shutil.copy(source, folder / name, driver=driver, strict=False)


def _crop(source: Path, target: Path) -> None:
    """A corner of a real scene, stored as the scene is."""
    with rasterio.open(source) as dataset:
        side = 128
        window = rasterio.windows.Window(dataset.width // 3, dataset.height // 3, side, side)
        profile = dataset.profile | {"width": side, "height": side, "transform": dataset.window_transform(window)}
        if dataset.photometric is PhotometricInterp.ycbcr:
            profile["compress"] = "jpeg"  # rasterio 1.4.3 leaves out that one
        values = dataset.read(window=window)
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(values)
