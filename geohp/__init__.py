"""geohp: land-cover maps from orthophotos without a single label.

The public names are imported when they are first used, so that ``import geohp`` stays instant. Arrays and datasets of
xarray get ``.geohp``, see :mod:`geohp.notebook.accessor`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geohp.notebook.registration import register_accessors
from geohp.version import __version__

if TYPE_CHECKING:
    from geohp.comparison.change import change
    from geohp.config.loading import load_config
    from geohp.evaluation.evaluate import evaluate
    from geohp.evaluation.metrics import SegmentationMetrics
    from geohp.inference.batch import segment_files
    from geohp.inference.map_scene import segment_file
    from geohp.inference.probe.run import probe
    from geohp.inference.segment import segment
    from geohp.inference.segmenter import Segmenter
    from geohp.legend.file import Legend
    from geohp.legend.naming import name_classes
    from geohp.legend.recode_model import recode_model_file
    from geohp.legend.recode_raster import recode_file
    from geohp.model.importing.convert import import_checkpoint
    from geohp.raster.read.scene import open_scene
    from geohp.training.run import train
    from geohp.vector.polygonize import polygonize
    from geohp.vector.writing import polygonize_file, write_polygons
    from geohp.viewer.view import view

_HOME = {
    "Legend": "geohp.legend.file",
    "Segmenter": "geohp.inference.segmenter",
    "SegmentationMetrics": "geohp.evaluation.metrics",
    "change": "geohp.comparison.change",
    "evaluate": "geohp.evaluation.evaluate",
    "import_checkpoint": "geohp.model.importing.convert",
    "load_config": "geohp.config.loading",
    "name_classes": "geohp.legend.naming",
    "open_scene": "geohp.raster.read.scene",
    "polygonize": "geohp.vector.polygonize",
    "polygonize_file": "geohp.vector.writing",
    "probe": "geohp.inference.probe.run",
    "recode_file": "geohp.legend.recode_raster",
    "recode_model_file": "geohp.legend.recode_model",
    "segment": "geohp.inference.segment",
    "segment_file": "geohp.inference.map_scene",
    "segment_files": "geohp.inference.batch",
    "train": "geohp.training.run",
    "view": "geohp.viewer.view",
    "write_polygons": "geohp.vector.writing",
}

__all__ = [
    "Legend",
    "SegmentationMetrics",
    "Segmenter",
    "__version__",
    "change",
    "evaluate",
    "import_checkpoint",
    "load_config",
    "name_classes",
    "open_scene",
    "polygonize",
    "polygonize_file",
    "probe",
    "recode_file",
    "recode_model_file",
    "segment",
    "segment_file",
    "segment_files",
    "train",
    "view",
    "write_polygons",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geohp' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


register_accessors()
