"""Scoring: clusters matched to classes, accuracy and mean IoU, whole data sets by the paper's protocol.

The public names are imported when they are first used: the dense CRF needs torch alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geohp.evaluation.matching import hungarian, majority
    from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores

_HOME = {
    "SegmentationMetrics": "geohp.evaluation.metrics",
    "SegmentationScores": "geohp.evaluation.metrics",
    "hungarian": "geohp.evaluation.matching",
    "majority": "geohp.evaluation.matching",
}

__all__ = ["SegmentationMetrics", "SegmentationScores", "hungarian", "majority"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geohp.evaluation' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
