"""From a scene to its label map in memory: by the model asked for, the newest run's, or k-means on the scene itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from geohp.errors import ConfigError
from geohp.inference.checks import model_path
from geohp.inference.extent import Extent, read_area
from geohp.inference.map_options import ModelOptions, SegmentOptions
from geohp.inference.segmenter import Segmenter, as_scene
from geohp.options import keywords
from geohp.progress import Progress, no_progress
from geohp.raster.area_of_interest import asked_area
from geohp.raster.read.scene import Scene

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)


@keywords(SegmentOptions)
def segment(scene: Any, options: SegmentOptions) -> xr.DataArray:
    """Label a scene without a single label.

    Args:
        scene: a path or URL that GDAL opens, an open :class:`~geohp.raster.read.scene.Scene`, or an
            ``xarray.DataArray`` (band, y, x) with ``.rio`` georeference; also an ``xarray.Dataset``, whose variables
            are the bands, an open rasterio dataset, and an array, a tensor (bands, rows, columns) or a sample of
            TorchGeo's, which lie nowhere on Earth. Of dask chunks nothing is computed but what a fit or a measured
            scaling samples: 256 patches of 64 x 64 px, and the windows fitted on.
        model, legend, device: see :class:`geohp.inference.map_options.ModelOptions`.
        classes, backbone, weights, block, bands, scaling, seed, split_covers: see
            :class:`geohp.options.FitOptions`.
        overlap, window_px, pixel_size_m, tta, refine: see :class:`geohp.options.WindowOptions`.
        aoi, aoi_layer, crop: see :class:`geohp.options.ExtentOptions`.
        progress: see :class:`geohp.inference.map_options.SegmentOptions`; of dask chunks it hears of a fit alone.

    Returns:
        (y, x) uint8 labels, nodata 255, with CRS and transform; ``.geohp`` plots, measures and writes them. Of dask
        chunks: in dask chunks, each computed when asked for, from the chunks that its windows touch. The classes are in
        ``attrs["classes"]`` as JSON, the model and how it was used in attributes that begin with ``GEOHP_``.

    Raises:
        GeohpError: one sentence that says what is wrong with the scene, the model or the options.
    """
    options = read_area(options)
    segmenter = resolve_segmenter(scene, options, progress=options.progress)
    with segmenter.open(scene) as opened:
        extent = Extent.of(opened.grid, opened.path, options)
        return segmenter.segment(opened, options, extent, options.progress)


def resolve_segmenter(
    scene: Any, options: ModelOptions, *, errors_as_nodata: bool = False, progress: Progress = no_progress
) -> Segmenter:
    """The model to label a scene with, its classes named by the legend.

    Args:
        scene: what :func:`geohp.segment` takes.
        options: see there what is used; ``Segmenter.origin`` says what it was.
        errors_as_nodata: find classes where the scene can be read.
        progress: of finding classes.

    Raises:
        ConfigError: bands or a scaling for a scene that is open already; see also :func:`load_segmenter`.
    """
    for name in ("bands", "scaling"):
        if isinstance(scene, Scene) and getattr(options, name) is not None:
            raise ConfigError(f"{{option}}: {scene.path} is open already and has its own", "open it so", option=name)
    segmenter = load_segmenter(options)
    if segmenter is None:
        with as_scene(scene, bands=options.bands, scaling=options.scaling or "auto") as opened:
            segmenter = Segmenter.fit(
                opened,
                options,
                device=options.device,
                errors_as_nodata=errors_as_nodata,
                area=asked_area(options),
                progress=progress,
            )
        logger.info("using %s", segmenter.origin)
    return segmenter if options.legend is None else segmenter.named(options.legend)


def load_segmenter(options: ModelOptions) -> Segmenter | None:
    """The model asked for, or that of the newest run; ``None`` where classes are to be found on the scene.

    Raises:
        ConfigError: a model together with what only a new fit can heed, bands that are not as many as the model takes,
            or weights without a backbone.
        ModelError: the model cannot be used.
    """
    if isinstance(options.model, Segmenter):
        model_path(options)
        return options.model.reading(options.bands, options.scaling)
    path = model_path(options)
    if path is None:
        return None
    segmenter = Segmenter.load(path, weights=options.weights, device=options.device)
    logger.info("using %s", segmenter.origin)
    if options.legend is None and segmenter.model.card.unmerged:
        logger.info(segmenter.model.card.unmerged)
    return segmenter.reading(options.bands, options.scaling)
