"""The settings of MaskContrast, and of the masks that it contrasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from geohp.methods.settings import Bounds, Listed, MethodSettings, Settings

Proposal = Literal["superpixels", "affinities", "data"]


@dataclass(frozen=True, kw_only=True)
class MaskSettings(Settings):
    """Which patches are taken to show the same thing, before anything is known about what they show."""

    proposals: Annotated[tuple[Proposal, ...], Listed()] = ("superpixels",)
    """Where masks come from, the first first; a later kind fills what the ones before leave free. ``superpixels`` of
    the colours (SLIC); segments of the backbone's ``affinities``; those that come with the ``data``: polygons of a GIS
    layer (``data.mask_polygons``) or saliency maps (``data.saliency``)."""
    segments: Annotated[int, Bounds(ge=2, le=10_000)] = 50
    """Superpixels, or segments, of an image: about so many."""
    compactness: Annotated[float, Bounds(gt=0)] = 10.0
    """Of superpixels: the larger, the squarer; the lower, the closer they follow the colours."""


@dataclass(frozen=True, kw_only=True)
class LearningRates(Settings):
    """AdamW for the head."""

    head: Annotated[float, Bounds(gt=0)] = 5e-4
    weight_decay: Annotated[float, Bounds(ge=0)] = 1e-4


@dataclass(frozen=True, kw_only=True)
class MaskContrastSettings(MethodSettings):
    """MaskContrast (ICCV 2021); symbols of the paper in brackets."""

    name: Literal["maskcontrast"] = "maskcontrast"
    masks: MaskSettings = MaskSettings()
    code_channels: Annotated[int, Bounds(ge=2)] = 32
    """Width of the pixel embeddings (D)."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.5
    """Softmax temperature (tau)."""
    queue_size: Annotated[int, Bounds(ge=1)] = 1024
    """Masks of earlier steps that are pushed away from (K)."""
    ema_momentum: Annotated[float, Bounds(ge=0, lt=1)] = 0.999
    """Momentum of the averaged head (m)."""
    near_equal: Annotated[float, Bounds(gt=0, le=1)] = 0.5
    """Masks whose mean features have at least this cosine, in units of the features' deviation from their mean, are
    not pushed apart; 1 pushes all of them, as the paper does with its one object an image."""
    augmented_keys: bool = False
    """Take the averaged head's side from a photometrically augmented view, as the paper does; the backbone then runs
    at every step."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1
    """Share of channels dropped, per image."""
    learning_rates: LearningRates = LearningRates()
    clip_norm: Annotated[float, Bounds(gt=0)] = 10.0
    """Largest gradient norm of the head."""
