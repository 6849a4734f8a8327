"""Probes on raw features: what a backbone tells apart without anything learnt on top of it."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn
from torch.optim import Optimizer

from geohp.methods.base import Batch, Method, SampleFeatures
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.methods.raw_features.settings import ProbesSettings

_DEFAULTS = ProbesSettings()


class RawFeatures(Method):
    """No head at all: codes are the backbone's features, and only the two probes learn, as they do beside a head.

    Args:
        in_channels: width C of the features, and so of the codes.
        clusters: number of classes K to find.
        settings: rates of the probes.
        label_classes: number of labelled classes for a linear probe; 0 where there are no labels.
        seed: of no use: nothing is drawn.
    """

    name = "probes"

    def __init__(
        self,
        in_channels: int,
        clusters: int,
        settings: ProbesSettings = _DEFAULTS,
        *,
        label_classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Identity()
        self.probe = ClusterProbe(in_channels, clusters)
        self.linear_probe = LinearProbe(in_channels, label_classes) if label_classes else None

    @classmethod
    def build_head(cls, in_channels: int, code_channels: int, tensors: Collection[str]) -> nn.Identity:
        """None at all."""
        return nn.Identity()

    def prepare(self, sample: SampleFeatures) -> None:
        """Nothing has to be known of the data beforehand."""

    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """Those of the probes."""
        return self.probe_losses(self.head(batch.patches.features), batch.labels)

    def optimizers(self) -> list[Optimizer]:
        """Adam for each probe."""
        rates = self.settings.learning_rates
        return self.probe_optimizers(rates.cluster_probe, rates.linear_probe)
