"""Overviews of a raster that may be mostly empty: only what holds data is read, halved and stored.

Each level halves the one below. Nodata neither votes nor weighs: an overview pixel has data where any of its four has.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block
from geohp.raster.gdal import open_raster
from geohp.raster.write.layer import Layer

TILE_PX = 512
"""Side of a tile of the outputs and their overviews."""

Tile = tuple[int, int]
"""Row and column in the grid of tiles of one level."""


def build_overviews(source: Path, layer: Layer, touched: Iterable[Tile]) -> tuple[list[Path], list[set[Tile]]]:
    """Store a raster's overviews, down to the level that fits into one tile.

    Args:
        source: the raster; its overviews go beside it, as GeoTIFFs that leave empty tiles out.
        layer: how it is stored.
        touched: tiles of the raster outside which all is nodata.

    Returns:
        The overviews' files, and for the raster and each of them the tiles that are not all nodata.
    """
    files: list[Path] = []
    filled: list[set[Tile]] = []
    candidates = set(touched)
    stem = source.stem
    while True:
        with open_raster(source) as below:
            rows, cols = below.shape
            if max(rows, cols) <= TILE_PX:
                filled.append({tile for tile in candidates if not layer.is_blank(_read(below, *tile, TILE_PX))})
                return files, filled
            path = source.with_name(f"{stem}.level{len(files) + 1}.tif")
            with _create(path, layer, (rows + 1) // 2, (cols + 1) // 2) as above:
                full, candidates = _halve_tiles(below, above, layer, candidates)
        files.append(path)
        filled.append(full)
        source = path


def _halve_tiles(below: Any, above: Any, layer: Layer, touched: set[Tile]) -> tuple[set[Tile], set[Tile]]:
    """Fill the level above; gives the tiles with data below, and the tiles that may have some above."""
    full: set[Tile] = set()
    parents = sorted({(row // 2, col // 2) for row, col in touched})
    for row, col in parents:
        values = _read(below, row, col, 2 * TILE_PX)
        for down in (0, 1):
            for right in (0, 1):
                quarter = values[:, down * TILE_PX :, right * TILE_PX :][:, :TILE_PX, :TILE_PX]
                if quarter.size and not layer.is_blank(quarter):
                    full.add((2 * row + down, 2 * col + right))
        halved = halve(values, layer)
        if not layer.is_blank(halved):
            above.write(halved, window=Block(row * TILE_PX, col * TILE_PX, *halved.shape[1:]).window)
    return full, set(parents)


def halve(values: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """Summarise (bands, rows, cols) to (bands, ceil(rows / 2), ceil(cols / 2)) of the same type, 2 x 2 pixels each.

    A last row or column without a partner stands for itself.
    """
    _, rows, cols = values.shape
    if rows % 2 or cols % 2:
        values = np.pad(values, ((0, 0), (0, rows % 2), (0, cols % 2)), mode="edge")
    quads = [np.ascontiguousarray(values[:, down::2, right::2]) for down in (0, 1) for right in (0, 1)]
    if layer.overviews == "nearest":
        return quads[0]
    return _average(quads, layer) if layer.overviews == "average" else _mode(quads, layer)


def _mode(quads: list[NDArray[Any]], layer: Layer) -> NDArray[Any]:
    """The commonest of four values, of equally common ones the first."""
    a, b, c, d = quads
    valid_a, valid_b, valid_c = (~layer.missing(quad) for quad in (a, b, c))
    result = d.copy()
    # From the weakest claim to the strongest: to be there at all, then to have an equal among the four.
    np.copyto(result, c, where=valid_c)
    np.copyto(result, b, where=valid_b)
    np.copyto(result, a, where=valid_a)
    np.copyto(result, c, where=valid_c & (c == d))
    np.copyto(result, b, where=valid_b & ((b == c) | (b == d)))
    np.copyto(result, a, where=valid_a & ((a == b) | (a == c) | (a == d)))
    return result


def _average(quads: list[NDArray[Any]], layer: Layer) -> NDArray[Any]:
    """The mean of those of four values that are data; integers rounded, halves up."""
    total = np.zeros(quads[0].shape, dtype=np.float64)
    count = np.zeros(quads[0].shape, dtype=np.uint8)
    for quad in quads:
        valid = ~layer.missing(quad)
        np.add(total, quad, out=total, where=valid)
        count += valid
    total /= np.maximum(count, 1)
    if np.issubdtype(quads[0].dtype, np.integer):
        total = np.floor(total + 0.5)
    total[count == 0] = layer.fill
    return total.astype(quads[0].dtype)


def _read(dataset: Any, row: int, col: int, side: int) -> NDArray[Any]:
    block = Block(row * side, col * side, side, side).clip(dataset.shape)
    values: NDArray[Any] = dataset.read(window=block.window)
    return values


def _create(path: Path, layer: Layer, rows: int, cols: int) -> Any:
    return open_raster(
        path,
        "w",
        driver="GTiff",
        count=layer.bands,
        height=rows,
        width=cols,
        dtype=layer.dtype,
        nodata=layer.nodata,
        tiled=True,
        blockxsize=TILE_PX,
        blockysize=TILE_PX,
        interleave="pixel",
        compress="deflate",
        zlevel=1,  # this file lives for minutes
        sparse_ok=True,
        bigtiff="if_safer",
    )
