"""Scoring: clusters matched to classes, accuracy and mean IoU."""

from geohp.evaluation.matching import hungarian, majority
from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores

__all__ = ["SegmentationMetrics", "SegmentationScores", "hungarian", "majority"]
