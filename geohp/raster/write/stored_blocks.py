"""One finished block of one raster as a small file: there whole, or not there."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geohp.files.atomic import store, write_failure
from geohp.raster.gdal import FAILURES, gdal_env
from geohp.raster.write.layer import Layer

# Thousands of blocks are decoded one after the other. From large tiles the process's memory would come out in holes
# that nothing fits into, hundreds of megabytes of them; small ones are as fast and leave it as it was.
BLOCK_TILE_PX = 128


class StoredBlock(NamedTuple):
    """A block of a layer on disk: the layer's number, the block's size in pixels, the file's in bytes, its CRC-32."""

    layer: int
    rows: int
    cols: int
    size: int
    checksum: int


def block_path(folder: Path, number: int, row: int, col: int) -> Path:
    """Where the block of layer ``number`` with its first pixel at (row, col) lies."""
    return folder / f"{number}-{row}-{col}.tif"


def write_block(
    folder: Path, number: int, layer: Layer, row: int, col: int, values: NDArray[Any]
) -> StoredBlock | None:
    """Store one block of one layer; needs nothing but the folder, and may run in any thread or process that sees it.

    Args:
        folder: the folder of the unfinished work.
        number: the layer's place among the outputs.
        layer: how it is stored.
        row, col: first row and column of the block in the raster.
        values: (rows, cols) or (bands, rows, cols), of a type that the layer's holds exactly.

    Returns:
        What to hand to :meth:`.ResumableRasterWriter.record`; ``None`` where the block is all nodata and needs no file.

    Raises:
        OutputError: the disk is full, or the folder is not there or not writable.
        ValueError: the values do not fit the layer.
    """
    values = layer.as_stored(values)
    path = block_path(folder, number, row, col)
    try:
        if layer.is_blank(values):
            path.unlink(missing_ok=True)  # of an earlier attempt
            return None
        content = _encode(values)
    except FAILURES as error:
        raise write_failure(path, error) from error
    store(path, content)
    _, rows, cols = values.shape
    return StoredBlock(number, rows, cols, len(content), zlib.crc32(content))


def has_full_size(folder: Path, row: int, col: int, stored: StoredBlock) -> bool:
    """Whether a block's file is there in its full length."""
    try:
        return block_path(folder, stored.layer, row, col).stat().st_size == stored.size
    except OSError:
        return False


def checksum_matches(folder: Path, row: int, col: int, stored: StoredBlock) -> bool:
    """Whether a block's file holds what was written; GDAL reads on over damaged bytes without a word."""
    try:
        return zlib.crc32(block_path(folder, stored.layer, row, col).read_bytes()) == stored.checksum
    except OSError:
        return False


def _encode(values: NDArray[Any]) -> bytes:
    """A tiled GeoTIFF in memory, so that a full disk shows where Python writes and not where GDAL closes."""
    bands, rows, cols = values.shape
    with gdal_env(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=bands,
            height=rows,
            width=cols,
            dtype=values.dtype.name,
            transform=Affine(1, 0, 0, 0, -1, rows),  # none at all, or its mirror image, would be warned of
            tiled=True,
            blockxsize=BLOCK_TILE_PX,
            blockysize=BLOCK_TILE_PX,
            interleave="band",
            compress="deflate",
            zlevel=1,  # read once or twice, then deleted
            bigtiff="if_safer",
        ) as dataset:
            dataset.write(values)
        return bytes(memory.getbuffer())
