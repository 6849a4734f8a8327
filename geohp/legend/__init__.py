"""Legends: names for the clusters of a label map, written by hand or found with a reference.

Imported when first used: :mod:`geohp.vector` needs the file only, and naming needs :mod:`geohp.vector`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geohp.legend.file import Legend
    from geohp.legend.model import name_clusters, name_model_file
    from geohp.legend.naming import Naming, name_classes
    from geohp.legend.recode import recode_file

_HOME = {
    "Legend": "geohp.legend.file",
    "Naming": "geohp.legend.naming",
    "name_classes": "geohp.legend.naming",
    "name_clusters": "geohp.legend.model",
    "name_model_file": "geohp.legend.model",
    "recode_file": "geohp.legend.recode",
}

__all__ = ["Legend", "Naming", "name_classes", "name_clusters", "name_model_file", "recode_file"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geohp.legend' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
