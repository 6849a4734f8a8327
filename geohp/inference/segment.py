"""From a scene to its label map in memory, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geohp.inference.map_options import SegmentOptions
from geohp.inference.resolve import resolve_segmenter
from geohp.options import keywords

if TYPE_CHECKING:
    import xarray as xr


@keywords(SegmentOptions)
def segment(scene: Any, options: SegmentOptions) -> xr.DataArray:
    """Label a scene without a single label.

    Args:
        scene: a path or URL that GDAL opens, an open :class:`~geohp.raster.read.scene.Scene`, or an
            ``xarray.DataArray`` (band, y, x) with ``.rio`` georeference. Of dask chunks nothing is computed but what
            a fit or a measured scaling samples: 256 patches of 64 x 64 px, and the windows fitted on.
        model, legend, device: see :class:`geohp.inference.map_options.ModelOptions`.
        classes, backbone, weights, block, bands, scaling, seed: see :class:`geohp.options.FitOptions`.
        overlap, window_px, pixel_size_m, tta, refine: see :class:`geohp.options.WindowOptions`.

    Returns:
        (y, x) uint8 labels, nodata 255, with CRS and transform; the classes as JSON in ``attrs["classes"]``. Of dask
        chunks: in dask chunks, each computed when asked for, from the chunks that its windows touch.

    Raises:
        GeohpError: one sentence that says what is wrong with the scene, the model or the options.
    """
    segmenter = resolve_segmenter(scene, options)
    with segmenter.open(scene) as opened:
        return segmenter.segment(opened, options)
