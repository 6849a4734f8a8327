"""STEGO as a method: a head distilled from the correspondences of frozen features (arXiv 2203.08414, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from geohp.methods.base import Batch, Method, SampleFeatures
from geohp.methods.hp.head import SegmentationHead
from geohp.methods.hp.method import HP
from geohp.methods.kmeans.clustering import refit_probe
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.methods.stego.correspondence import Comparison, Maps, Places
from geohp.methods.stego.settings import STEGOSettings

_DEFAULTS = STEGOSettings()
_ALIKE = 0.9
"""Mean cosine of codes above which pairs of images tell nothing apart."""
_PAIRS = {"self": "within an image", "neighbour": "of similar images", "random": "of random images"}


class STEGO(Method):
    """Pairs of an image with itself, with a similar one, and with random ones; the features are never changed.

    Args:
        in_channels: width C of the backbone's features.
        clusters: number of classes K to find.
        settings: by default those for images of one's own.
        label_classes: number of labelled classes for a linear probe; 0 where there are no labels.
        seed: of points and random pairs.
    """

    name = "stego"

    def __init__(
        self,
        in_channels: int,
        clusters: int,
        settings: STEGOSettings = _DEFAULTS,
        *,
        label_classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.head: SegmentationHead = SegmentationHead(in_channels, settings.code_channels, settings.dropout)
        self.drop = nn.Dropout2d(settings.dropout)
        self.probe = ClusterProbe(settings.code_channels, clusters)
        self.linear_probe = LinearProbe(settings.code_channels, label_classes) if label_classes else None
        self.nearest_images = settings.nearest_images if settings.neighbour_weight else 0
        self.probe_is_final = not settings.refit_probe
        self.head_learning_rate = settings.learning_rates.head
        self._compare = Comparison(settings.pointwise, settings.zero_clamp, settings.stabilise)
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def build_head(cls, in_channels: int, code_channels: int, tensors: Collection[str]) -> SegmentationHead:
        """As HP's: the reference's may have been trained without the nonlinear branch."""
        return HP.build_head(in_channels, code_channels, tensors)

    def prepare(self, sample: SampleFeatures) -> None:
        """Nothing has to be known of the data beforehand: similar images come with the batches."""

    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """The weighted losses of the three kinds of pairs (equation 5), and the probes' own.

        What is compared are the features after a channel dropout, as published.
        """
        settings, features = self.settings, batch.patches.features
        maps = Maps(self.drop(features), self.head(features))
        places = Places.draw(
            len(features), settings.samples**2, settings.random_pairs, self._generator, features.device
        )
        rows = maps.at(places.first)
        pairs = {"self": (settings.self_weight, [self._compare(rows, rows, settings.self_shift)])}
        if self.nearest_images:
            if batch.neighbours is None:
                raise ValueError("STEGO needs the features of a similar image for each")
            similar = Maps(self.drop(batch.neighbours.features), self.head(batch.neighbours.features))
            loss = self._compare(rows, similar.at(places.second), settings.neighbour_shift)
            pairs["neighbour"] = settings.neighbour_weight, [loss]
        if len(places.others):
            pairs["random"] = (
                settings.random_weight,
                [
                    self._compare(rows, maps.at(places.second, others), settings.random_shift)
                    for others in places.others
                ],
            )
        losses = {}
        for kind, (weight, compared) in pairs.items():
            losses[f"correspondence_{kind}"] = weight * torch.stack([loss for loss, _ in compared]).mean()
            self._figures[f"similarity_{kind}"] = torch.stack([cosine for _, cosine in compared]).mean()
        return losses | self.probe_losses(maps.codes, batch.labels)

    @torch.no_grad()
    def finish(self, sample: SampleFeatures) -> None:
        """Settle the centroids on the codes as they are now, where ``refit_probe`` says so."""
        if self.settings.refit_probe:
            refit_probe(self, sample, seed=self.seed)

    def optimizers(self) -> list[Optimizer]:
        """Adam for the head and each probe."""
        rates = self.settings.learning_rates
        return [
            Adam(self.head.parameters(), lr=rates.head),
            *self.probe_optimizers(rates.cluster_probe, rates.linear_probe),
        ]

    def random_state(self) -> dict[str, Tensor]:
        """The state of the draws of points and pairs."""
        return {"places": self._generator.get_state()}

    def restore_random_state(self, state: dict[str, Tensor]) -> None:
        """Go on with those draws."""
        self._generator.set_state(state["places"].cpu())

    def step_figures(self) -> Mapping[str, Tensor | float]:
        """Of the last step: the mean cosine of codes in each kind of pairs, by which the authors tune the shifts."""
        return self._figures

    def warnings(self) -> list[str]:
        """Which kinds of pairs have codes that are nearly all alike."""
        figures = self.figures()
        return [
            f"the codes {where} are nearly all alike: their mean cosine is above {_ALIKE}; raise method.{kind}_shift"
            for kind, where in _PAIRS.items()
            if figures.get(f"similarity_{kind}", 0) > _ALIKE
        ]
