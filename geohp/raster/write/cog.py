"""From stored blocks to a cloud-optimised GeoTIFF that is known to be complete."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import rasterio.shutil

from geohp.raster.gdal import gdal_env, logged_errors, open_raster
from geohp.raster.grid import Grid
from geohp.raster.write.assemble import PlacedBlock, write_mosaic
from geohp.raster.write.layer import Layer
from geohp.raster.write.overviews import TILE_PX, Tile, build_overviews

# Files that GDAL keeps beside a raster; those of a replaced raster would be taken for the new one's.
_SIDE_FILES = (".aux.xml", ".ovr", ".msk")

# Blocks that GDAL holds open at a time: a hundred, its own choice, cost half a gigabyte and no less time.
_OPEN_BLOCKS = "20"


def assemble(folder: Path, name: str, layer: Layer, grid: Grid, stored: Collection[PlacedBlock]) -> Path:
    """Put the stored blocks of one layer together.

    The result depends on the pixels alone, not on how they are cut into blocks. Tiles without data are not stored.

    Args:
        folder: where the blocks lie; intermediate files, and the result, go there.
        name: of the result, without suffix.
        layer: how it is stored.
        grid: size and georeference.
        stored: blocks of this layer only; they must not overlap.

    Returns:
        The cloud-optimised GeoTIFF.
    """
    mosaic, cog = folder / f"{name}.vrt", folder / f"{name}.cog.tif"
    cog.unlink(missing_ok=True)
    stored = sorted(stored)
    try:
        with gdal_env(GDAL_MAX_DATASET_POOL_SIZE=_OPEN_BLOCKS), logged_errors() as errors:
            write_mosaic(mosaic, layer, grid, stored)
            overviews, filled = build_overviews(mosaic, layer, _tiles(stored))
            for overview, tiles in zip(overviews, filled[1:], strict=True):
                check_complete(overview, errors, [tiles])
            write_mosaic(mosaic, layer, grid, stored, overviews)
            rasterio.shutil.copy(
                mosaic,
                cog,
                driver="COG",
                compress="DEFLATE",
                # Neighbouring quantities are alike and their differences compress; class numbers are only names.
                predictor="YES" if layer.overviews == "average" else "NO",
                blocksize=TILE_PX,
                overviews="FORCE_USE_EXISTING",
                sparse_ok="YES",
                bigtiff="IF_SAFER",
                num_threads="ALL_CPUS",
            )
            check_complete(cog, errors, filled)
    except BaseException:
        cog.unlink(missing_ok=True)
        raise
    finally:
        for path in (mosaic, *folder.glob(f"{name}.level*.tif*")):
            path.unlink(missing_ok=True)
    return cog


def check_complete(path: Path, errors: Sequence[str], filled: Sequence[Collection[Tile]]) -> None:
    """Raise OSError unless every tile that holds data lies inside a TIFF.

    GDAL writes its last blocks while it closes, where a full disk raises nothing: a block that could not be written is
    simply absent, and would read as nodata.

    Args:
        path: the file.
        errors: what GDAL has logged so far.
        filled: for the full resolution and then each overview, the tiles that are not all nodata.
    """
    if errors:
        raise OSError(errors[0])
    size = path.stat().st_size
    with open_raster(path) as dataset:
        levels = len(dataset.overviews(1))
    if levels != len(filled) - 1:
        raise OSError(f"{levels} overviews were stored instead of {len(filled) - 1}")
    for level, tiles in enumerate(filled):
        with open_raster(path, "r", **({"overview_level": level - 1} if level else {})) as dataset:
            for row, col in sorted(tiles):  # each with all its bands
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)
                if offset is None or length is None or int(offset) + int(length) > size:
                    raise OSError(f"a block at row {row}, column {col} was not stored")


def remove_side_files(path: Path) -> None:
    """Remove what GDAL kept beside a raster that has just been replaced."""
    for suffix in _SIDE_FILES:
        with suppress(OSError):
            Path(f"{path}{suffix}").unlink()


def _tiles(stored: Collection[PlacedBlock]) -> set[Tile]:
    """The tiles of the raster that stored blocks touch."""
    return {
        (tile_row, tile_col)
        for block, _ in stored
        for tile_row in range(block.row // TILE_PX, (block.bottom - 1) // TILE_PX + 1)
        for tile_col in range(block.col // TILE_PX, (block.right - 1) // TILE_PX + 1)
    }
