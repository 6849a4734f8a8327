"""The settings of the k-means baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from geohp.methods.settings import Bounds, MethodSettings


@dataclass(frozen=True, kw_only=True)
class KMeansSettings(MethodSettings):
    """Spherical k-means on the backbone's features."""

    name: Literal["kmeans"] = "kmeans"
    iterative: ClassVar[bool] = False
    standardise: bool = False
    """Bring every channel to mean 0 and deviation 1 first. Transformers' features are worse for it on overhead imagery
    (docs/accuracy.md)."""
    samples: Annotated[int, Bounds(ge=1)] = 100_000
    """Patch features drawn to fit the centroids."""
    iterations: Annotated[int, Bounds(ge=1)] = 50
    """At most so many a run; it ends when no feature changes its centroid."""
    restarts: Annotated[int, Bounds(ge=1)] = 5
    """Independent seedings, the best of which wins."""
