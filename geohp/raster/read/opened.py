"""Rasters opened by GDAL: why one is not, and that it may still hold nothing, or not what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geohp.errors import SceneError
from geohp.raster.gdal import FAILURES, GDAL_FAILURES, gdal_message, numpy_dtype, open_env, open_raster
from geohp.raster.read.unreachable import unreachable_error

_MOST_STORED = 2**29
"""Bytes of one stored block, of all its bands: to read a pixel GDAL decodes the whole of it, and holds it twice."""


def open_dataset(name: str) -> Any:
    """An open rasterio dataset of a file or an address; no environment of GDAL's stays entered for it.

    Raises:
        SceneError: it cannot be opened, with the remedy; UnreachableError where that is for its server.
    """
    try:
        with open_env(name):
            return open_raster(name, sharing=False)
    except (*FAILURES, ValueError) as error:
        raise unreachable_error(name, error) or SceneError(*_why_not(name, gdal_message(error))) from error


def _why_not(name: str, message: str) -> tuple[str, str]:
    """Why a raster cannot be opened, and what to do."""
    local = Path(name)
    if local.is_dir():
        return f"{name} is a folder, not a raster", "name a file in it"
    if local.exists():
        return f"{name} is not a raster GDAL can read ({message})", "give a GeoTIFF, VRT, JPEG, PNG or the like"
    if name.startswith("/vsi") or ":" in name:
        return f"{name} cannot be opened ({message})", "check the address and the access to it"
    return f"{name} does not exist", "check the path"


def check_readable(dataset: Any, name: str) -> None:
    """Refuse an open rasterio dataset without bands, or one whose smallest readable part would fill the memory.

    Raises:
        SceneError: with the remedy; of a container with the names of the rasters inside.
    """
    _refuse_empty(dataset, name)
    stored = max(
        rows * cols * numpy_dtype(dtype).itemsize
        for (rows, cols), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    )
    pixel_by_pixel = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    together = stored * (dataset.count if pixel_by_pixel else 1)
    if together > _MOST_STORED:
        raise SceneError(
            f"{name} is stored in blocks of {together / 1e9:.1f} GB, each of which has to be read as a whole",
            "rewrite it in small ones (gdal_translate -co TILED=YES)",
        )


def _refuse_empty(dataset: Any, name: str) -> None:
    if dataset.count:
        return
    if dataset.subdatasets:
        names = ", ".join(dataset.subdatasets[:8]) + (", ..." if len(dataset.subdatasets) > 8 else "")
        raise SceneError(f"{name} is a container of several rasters: open one of them by its full name: {names}")
    raise SceneError(f"{name} holds no raster bands: give an image.")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Within the ``with`` block, a damaged part of an open raster that GDAL comes upon is a SceneError."""
    try:
        yield
    except GDAL_FAILURES as error:
        raise SceneError(f"{name} cannot be read ({gdal_message(error)}): the file may be damaged.") from error
