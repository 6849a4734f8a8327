"""Scoring: clusters matched to classes, accuracy and mean IoU, whole data sets by the paper's protocol."""
