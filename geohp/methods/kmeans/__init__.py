"""Spherical k-means on backbone features: the baseline, and the answer when nothing was trained."""
