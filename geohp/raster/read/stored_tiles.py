"""Which tiles of a raster are stored at all: of the others GDAL makes up pixels without data, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block
from geohp.raster.gdal import FAILURES
from geohp.raster.read.validity import ValidityPlan

_MOST_TILES = 2**21
"""Of rasters of more tiles nothing is known: to ask for each takes microseconds, and headers may say anything."""
_VRT_TILE_PX = 256
_SIMPLE = frozenset({"SimpleSource", "ComplexSource"})
"""Sources of virtual rasters that show nothing outside their rectangle."""
_OF_SOURCES = frozenset(
    {"Metadata", "Description", "NoDataValue", "Scale", "Offset", "ColorInterp", "ColorTable", "Overview"}
)
"""What else a band of a virtual raster may have without other pixels than its sources'."""


def known_tiles(dataset: Any, plan: ValidityPlan, bands: Sequence[int]) -> StoredTiles | None:
    """The tiles that alone can hold valid pixels.

    Args:
        dataset: open, of rasterio.
        plan: which of its pixels are valid.
        bands: those that it was planned for.

    Returns:
        ``None`` where any tile can, or nothing is known.
    """
    try:
        return StoredTiles.of(dataset) if plan.unstored_is_invalid(dataset, bands) else None
    except FAILURES:  # reading will say what is wrong
        return None


@dataclass(frozen=True)
class StoredTiles:
    """The tiles of a raster, in rows and columns from its first pixel.

    Attributes:
        stored: (rows, cols) bool: whether any band has the tile; of a virtual raster, whether a source reaches into it.
        tile: rows and columns of a tile in pixels.
    """

    stored: NDArray[np.bool_]
    tile: tuple[int, int]

    @classmethod
    def of(cls, dataset: Any) -> StoredTiles | None:
        """Of an open rasterio dataset; ``None`` where all are stored, or nothing is known."""
        tiles = None
        tall, wide = dataset.block_shapes[0] if dataset.driver == "GTiff" else (_VRT_TILE_PX, _VRT_TILE_PX)
        if -(-dataset.height // tall) * -(-dataset.width // wide) > _MOST_TILES:
            return None
        if dataset.driver == "GTiff" and Path(dataset.name).is_file():
            tiles = cls._of_geotiff(dataset)
        elif dataset.driver == "VRT":
            tiles = cls._of_virtual(dataset)
        return None if tiles is None or tiles.stored.all() else tiles

    @classmethod
    def _of_geotiff(cls, dataset: Any) -> StoredTiles:
        tall, wide = dataset.block_shapes[0]
        stored = np.zeros((-(-dataset.height // tall), -(-dataset.width // wide)), bool)
        # Interleaved by pixel, all bands share a tile.
        bands = [1] if dataset.profile.get("interleave") == "pixel" else dataset.indexes
        for row, col in np.ndindex(stored.shape):
            item = f"BLOCK_OFFSET_{col}_{row}"
            stored[row, col] = any(dataset.get_tag_item(item, "TIFF", bidx=band) is not None for band in bands)
        return cls(stored, (tall, wide))

    @classmethod
    def _of_virtual(cls, dataset: Any) -> StoredTiles | None:
        try:
            root = ET.fromstring(dataset.tags(ns="xml:VRT").get("xml:VRT", ""))
        except ET.ParseError:
            return None
        bands = root.findall("VRTRasterBand")
        if root.get("subClass") is not None or len(bands) != dataset.count:
            return None
        stored = np.zeros((-(-dataset.height // _VRT_TILE_PX), -(-dataset.width // _VRT_TILE_PX)), bool)
        for band in bands:
            if band.get("subClass") is not None or not {child.tag for child in band} <= _SIMPLE | _OF_SOURCES:
                return None
            for source in (child for child in band if child.tag in _SIMPLE):
                place = source.find("DstRect")
                if place is None:  # all of the raster
                    return None
                left, top, width, height = (float(place.get(key, "nan")) for key in ("xOff", "yOff", "xSize", "ySize"))
                if not all(map(np.isfinite, (left, top, width, height))):
                    return None
                rows, cols = (  # a pixel more, since GDAL rounds fractions of one
                    slice(max(0, int((first - 1) // _VRT_TILE_PX)), max(0, int(-(-(first + side + 1) // _VRT_TILE_PX))))
                    for first, side in ((top, height), (left, width))
                )
                stored[rows, cols] = True
        return cls(stored, (_VRT_TILE_PX, _VRT_TILE_PX))

    def touch(self, block: Block) -> bool:
        """Whether any pixel of a block lies in a stored tile."""
        tall, wide = self.tile
        rows = slice(block.row // tall, -(-block.bottom // tall))
        return bool(self.stored[rows, block.col // wide : -(-block.right // wide)].any())

    def blocks(self, most: int, shape: tuple[int, int]) -> list[Block]:
        """Stored tiles, up to so many spread over all of them, of a raster of so many rows and columns."""
        rows, cols = np.nonzero(self.stored)
        chosen = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
        tall, wide = self.tile
        return [Block(int(rows[i]) * tall, int(cols[i]) * wide, tall, wide).clip(shape) for i in chosen]
