"""Polygons of a GIS layer on the pixels of an image, each a number: fields, parcels or buildings as mask proposals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import geopandas
import numpy as np
from numpy.typing import NDArray

from geohp.errors import DataError
from geohp.files.reading import failure_reason
from geohp.legend.features import check_crs, extent_in, known_crs
from geohp.legend.references import Reference, open_reference
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles
from geohp.raster.sources.vector_files import (
    VECTOR_FAILURES,
    is_parquet,
    layer_info,
    layers_with_geometry,
    read_layer,
)

_NUMBER = "number"


@dataclass(frozen=True)
class PolygonLayers:
    """Files of polygons that lie over images.

    Attributes:
        files: any that GDAL reads, and GeoParquet; where polygons of several lie, those of the first count.
        layer: of files that have several.
        unchanged: the files as they were when they were named.
    """

    files: tuple[str, ...]
    layer: str | None = None
    unchanged: UnchangedFiles = field(default=NOTHING_TO_WATCH, repr=False, compare=False)

    def open(self, image: str, grid: Grid) -> PolygonNumbers:
        """The polygons over an image, reprojected to its pixels.

        Args:
            image: its name in messages.
            grid: of its pixels.

        Raises:
            DataError: no polygons, or none that can be placed on the image.
            VectorError: a CRS that is not understood.
        """
        pixels = cast(LabelRaster, SimpleNamespace(grid=grid, name=image))  # all that a reference asks of a map
        layers = []
        with ExitStack() as stack:
            for path in self.files:
                frame = _numbered(path, self.layer, pixels)
                layer = stack.enter_context(open_reference(frame, pixels, field=_NUMBER, layer=None))
                if layer.unit == "points":
                    raise DataError(f"{path}: holds points, which cover no ground", "give polygons as mask proposals")
                layers.append((layer, len(frame)))
        return PolygonNumbers(layers)


class PolygonNumbers:
    """Numbers of polygons on an image's pixels.

    Args:
        layers: each with how many polygons it has.
    """

    def __init__(self, layers: Sequence[tuple[Reference, int]]) -> None:
        self._layers = layers

    def read(self, block: Block) -> NDArray[np.int64]:
        """(rows, cols) the number of the polygon over each pixel's centre, -1 where there is none."""
        numbers, first = np.full(block.shape, -1, np.int64), 0
        for layer, count in self._layers:
            if (known := layer.sample(block)) is not None:
                covered = np.full(block.shape, -1, np.int64)
                covered[known[0]] = known[1] + first
                numbers = np.where(numbers < 0, covered, numbers)
            first += count
        return numbers


def check_present(path: str) -> None:
    """Refuse a file that is not there, also before any image is read, which would pass for the one that cannot be.

    Raises:
        DataError: with where it was looked for.
    """
    if "://" not in path and not Path(path).exists():
        raise DataError(f"data.mask_polygons = {path}: no such file (seen from {Path.cwd()})", "check the path")


def _numbered(path: str, layer: str | None, pixels: LabelRaster) -> geopandas.GeoDataFrame:
    """The polygons that may lie on an image, each with a number of its own in place of its attributes."""
    frame = _read(path, layer, pixels)
    return geopandas.GeoDataFrame({_NUMBER: range(len(frame))}, geometry=list(frame.geometry), crs=known_crs(frame.crs))


def _read(path: str, layer: str | None, pixels: LabelRaster) -> geopandas.GeoDataFrame:
    check_present(path)
    layers = layers_with_geometry(path) or []
    if not layers:
        raise DataError(f"{path}: has no layer with geometries", "give polygons as mask proposals")
    if layer not in layers and (layer is not None or len(layers) > 1):
        problem = f"{path}: has no layer {layer!r}" if layer is not None else f"{path}: has several layers"
        raise DataError(problem, f"name one with data.mask_layer: {', '.join(layers)}")
    try:
        if is_parquet(path):
            frame = geopandas.read_parquet(path)
            check_crs(known_crs(frame.crs), path, pixels)
            return frame
        crs = known_crs(layer_info(path, layer or layers[0])["crs"])
        check_crs(crs, path, pixels)
        extent: Any = extent_in(pixels.grid, crs)
        return read_layer(path, layer or layers[0], columns=[], bbox=extent)
    except DataError:
        raise
    except VECTOR_FAILURES as error:
        raise DataError(f"{path}: cannot be read ({failure_reason(error)})", "mend it or give another file") from error
