"""A label map in memory as a cloud-optimised GeoTIFF like those that are written of scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.files.checks import RASTERS, check_output, check_suffix
from geohp.progress import Progress, no_progress
from geohp.raster.block import BLOCK_PX, Block, BlockGrid
from geohp.raster.read.arrays import ATTRIBUTES, unmasked
from geohp.raster.read.label_array import open_label_array
from geohp.raster.read.labels import LabelRaster, complete_classes
from geohp.raster.write.layer import label_layer
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.version import __version__

if TYPE_CHECKING:
    from xarray import DataArray


def write_label_map(
    labels: DataArray, path: str | Path, *, overwrite: bool = False, progress: Progress = no_progress
) -> Path:
    """Write a label map with its colour table, class names, overviews and what it says of its model.

    Dask chunks are computed block by block, in memory that does not grow with the map; an interrupted call goes on
    where it was.

    Args:
        labels: (y, x) integers from 0 to 254, as for :func:`geohp.polygonize`.
        path: the GeoTIFF.
        overwrite: replace it if it exists.
        progress: called after every block with the stage "writing".

    Returns:
        ``path``.

    Raises:
        VectorError: no label map, or labels beyond 254.
        OutputError: another suffix, a file that exists, or one that cannot be written.
    """
    from dask.base import tokenize

    check_suffix(path, RASTERS, "rasters")
    path = check_output(path, overwrite=overwrite)
    identity = {"labels": tokenize(labels), "geohp": __version__}
    labels = unmasked(labels)
    with open_label_array(labels) as raster:
        blocks = BlockGrid(raster.grid.height, raster.grid.width, BLOCK_PX).blocks
        tags = {name: str(value) for name, value in labels.attrs.items() if str(name).startswith(ATTRIBUTES)}
        layer = label_layer(_classes(raster, blocks), tags)
        with ResumableRasterWriter.open({path: layer}, raster.grid, identity, overwrite=overwrite) as work:
            for number, block in enumerate(blocks):
                if block.origin not in work.finished:
                    work.put(*block.origin, {path: raster.read_bytes(block)})
                progress("writing", number + 1, len(blocks))
            work.publish()
    return path


def _classes(raster: LabelRaster, blocks: list[Block]) -> tuple[LandCoverClass, ...]:
    """Those that the map declares, else a class for every label."""
    if raster.labels is not None:
        return raster.classes
    occurring: set[Any] = set()
    for block in blocks:
        occurring.update(np.unique(raster.read_bytes(block)).tolist())
    return complete_classes(raster.classes, np.array(sorted(occurring - {NODATA_LABEL})))
