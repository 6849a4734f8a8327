"""Methods by their settings: the one table to which a new method is added."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from geohp.methods.hp.settings import HPSettings
from geohp.methods.kmeans.settings import KMeansSettings
from geohp.methods.settings import MethodSettings

if TYPE_CHECKING:
    from geohp.methods.base import Method

METHODS: dict[str, tuple[type[MethodSettings], str]] = {
    "hp": (HPSettings, "geohp.methods.hp.method.HP"),
    "kmeans": (KMeansSettings, "geohp.methods.kmeans.method.KMeans"),
}
"""By name, the settings and where the method is: configurations are read where torch is not loaded."""


def create_method(
    settings: MethodSettings, in_channels: int, clusters: int, *, label_classes: int = 0, seed: int = 0
) -> Method:
    """The method that the settings belong to.

    Args:
        settings: of one of :data:`METHODS`.
        in_channels: width C of the backbone's features.
        clusters: number of classes to find.
        label_classes: number of labelled classes, for a linear probe; 0 where there are no labels.
        seed: of whatever the method draws.
    """
    module, _, name = METHODS[settings.name][1].rpartition(".")
    method: Method = getattr(import_module(module), name)(
        in_channels, clusters, settings, label_classes=label_classes, seed=seed
    )
    return method
