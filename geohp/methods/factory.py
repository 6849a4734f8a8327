"""Methods by their settings: the one table to which a new method is added."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

from geohp.methods.hp.settings import HPSettings
from geohp.methods.kmeans.settings import KMeansSettings
from geohp.methods.maskcontrast.settings import MaskContrastSettings
from geohp.methods.raw_features.settings import ProbesSettings
from geohp.methods.settings import MethodSettings
from geohp.methods.stego.settings import STEGOSettings

if TYPE_CHECKING:
    from torch import nn

    from geohp.methods.base import Method

METHODS: dict[str, tuple[type[MethodSettings], str]] = {
    "hp": (HPSettings, "geohp.methods.hp.method.HP"),
    "kmeans": (KMeansSettings, "geohp.methods.kmeans.method.KMeans"),
    "maskcontrast": (MaskContrastSettings, "geohp.methods.maskcontrast.method.MaskContrast"),
    "probes": (ProbesSettings, "geohp.methods.raw_features.method.RawFeatures"),
    "stego": (STEGOSettings, "geohp.methods.stego.method.STEGO"),
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
    method: Method = _method_class(settings.name)(
        in_channels, clusters, settings, label_classes=label_classes, seed=seed
    )
    return method


def build_head(method: str, in_channels: int, code_channels: int, tensors: Collection[str]) -> nn.Module:
    """The head that a method leaves behind, still without its weights.

    Args:
        method: its name; heads of methods unknown here, which imported models may be of, are taken for HP's.
        in_channels, code_channels: widths of features and codes.
        tensors: names of the weights in the model's file.
    """
    known = method if method in METHODS else "hp"
    head: nn.Module = _method_class(known).build_head(in_channels, code_channels, tensors)
    return head


def _method_class(name: str) -> Any:
    """A subclass of :class:`~geohp.methods.base.Method`, whose constructor takes its own settings."""
    module, _, attribute = METHODS[name][1].rpartition(".")
    return getattr(import_module(module), attribute)
