"""Which model labels a scene: the one asked for, the newest run's, or k-means on the scene itself."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from geohp.errors import ConfigError
from geohp.inference.map_options import ModelOptions
from geohp.inference.segmenter import Segmenter, as_scene
from geohp.model.runs import newest_run
from geohp.options import FitOptions

logger = logging.getLogger(__name__)


def resolve_segmenter(scene: Any, options: ModelOptions, *, errors_as_nodata: bool = False) -> Segmenter:
    """The model to label a scene with, its classes named by the legend.

    Args:
        scene: what :func:`geohp.segment` takes.
        options: see there what is used; ``Segmenter.origin`` says what it was.
        errors_as_nodata: find classes where the scene can be read.

    Raises:
        ConfigError: a model together with what only a new fit can heed.
        GeohpError: model, weights, legend or scene cannot be used.
    """
    segmenter = load_segmenter(options)
    if segmenter is None:
        with as_scene(scene, bands=options.bands, scaling=options.scaling or "auto") as opened:
            segmenter = Segmenter.fit(opened, options, device=options.device, errors_as_nodata=errors_as_nodata)
        logger.info("using %s", segmenter.origin)
    return segmenter if options.legend is None else segmenter.named(options.legend)


def load_segmenter(options: ModelOptions) -> Segmenter | None:
    """The model asked for, or that of the newest run; ``None`` where classes are to be found on the scene.

    Raises:
        ConfigError: a model together with what only a new fit can heed, or weights without a backbone.
        ModelError: the model cannot be used.
    """
    own = ("weights", "seed")  # what does not ask for a fit
    asked = [f.name for f in fields(FitOptions) if f.name not in own and getattr(options, f.name) is not None]
    if options.model is not None and asked:
        raise ConfigError(
            f"{asked[0]}: the model has its own", "leave it out, or leave the model out to find classes anew"
        )
    if isinstance(options.model, Segmenter):
        return options.model
    path = options.model or (None if asked else newest_run())
    if path is not None:
        segmenter = Segmenter.load(path, weights=options.weights, device=options.device)
        logger.info("using %s", segmenter.origin)
        return segmenter
    if options.backbone in (None, "rcf") and (options.weights is not None or options.block is not None):
        raise ConfigError("weights, block: random convolutional features have none", "name the backbone they belong to")
    return None
