"""A label raster anew, with the classes of a legend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geohp.classes import NODATA_LABEL
from geohp.files.checks import RASTERS, check_output, check_suffix, refuse_parts
from geohp.files.unfinished import may_replace
from geohp.legend.file import Legend, LegendSource
from geohp.legend.recoded_labels import RecodedLabels
from geohp.progress import Progress, default_progress
from geohp.raster.block import BLOCK_PX, Block, BlockGrid
from geohp.raster.read.inputs import file_input
from geohp.raster.read.labels import RECODED_TAG, LabelRaster, open_labels, opened_raster
from geohp.raster.write.layer import Layer, label_layer
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.resume_identity import file_states
from geohp.style import write_styles
from geohp.version import __version__

# How pixels are georeferenced is part of the grid, and how overviews were made is said anew.
_STRUCTURE = ("AREA_OR_POINT", "OVR_RESAMPLING_ALG", "LAYOUT")


def recode_file(
    labels: str | Path,
    out: str | Path,
    legend: LegendSource,
    *,
    qml: bool = False,
    overwrite: bool = False,
    block_px: int = BLOCK_PX,
    progress: Progress | None = None,
) -> Path:
    """Write a label raster with the classes of a legend.

    The result is a cloud-optimised GeoTIFF on the same grid: uint8, nodata 255, with a colour table and the classes in
    the band tag ``classes``. Other tags, and the band's description, are kept; one of its own tells its labels
    from the model's. Labels without a name are numbered as in :meth:`Legend.lookup`. The raster is gone through twice,
    in memory that does not grow with it; an interrupted run is taken up again by the same call.

    Args:
        labels: a raster with one band of integers.
        out: the file to write.
        legend: the names, as a mapping too, or the file that has them.
        qml: also write QGIS's style beside it (.qml).
        overwrite: replace existing files.
        block_px: side of a block.
        progress: called after every block with the stage "recoding"; the raster is gone through twice. By default a
            bar in a notebook.

    Returns:
        ``out``.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: a raster that is no label map, or too many labels without a name.
        ConfigError: no legend, that of another model, or one that names a label that the raster says it does not have.
        OutputError: ``out`` has another suffix than a GeoTIFF, exists already, is the input itself, or cannot be
            written.
    """
    progress = progress or default_progress()
    check_suffix(out, RASTERS, "rasters")
    labels, out = file_input(labels), Path(out)
    inputs = [labels, *([legend] if isinstance(legend, str | Path) else [])]
    styles = [out.with_suffix(".qml")] if qml else []
    for path in (out, *styles):
        check_output(path, overwrite=may_replace(out, path, overwrite=overwrite), inputs=inputs)
    legend = Legend.of(legend)
    with open_labels(labels) as raster:
        refuse_parts((out, *styles), raster.unchanged.states)
        blocks = BlockGrid(raster.grid.height, raster.grid.width, block_px).blocks
        recoded = RecodedLabels(raster, legend)
        for number, block in enumerate(blocks):  # only then all classes are known, which the file begins with
            recoded.read(block)
            progress("recoding", number + 1, 2 * len(blocks))
        layer = _layer(labels, recoded)
        identity = _identity(labels, raster.unchanged.states, legend, block_px)
        raster.unchanged.check()  # or the identity would be of another file than the classes
        with ResumableRasterWriter.open({out: layer}, raster.grid, identity, also=styles, overwrite=overwrite) as work:
            for number, block in enumerate(blocks):
                if block.origin not in work.finished:
                    work.put(block.row, block.col, {out: _block(recoded, block)})
                progress("recoding", len(blocks) + number + 1, 2 * len(blocks))
            raster.unchanged.check()
            work.publish()
            if qml:
                write_styles(out, recoded.classes, overwrite=True)  # which was looked at before
    return out


def _block(recoded: LabelRaster, block: Block) -> Any:
    values, valid = recoded.read(block)
    return np.where(valid, values, np.uint8(NODATA_LABEL))


def _layer(labels: str | Path, recoded: LabelRaster) -> Layer:
    """How the result is stored: like the raster itself, but for its classes."""
    with opened_raster(labels) as (dataset, _):
        band = recoded.band
        tags = {key: value for key, value in dataset.tags().items() if key not in _STRUCTURE}
        band_tags = {key: value for key, value in dataset.tags(band).items() if not key.startswith("STATISTICS_")}
        if recoded.model_sha256 is not None:
            tags[RECODED_TAG] = recoded.model_sha256
        description = dataset.descriptions[band - 1] or "land cover"
    layer = label_layer(recoded.classes, tags)
    return replace(layer, band_descriptions=(description,), band_tags={**band_tags, **layer.band_tags})


def _identity(labels: str | Path, files: Iterable[str], legend: Legend, block_px: int) -> dict[str, Any]:
    """What unfinished work must agree in to be gone on with; a changed file is noticed by its size and time."""
    path = Path(labels)
    return {
        "input": str(path.resolve()) if path.is_file() else str(labels),
        "input files": file_states(files),
        "legend": sorted(legend.labels.items()),
        "block": block_px,
        "geohp": __version__,
    }
