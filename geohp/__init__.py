"""geohp: land-cover maps from orthophotos without a single label.

The public names are imported when they are first used, so that ``import geohp`` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geohp.version import __version__

if TYPE_CHECKING:
    from geohp.checkpoints import import_checkpoint
    from geohp.config import load_config
    from geohp.evaluation import SegmentationMetrics
    from geohp.evaluation.evaluate import evaluate
    from geohp.experiment import train
    from geohp.inference.many import segment_files
    from geohp.inference.segment import segment, segment_file
    from geohp.inference.segmenter import Segmenter
    from geohp.legend import Legend, name_classes, recode_file
    from geohp.raster.scenes import open_scene
    from geohp.vector import polygonize, polygonize_file, write_polygons

_HOME = {
    "Legend": "geohp.legend",
    "Segmenter": "geohp.inference.segmenter",
    "SegmentationMetrics": "geohp.evaluation",
    "evaluate": "geohp.evaluation.evaluate",
    "import_checkpoint": "geohp.checkpoints",
    "load_config": "geohp.config",
    "name_classes": "geohp.legend",
    "open_scene": "geohp.raster.scenes",
    "polygonize": "geohp.vector",
    "polygonize_file": "geohp.vector",
    "recode_file": "geohp.legend",
    "segment": "geohp.inference.segment",
    "segment_file": "geohp.inference.segment",
    "segment_files": "geohp.inference.many",
    "train": "geohp.experiment",
    "write_polygons": "geohp.vector",
}

__all__ = [
    "Legend",
    "SegmentationMetrics",
    "Segmenter",
    "__version__",
    "evaluate",
    "import_checkpoint",
    "load_config",
    "name_classes",
    "open_scene",
    "polygonize",
    "polygonize_file",
    "recode_file",
    "segment",
    "segment_file",
    "segment_files",
    "train",
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
