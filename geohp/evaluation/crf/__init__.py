"""A fully connected conditional random field that fits class maps to the outlines of an image."""

from geohp.evaluation.crf.field import Bilateral, Gaussian, dense_crf

__all__ = ["Bilateral", "Gaussian", "dense_crf"]
