"""The settings of probes on raw features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from geohp.methods.settings import Bounds, MethodSettings, Settings


@dataclass(frozen=True, kw_only=True)
class ProbeRates(Settings):
    """Adam for both probes, at the rates that HP gives its own: the rows for DINO stand in its tables."""

    linear_probe: Annotated[float, Bounds(gt=0)] = 1e-3
    cluster_probe: Annotated[float, Bounds(gt=0)] = 5e-3


@dataclass(frozen=True, kw_only=True)
class ProbesSettings(MethodSettings):
    """A cosine cluster probe and a linear probe, trained on the features as they leave the backbone."""

    name: Literal["probes"] = "probes"
    learning_rates: ProbeRates = ProbeRates()
