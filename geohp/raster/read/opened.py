"""Rasters that GDAL has opened, and that may still hold nothing, or not what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from geohp.errors import SceneError
from geohp.raster.gdal import GDAL_FAILURES, gdal_message, numpy_dtype

_MOST_STORED = 2**29
"""Bytes of one stored block, of all its bands: to read a pixel GDAL decodes the whole of it, and holds it twice."""


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
