"""Many scenes at once: one model, one scaling, a map of each in a folder, and all maps as one mosaic."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.errors import ConfigError, SceneError, SourceError
from geohp.files.checks import check_name, check_output
from geohp.inference.checks import check_mapping
from geohp.inference.extent import read_area
from geohp.inference.folder_record import FolderRecord, output_folder
from geohp.inference.map_options import MapOptions
from geohp.inference.products import folder_products
from geohp.options import keywords
from geohp.raster.area_of_interest import AreaOfInterest, asked_area
from geohp.raster.grid import Grid
from geohp.raster.read.inputs import file_input
from geohp.raster.read.labels import opened_raster
from geohp.raster.sources.find import find_images

if TYPE_CHECKING:
    from geohp.inference.folder_maps import BatchResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchOptions(MapOptions):
    """All that can be asked of many scenes' maps.

    Attributes:
        products: what else to write of each scene, out of :data:`geohp.inference.products.PRODUCTS`.
    """

    products: Iterable[str] = ()


@keywords(BatchOptions)
def segment_files(scenes: str | Path | Iterable[str | Path], out_dir: str | Path, options: BatchOptions) -> BatchResult:
    """Label many scenes with one model into a folder: ``NAME.tif`` of each, and ``mosaic.vrt`` over all of them.

    The same ground gets the same class in every map: classes are found on all scenes together where no model is
    given, and a scaling that measures pixel values measures those of all scenes. Both are remembered in the folder, the
    model as ``model.safetensors``, so that scenes added by a later call get the same classes.

    The same call after an interruption goes on; maps that are there, made by this model with these settings of
    unchanged files, are not made again. A scene that cannot be read does not stop the others; it is logged in the end.

    Args:
        scenes: files, folders, glob patterns, or anything else that GDAL opens.
        out_dir: created where it is missing.
        products: what else to write of each scene: ``confidence``, ``entropy`` and ``probabilities``
            (``NAME_confidence.tif``, ...), ``polygons`` (``NAME.gpkg``), ``qml`` (``NAME.qml``, ... : QGIS's styles),
            ``stac`` (``NAME.json``, a STAC Item).
        model, legend, device: see :class:`geohp.inference.map_options.ModelOptions`.
        classes, backbone, weights, block, bands, scaling, seed, split_covers: see
            :class:`geohp.options.FitOptions`.
        overlap, window_px, pixel_size_m, tta, refine: see :class:`geohp.options.WindowOptions`.
        aoi, aoi_layer, crop: see :class:`geohp.options.ExtentOptions`; scenes that lie elsewhere get no map.
        on_read_error: ``stop`` to give up a scene that cannot be read, or ``nodata`` to leave out the parts.
        restart: begin unfinished work anew, and find classes and scaling anew.
        client, progress: see :class:`geohp.inference.map_options.RasterOptions`.
        min_area_m2, simplify_m, smooth, simplify_boundary: see :class:`geohp.options.PolygonOptions`.
        datetime: when the scenes were taken, for their STAC Items; by default what their files say.
        overwrite: replace files that something else has made.

    Returns:
        What became of each scene; see :attr:`BatchResult.failed`.

    Raises:
        ConfigError: an unknown product, or options that cannot be used.
        SceneError: no scene, or none that can be opened to find classes on.
        OutputError: two scenes of one name, files in the folder that something else has made, or a full disk.
    """
    return map_scenes(scenes, out_dir, options.products, options)


def map_scenes(
    scenes: str | Path | Iterable[str | Path], out_dir: str | Path, products: Iterable[str], options: MapOptions
) -> BatchResult:
    """:func:`segment_files` with its options as an object."""
    folder, products = check_name(out_dir), list(products)
    paths = find_images([scenes] if isinstance(scenes, (str, Path)) else map(file_input, scenes), leave_out=folder)
    options = read_area(options)
    paths = _in_area(paths, options)
    if not paths:
        raise SceneError("no scenes to label", "give files, folders or patterns such as 'tiles/*.tif'")
    targets = folder_products(paths, folder, products)
    if options.datetime is not None and "stac" not in {kind.strip() for kind in products}:
        raise ConfigError("{option}: is for STAC Items", "ask for them, too, or leave it out", option="datetime")
    check_mapping(options)
    with output_folder(folder), FolderRecord(folder) as record:
        if not options.overwrite:
            for path in [path for target in targets.values() for path in target.paths.values()]:
                check_output(path, overwrite=record.holds(path))
        # Not before: whatever is wrong with files and options is found without torch, which takes seconds.
        from geohp.inference.folder_maps import map_folder

        return map_folder(record, targets, options)


def _in_area(paths: list[str], options: MapOptions) -> list[str]:
    """The scenes that have a share in the area asked for; of those that cannot be opened or placed, it is told later.

    Raises:
        SourceError: none has, or all that may have one do not say where they lie.
    """
    area = asked_area(options)
    if area is None:
        return paths
    inside: list[str] = []
    unplaced: list[SourceError] = []
    for path in paths:
        try:
            if not _meets(area, path):
                continue
        except SourceError as error:
            unplaced.append(error)
        inside.append(path)
    if unplaced and len(unplaced) == len(inside):
        raise unplaced[0]
    if not inside and paths:
        problem = f"{area.name} lies beside all {len(paths)} scenes: they share no pixel"
        raise SourceError(problem, "check its coordinates and CRS")
    if len(inside) < len(paths):
        logger.info("%d of %d scenes lie outside %s", len(paths) - len(inside), len(paths), area.name)
    return inside


def _meets(area: AreaOfInterest, path: str) -> bool:
    try:
        with opened_raster(path) as (dataset, name):
            grid = Grid.of(dataset)
    except SceneError:
        return True
    return area.on(grid, name) is not None
