"""Backbones by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm

from geohp.backbones.aerial import AerialNetwork, load_aerial_weights
from geohp.backbones.base import Backbone
from geohp.backbones.colour import Colour
from geohp.backbones.hosted_weights import HOSTED
from geohp.backbones.names import AERIAL, JOINED, OWN, VARIANTS, check_backbone, check_joined, suggestion
from geohp.backbones.rcf import RandomConvolutionalFeatures
from geohp.backbones.side_by_side import SideBySide
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weight_paths import HUB, RANDOM
from geohp.backbones.weights import load_weights
from geohp.errors import ConfigError

COLOUR_SHARE = 0.25
"""Length of colour beside a transformer's features on overhead imagery, as a share of theirs (docs/accuracy.md)."""


def create_backbone(
    name: str,
    /,
    *,
    weights: str | os.PathLike[str] | None = None,
    block: int = -1,
    weights_beside: str | None = None,
    **options: Any,
) -> Backbone:
    """Build a backbone by name.

    Args:
        name: ``"rcf"``, ``"aerial"``, ``"aerial3"`` (its first three stages), ``"colour"``, or a vision transformer by
            timm's name, e.g. ``vit_small_patch8_224.dino``, or a plain one's with a tag of our own
            (:data:`geohp.backbones.names.VARIANTS`, :mod:`geohp.backbones.hosted_weights`). ``"NAME+aerial"``,
            ``"NAME+colour"`` and ``"NAME+aerial+colour"`` take the features of several side by side
            (:class:`geohp.backbones.side_by_side.SideBySide`); weights, block and options are then the first's.
        weights: ``None`` or ``"hub"`` downloads the pretrained weights of that name (or takes them from the cache of
            Hugging Face or torch); a path loads a local file, see :func:`geohp.backbones.weights.load_weights`;
            ``"random"`` is for tests and benchmarks. ``rcf`` has none: it is fitted, or its state is loaded. ``aerial``
            takes those of the installed package geoembed, or a file like its own.
        block: which block's output to use, counted from 0, negative from the end; backbones of our own have none.
        weights_beside: ``"random"`` where the state of those beside the first is about to be loaded.
        **options: further arguments of the backbone's class.

    Returns:
        The frozen backbone; its ``weights_source`` says where the weights came from.

    Raises:
        ConfigError: for an unknown name, block or option.
        WeightsError: when the weights cannot be had or do not fit.
    """
    if JOINED in name:
        return _create_side_by_side(name, weights, block, weights_beside, options)
    check_backbone(name, weights)
    if name == RandomConvolutionalFeatures.name:
        _check_options(name, RandomConvolutionalFeatures, options)
        return RandomConvolutionalFeatures(**options)
    if name == Colour.name:
        _check_options(name, Colour, options)
        return Colour(**options)
    if name in AERIAL:
        return _create_aerial(name, weights, options)
    architecture, _, tag = name.partition(".")
    known = tag in ("", *VARIANTS) or name in HOSTED or name in timm.list_pretrained(f"{architecture}.*")
    if not timm.is_model(architecture) or not known:
        raise ConfigError(f"backbone {name}: unknown", suggestion(name))
    _check_options(name, VisionTransformer, options)
    transformer = VisionTransformer(name, block=block, **options)
    transformer.weights_source = load_weights(transformer, weights)
    return transformer


def create_backbone_for_bands(
    name: str,
    bands: int,
    /,
    *,
    seed: int = 0,
    weights: str | os.PathLike[str] | None = None,
    block: int = -1,
    remove_position_bias: bool = False,
    colour_share: float = 0.0,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Backbone:
    """Build a backbone for imagery of so many bands; see :func:`create_backbone`.

    ``rcf`` takes any number of bands, and ``seed``, unless ``options``, which are further arguments of the backbone's
    class, say otherwise. Only transformers have a bias by position that could be removed, and of them alone, with
    nothing beside yet, colour is set beside: the other backbones see little else.

    Raises:
        ConfigError: when the backbone takes another number of bands, and as :func:`create_backbone` does.
        WeightsError: when the weights cannot be had or do not fit.
    """
    first = name.partition(JOINED)[0]
    if first == RandomConvolutionalFeatures.name:
        options = {"in_channels": bands, "seed": seed, **options}
    if first == Colour.name:
        options = {"in_channels": bands, **options}
    if remove_position_bias and first not in OWN:
        options = {"remove_position_bias": True, **options}
    beside = ""
    if colour_share and name not in OWN and JOINED not in name:
        beside, options = f"{JOINED}{Colour.name}", {"share": colour_share, **options}
    backbone = create_backbone(name + beside, weights=weights, block=block, **options)
    if backbone.in_channels != bands:
        raise ConfigError(
            f"bands: {bands} band(s) chosen, but {name} takes {backbone.in_channels}",
            f"choose as many, or the {RandomConvolutionalFeatures.name} backbone, which takes any number",
        )
    return backbone


def _create_side_by_side(
    name: str,
    weights: str | os.PathLike[str] | None,
    block: int,
    weights_beside: str | None,
    options: dict[str, Any],
) -> SideBySide:
    check_joined(name)
    share = options.pop("share", 0.5)
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share < float("inf"):
        raise ConfigError(f"backbone {name}: share must be a number above 0, not {share!r}")
    names = name.split(JOINED)
    first = create_backbone(names[0], weights=weights, block=block, **options)
    others = []
    for other in names[1:]:
        bands: dict[str, Any] = {"in_channels": first.in_channels} if other == Colour.name else {}
        beside = create_backbone(other, weights=weights_beside, patch_size=first.patch_size, **bands)
        if beside.in_channels != first.in_channels:
            raise ConfigError(
                f"backbone {name}: {other} takes {beside.in_channels} bands, {names[0]} {first.in_channels}",
                f"leave {other} out, or choose as many bands",
            )
        others.append(beside)
    return SideBySide(first, others, share=share)


def _create_aerial(name: str, weights: str | os.PathLike[str] | None, options: dict[str, Any]) -> AerialNetwork:
    _check_options(name, AerialNetwork, options)
    network = AerialNetwork(**{"stages": AERIAL[name], **options})
    network.name = name
    if weights is not None and str(weights) == RANDOM:
        network.weights_source = RANDOM
    else:
        path = None if weights is None or str(weights) == HUB else Path(weights)
        network.weights_source = load_aerial_weights(network, path)
    return network


_TYPES: dict[str, tuple[Any, str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "str": (str, "a text"),
    "Sequence[int]": (int, "a list of whole numbers"),
}
"""What options may be, or the entries of their lists, by how the constructors annotate them, and in words."""


def _check_options(name: str, kind: type[Backbone], options: dict[str, Any]) -> None:
    """Refuse options that there are not, and values of another type: a configuration or a model may say anything."""
    known = {n: str(p.annotation) for n, p in inspect.signature(kind).parameters.items() if n not in ("name", "block")}
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"backbone {name}: has no option {option!r}", f"it has {', '.join(known)}")
        annotation, or_none, _ = known[option].partition(" | None")
        if annotation not in _TYPES or (or_none and value is None):
            continue
        of_type, words = _TYPES[annotation]
        values = value if annotation.startswith("Sequence") else [value]
        # To Python truth values are numbers, too.
        if not isinstance(values, list | tuple) or not all(
            isinstance(each, of_type) and isinstance(each, bool) == (of_type is bool) for each in values
        ):
            raise ConfigError(f"backbone {name}: {option} must be {words}, not {value!r}")
