"""What a raster says of itself: bands, values, and where it lies; of a label map its classes and their areas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.inference.areas import ClassArea, Tally, class_areas, pixel_areas, tally
from geohp.raster.block import BLOCK_PX, BlockGrid
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster, as_label_map, opened_raster

_COUNTED_PX = 50_000_000
"""Areas are counted in maps of up to so many pixels, a second's work."""


@dataclass(frozen=True)
class BandInfo:
    """A band.

    Attributes:
        number: from 1.
        description: its name, empty where it has none.
        colour: GDAL's colour interpretation, such as "red" or "undefined".
        dtype: of its values.
        nodata: value without data, "nan" or "inf" where that is no finite number (which JSON cannot hold); ``None``
            where none is declared.
    """

    number: int
    description: str
    colour: str
    dtype: str
    nodata: float | str | None


@dataclass(frozen=True)
class RasterInfo:
    """What a raster says of itself.

    Attributes:
        path: as given; driver: GDAL's name of the format.
        width, height: in pixels.
        bands: all of them.
        crs: authority and code, or the definition as WKT; ``None`` where undeclared.
        crs_name: the name of it.
        georeferenced: whether anything says where the pixels lie.
        pixel_size: of a column and of a row in units of the CRS; ``None`` where not georeferenced.
        pixel_size_m: ground sampling distance at the middle, in metres; ``None`` where that is unknown.
        bounds: west, south, east, north in the CRS; ``None`` where not georeferenced.
        overviews: factors of the reduced copies in it.
        is_map: whether it is a label map with classes.
        classes: of a map; model_sha256: of the model it was made by, where it says so.
        areas: by class; empty of what is no map, or of a map too large to be counted at once.
    """

    path: str
    driver: str
    width: int
    height: int
    bands: tuple[BandInfo, ...]
    crs: str | None
    crs_name: str | None
    georeferenced: bool
    pixel_size: tuple[float, float] | None
    pixel_size_m: float | None
    bounds: tuple[float, float, float, float] | None
    overviews: tuple[int, ...]
    is_map: bool = False
    classes: tuple[LandCoverClass, ...] = ()
    model_sha256: str | None = None
    areas: tuple[ClassArea, ...] = ()


def raster_info(path: str | Path, *, counted_px: int = _COUNTED_PX) -> RasterInfo:
    """Look at a raster.

    Args:
        path: anything GDAL opens.
        counted_px: areas of classes are counted in maps of up to so many pixels.

    Raises:
        SceneError: it cannot be opened, or not be read.
    """
    with opened_raster(path) as (dataset, name):
        grid = Grid.of(dataset)
        info = _described(dataset, name, grid)
        labels = as_label_map(dataset, name)
        if labels is None:
            return info
        small = grid.width * grid.height <= counted_px and info.bands[labels.band - 1].dtype == "uint8"
        return replace(
            info,
            is_map=True,
            classes=labels.classes,
            model_sha256=labels.model_sha256,
            areas=_areas(labels) if small else (),
        )


def _described(dataset: Any, name: str, grid: Grid) -> RasterInfo:
    affine = grid.affine
    return RasterInfo(
        path=name,
        driver=dataset.driver,
        width=grid.width,
        height=grid.height,
        bands=tuple(
            BandInfo(number, description or "", colour.name, dtype, _nodata(nodata))
            for number, (description, colour, dtype, nodata) in enumerate(
                zip(dataset.descriptions, dataset.colorinterp, dataset.dtypes, dataset.nodatavals, strict=True), start=1
            )
        ),
        crs=None if grid.crs is None else grid.crs.to_string(),
        crs_name=_crs_name(grid),
        georeferenced=grid.is_georeferenced,
        pixel_size=(
            (float(np.hypot(affine.a, affine.d)), float(np.hypot(affine.b, affine.e)))
            if grid.is_georeferenced
            else None
        ),
        pixel_size_m=grid.pixel_size_m,
        bounds=_bounds(grid) if grid.is_georeferenced else None,
        overviews=tuple(dataset.overviews(1)) if dataset.count else (),
    )


def _nodata(value: float | None) -> float | str | None:
    return value if value is None or np.isfinite(value) else str(float(value))


def _crs_name(grid: Grid) -> str | None:
    if grid.crs is None:
        return None
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return str(CRS.from_wkt(grid.crs.to_wkt()).name)
    except CRSError:
        return None


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    corners = [grid.affine * (col, row) for col in (0, grid.width) for row in (0, grid.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _areas(labels: LabelRaster) -> tuple[ClassArea, ...]:
    areas = class_areas(_tallies(labels), labels.classes, labels.grid)
    return tuple(replace(area, mean_confidence=None) for area in areas)  # which the map does not hold


def _tallies(labels: LabelRaster) -> Iterator[Tally]:
    pixels = pixel_areas(labels.grid)
    for block in BlockGrid(labels.grid.height, labels.grid.width, BLOCK_PX).blocks:
        values, valid = labels.read(block)
        counted = np.where(valid, values, NODATA_LABEL).astype(np.uint8)
        yield tally(block, {"labels": counted, "confidence": counted}, pixels)
