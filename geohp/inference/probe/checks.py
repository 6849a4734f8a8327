"""What can be known to be wrong with a probe before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geohp.errors import ConfigError
from geohp.evaluation.checks import check_models
from geohp.files.checks import MODELS, check_output, check_suffix
from geohp.inference.checks import model_path
from geohp.inference.map_options import ModelOptions
from geohp.legend.references import check_reference
from geohp.model.device import check_device
from geohp.model.runs import find_model
from geohp.raster.sources.find import find_images


def check_probe(
    options: ModelOptions, scenes: Any, reference: Any, out: str | Path | None = None, *, overwrite: bool = False
) -> None:
    """Refuse a model, scenes, a reference or an output that cannot be used; see :func:`geohp.probe`.

    Raises:
        GeohpError: one sentence and its remedy.
    """
    if out is not None:
        check_suffix(out, MODELS, "models")
        named = [path for path in (options.model, reference, options.weights) if isinstance(path, str | Path)]
        # Of a run its model, which lies in it.
        inputs = [find_model(path) if path == options.model and Path(path).is_dir() else path for path in named]
        check_output(out, overwrite=overwrite, inputs=inputs)
    if options.model is None and options.backbone is None:
        raise ConfigError(
            "neither a model nor a backbone", "give a run folder, a model file, or {option}", option="backbone"
        )
    check_device(options.device)
    options.check_fit()
    path = model_path(options)
    if path is not None:
        check_models([find_model(path)], options.weights)
    elif options.model is None and scenes is None:
        raise ConfigError("raw features have no images that they were trained on", "name the scenes")
    named = [scenes] if isinstance(scenes, str | Path) else scenes
    if isinstance(named, list | tuple) and all(isinstance(scene, str | Path) for scene in named):
        find_images([str(scene) for scene in named])
    check_reference(reference)
