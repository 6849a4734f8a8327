"""Methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geohp.methods.base import Method
from geohp.methods.hp.method import HP
from geohp.methods.kmeans import KMeans

METHODS: dict[str, type[Method]] = {"hp": HP, "kmeans": KMeans}


def create_method(name: str, in_channels: int, clusters: int, settings: Mapping[str, Any]) -> Method:
    """The method of that name over features of width ``in_channels``; ``settings`` are its keyword arguments."""
    constructor: Any = METHODS[name]
    method: Method = constructor(in_channels, clusters, **settings)
    return method
