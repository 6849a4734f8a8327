"""K-means as a method: the baseline of every paper, and the answer when nothing was trained."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from geohp.methods.base import Batch, Method, SampleFeatures
from geohp.methods.kmeans.clustering import gather_rows, refit_probe
from geohp.methods.kmeans.settings import KMeansSettings
from geohp.methods.probes import ClusterProbe

_DEFAULTS = KMeansSettings()


class Standardise(nn.Module):
    """Features minus their mean, over their deviation: k-means' whole head. (B, C, h, w) to the same shape.

    Until it is fitted, features stay as they are.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def fit(self, rows: Tensor) -> None:
        """Measure on feature rows (n, C)."""
        self.mean.copy_(rows.mean(0))
        self.deviation.copy_(rows.std(0, correction=0).clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """(x - mean) / deviation, channel by channel."""
        return (features - self.mean[:, None, None]) / self.deviation[:, None, None]


class KMeans(Method):
    """It looks at the data once and is done.

    Args:
        in_channels: width C of the features.
        clusters: number of classes K to find.
        settings: of the draw and of k-means.
        label_classes: of no use: training fits a linear probe to methods that have none.
        seed: of the draw and of the seedings.
    """

    name = "kmeans"
    iterative = False
    probe_is_final = False
    head: Standardise

    def __init__(
        self,
        in_channels: int,
        clusters: int,
        settings: KMeansSettings = _DEFAULTS,
        *,
        label_classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.head = Standardise(in_channels)
        self.probe = ClusterProbe(in_channels, clusters)
        self.settings, self.seed = settings, seed

    @classmethod
    def build_head(cls, in_channels: int, code_channels: int, tensors: Collection[str]) -> Standardise:
        """Codes are the features, standardised where the file says so."""
        return Standardise(in_channels)

    def prepare(self, sample: SampleFeatures) -> None:
        """Measure what is to be standardised, on up to ``samples`` patches."""
        if self.settings.standardise:
            self.head.fit(gather_rows(sample, self.settings.samples, self.seed))

    def finish(self, sample: SampleFeatures) -> None:
        """Fit the centroids to up to ``samples`` patches, drawn evenly from the images.

        Raises:
            ValueError: when there are fewer patches than clusters.
        """
        settings = self.settings
        refit_probe(
            self,
            sample,
            rows=settings.samples,
            iterations=settings.iterations,
            restarts=settings.restarts,
            seed=self.seed,
        )

    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """k-means has no gradient steps; see :meth:`finish`."""
        raise NotImplementedError("k-means is fitted by finish(), not by gradient steps")

    def optimizers(self) -> list[Optimizer]:
        """None: nothing is learnt by gradient."""
        return []
