"""Scoring: clusters matched to classes, accuracy and mean IoU, whole data sets by the paper's protocol."""

from geohp.evaluation.matching import hungarian, majority
from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores

__all__ = ["SegmentationMetrics", "SegmentationScores", "hungarian", "majority"]
