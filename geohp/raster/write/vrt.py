"""Neighbouring rasters as one: a virtual raster over files that lie beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from affine import Affine

from geohp.files.atomic import write_bytes
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.write.assemble import add_source, virtual_raster
from geohp.raster.write.cog import remove_side_files
from geohp.raster.write.layer import Layer
from geohp.raster.write.overviews import TILE_PX

_SAME_PX = 1e-3
"""What two pixel sizes may differ over a raster's width, or an origin from the common grid, in pixels."""


@dataclass(frozen=True)
class GridMismatch:
    """Why rasters make no mosaic, as the end of a sentence."""

    reason: str


def common_grid(grids: Mapping[Path, Grid]) -> Grid | GridMismatch:
    """The grid that covers all rasters, from the first one's pixels on.

    Args:
        grids: where the pixels of each lie.
    """
    if not grids:
        return GridMismatch("there is no map")
    (first_path, first), *others = grids.items()
    for path, grid in grids.items():
        if grid.crs is None or grid.gcps:
            return GridMismatch(f"{path.name} has no CRS with a transform")
        if grid.transform.b or grid.transform.d or grid.transform.a <= 0 or grid.transform.e >= 0:
            return GridMismatch(f"{path.name} is not north-up")
    for path, grid in others:
        if grid.crs != first.crs:
            return GridMismatch(f"{path.name} has another CRS than {first_path.name}")
        for expected, step, pixels in (
            (first.transform.a, grid.transform.a, grid.width),
            (first.transform.e, grid.transform.e, grid.height),
        ):
            if abs(expected - step) * pixels > _SAME_PX * abs(expected):
                return GridMismatch(f"{path.name} has another pixel size than {first_path.name}")
    places = [_place(first, grid) for grid in grids.values()]
    left, top = min(x for x, _ in places), min(y for _, y in places)
    right = max(x + grid.width for (x, _), grid in zip(places, grids.values(), strict=True))
    bottom = max(y + grid.height for (_, y), grid in zip(places, grids.values(), strict=True))
    # Only whole pixels before the first one's: what lies between is rounded outwards.
    left, top = -_ceil(-left), -_ceil(-top)
    return Grid(_ceil(right - left), _ceil(bottom - top), first.transform * Affine.translation(left, top), first.crs)


def write_mosaic_vrt(path: Path, layer: Layer, grid: Grid, tiles: Mapping[Path, Grid]) -> None:
    """Write a virtual raster over files beside it, whole or not at all; later files lie on top.

    Where a file holds no data, those below show. A file whose pixels do not fall on the grid's is shifted by less than
    half a pixel.

    Args:
        path: the ``.vrt`` to write.
        layer: type, nodata, names and colours.
        grid: see :func:`common_grid`.
        tiles: files in the folder of ``path``, from the lowest to the topmost, and where their pixels lie.
    """
    root, bands = virtual_raster(layer, grid)
    for band, element in enumerate(bands, 1):
        for tile, tile_grid in tiles.items():
            col, row = _place(grid, tile_grid)
            place = Block(round(row), round(col), *tile_grid.shape)
            # A complex source leaves out the file's own nodata, a simple one would paint it over what lies below.
            source = add_source(element, "ComplexSource", tile.name, layer, band, place, TILE_PX)
            if layer.nodata is not None:
                ET.SubElement(source, "NODATA").text = repr(float(layer.nodata))
    ET.indent(root)
    write_bytes(path, ET.tostring(root, encoding="utf-8"), durable=True)
    remove_side_files(path)


def _place(grid: Grid, tile: Grid) -> tuple[float, float]:
    """Column and row of a tile's first pixel; a whole number where it is one but for rounding."""
    col, row = ~grid.transform * (tile.transform.c, tile.transform.f)
    return _snapped(col), _snapped(row)


def _snapped(value: float) -> float:
    return float(round(value)) if abs(value - round(value)) < _SAME_PX else value


def _ceil(value: float) -> int:
    return -int(-value // 1)
