"""The rasters of a map, written block by block in memory that does not grow with the scene."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

from geohp.classes import NODATA_LABEL, QUANTITY_STEPS
from geohp.errors import ConfigError
from geohp.inference.areas import ClassArea, class_areas, tallies_in
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.engine.settings import EngineSettings, engine_settings
from geohp.inference.extent import Extent
from geohp.inference.identity import run_identity, scene_tags
from geohp.inference.map_options import RasterOptions
from geohp.inference.map_tags import map_tags
from geohp.inference.products import Products
from geohp.inference.segmenter import Segmenter
from geohp.inference.writing import Skipped, skipped_in, write_behind
from geohp.options import OnReadError
from geohp.raster.read.scene import Scene
from geohp.raster.write.layer import Layer, label_layer
from geohp.raster.write.resumable import ResumableRasterWriter


@dataclass(frozen=True)
class WrittenRasters:
    """What there is to say of a scene's rasters.

    Attributes:
        skipped: the parts left out.
        areas: how much each class covers; empty where that is not known.
    """

    skipped: tuple[Skipped, ...]
    areas: tuple[ClassArea, ...]


@contextmanager
def written_rasters(
    scene: Scene, segmenter: Segmenter, products: Products, options: RasterOptions, *, overwrite: bool = True
) -> Iterator[WrittenRasters]:
    """A scene labelled into cloud-optimised GeoTIFFs, and for the ``with`` block what there is to say of them.

    Finished blocks are kept beside the labels until all are there: after an interruption, however rude, the same call
    goes on, to the same bytes. That holds until the ``with`` block ends, so that what is made of the rasters can be
    finished, too.

    Args:
        scene: what to label.
        segmenter: labels it.
        products: of which the rasters are written.
        options: how.
        overwrite: replace files that exist.

    Raises:
        SceneError: the scene cannot be read.
        OutputError: a file exists or cannot be written, or unfinished work there is of another kind; what existed is as
            it was.
        ClusterError: the workers cannot do it.
    """
    if options.on_read_error not in get_args(OnReadError):
        raise ConfigError(f"on_read_error {options.on_read_error!r}: must be one of {', '.join(get_args(OnReadError))}")
    settings = engine_settings(segmenter.model, scene, options)
    paths = products.rasters
    layers = {paths[name]: layer for name, layer in raster_layers(segmenter, settings, scene).items() if name in paths}
    extent = Extent.of(scene.grid, scene.path, options)
    identity = run_identity(scene, segmenter.model, settings, options.on_read_error, extent)
    grid = scene.grid.crop(extent.frame)
    scene.unchanged.check()  # or the identity would be of another file than the scaling
    restart = options.restart
    also = [path for path in products.paths.values() if path not in layers]
    with ResumableRasterWriter.open(layers, grid, identity, also=also, restart=restart, overwrite=overwrite) as work:
        layout = settings.blocks(settings.grid(scene.height, scene.width), segmenter.model.clusters)
        blocks = [block for block in extent.blocks(layout) if scene.may_hold_data(block)]
        unfinished = [block for block in blocks if extent.place(block).origin not in work.finished]
        if options.client is not None:
            from geohp.inference.cluster.client import run_blocks

            run_blocks(work, unfinished, scene, segmenter, settings, paths, options, extent)
        else:
            source = NodataOnErrorScene(scene) if options.on_read_error == "nodata" else scene
            quantities = (frozenset(paths) - {"labels"}) | {"confidence"}  # whose means are shown in any case
            finished = label_blocks(
                source,
                segmenter.model,
                settings,
                options.progress,
                quantities=quantities,
                blocks=unfinished,
                area=extent.area,
            )
            write_behind(work, paths, finished, source, scene.grid, extent)
        scene.unchanged.check()
        work.publish()
        tallies = tallies_in(work.notes)
        complete = len(tallies) == len(work.finished)  # not so of work that an earlier version began
        areas = class_areas(tallies, segmenter.classes, grid) if complete else ()
        yield WrittenRasters(tuple(skipped_in(work)), areas)


def write_rasters(scene: Scene, segmenter: Segmenter, products: Products, options: RasterOptions) -> WrittenRasters:
    """:func:`written_rasters` where nothing is made of them."""
    with written_rasters(scene, segmenter, products, options) as written:
        return written


def raster_layers(segmenter: Segmenter, settings: EngineSettings, scene: Scene) -> dict[str, Layer]:
    """How each raster of a scene is stored, by what it holds."""
    card = segmenter.model.card
    tags = map_tags(segmenter.model, segmenter.origin, settings) | scene_tags(scene)
    return {
        "labels": label_layer(card.classes, tags),
        "confidence": _quantity(("confidence of the land-cover class",), tags),
        "entropy": _quantity(("entropy of the land-cover classes",), tags),
        "probabilities": _quantity(tuple(c.name for c in card.classes), tags),
    }


def _quantity(bands: tuple[str, ...], tags: dict[str, str]) -> Layer:
    return Layer(
        bands=len(bands),
        band_descriptions=bands,
        tags=tags,
        nodata=NODATA_LABEL,
        scale=1 / QUANTITY_STEPS,
        overviews="average",
    )
