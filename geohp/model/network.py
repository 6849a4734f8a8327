"""A land-cover model: backbone, head and probes in one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geohp.backbones.base import Backbone
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.model.card import PROBES, ModelCard
from geohp.model.smoothing import (
    CONFIDENCE_TEMPERATURE,
    average_neighbours,
    cells_along,
    fit_to_colours,
    neighbourhood_shares,
)


class LandCoverModel(nn.Module):
    """Images to class scores at patch resolution, or finer.

    Args:
        backbone: a fitted, frozen backbone.
        head: features (B, C, h, w) to codes (B, D, h, w).
        probe: clusters over the codes.
        card: how to use it; ``card.probe`` says which probe predicts.
        linear_probe: a classifier over the codes, where one was trained on labels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        probe: ClusterProbe,
        card: ModelCard,
        linear_probe: LinearProbe | None = None,
    ) -> None:
        super().__init__()
        if card.probe not in PROBES or (card.probe == "linear" and linear_probe is None):
            raise ValueError(f"a model without a {card.probe} probe cannot predict with it")
        self.backbone, self.head, self.probe, self.card = backbone, head, probe, card
        self.linear_probe = linear_probe
        # Where the backbone is: a model of parts that have been moved to a GPU is on it.
        mean, std = (torch.tensor(v, device=backbone.device)[:, None, None] for v in (backbone.mean, backbone.std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.requires_grad_(False).eval()

    def with_card(self, card: ModelCard) -> LandCoverModel:
        """The same with another card; all else is shared."""
        return LandCoverModel(self.backbone, self.head, self.probe, card, self.linear_probe)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.mean.device

    @property
    def code_parts(self) -> tuple[int, ...]:
        """Channels of the codes that belong together: those of the backbone, where the head has learnt nothing."""
        raw = next(self.head.parameters(), None) is None
        return self.backbone.parts if raw else (self.card.code_channels,)

    @property
    def clusters(self) -> int:
        """Number K of clusters, or classes, that the predicting probe tells apart."""
        return self._classifier.classifier.out_channels if self._classifier else self.probe.classes

    @property
    def _classifier(self) -> LinearProbe | None:
        """The linear probe where it is the one that predicts."""
        return self.linear_probe if self.card.probe == "linear" else None

    @property
    def scores_along(self) -> int:
        """Scores along the side of a patch, of those that :meth:`forward` gives."""
        return cells_along(self.backbone.patch_size) if self.card.smooth_scores and not self._classifier else 1

    @property
    def input_scale(self) -> float:
        """Backbone pixels a scene pixel: training resized its patches by this factor, so must inference."""
        return self.card.input_px / self.card.patch_px

    def codes(self, images: Tensor) -> Tensor:
        """Codes (B, D, h, w) of images (B, bands, H, W) in [0, 1]; see :meth:`forward`."""
        patches = self.backbone((images - self.mean) / self.std, affinities=False)
        codes: Tensor = self.head(patches.features)
        return codes

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Scores of every patch, or of cells of a few pixels.

        Args:
            images: (B, bands, H, W) in [0, 1]; sides are multiples of the backbone's patch size.

        Returns:
            (B, K + 1, h, w) float32: K scores and what to divide them by for a confidence. All are linear or slowly
            varying in the code, so they may be interpolated and blended, and the argmax over the first K is the
            class.

            - Of the cluster probe: the dot products of each patch's code with the K unit centroids (the largest of a
              class that has several), and the length of the code. The argmax equals that of the interpolated codes'
              cosines, since dividing by the length changes no order.
            - Of the linear probe: its K logits, and 1 / ``CONFIDENCE_TEMPERATURE``, so that the confidence is the
              softmax of the logits themselves.

            Where the card says so, what lies around has its say: logits are means over 3x3 patches, and of the cluster
            probe there are the logarithms of :func:`.fit_to_colours`, finer than patches, whose divisor is that of
            logits.
        """
        codes, smooth = self.codes(images), self.card.smooth_scores
        scores = class_scores(self._classifier or self.probe, codes, images if smooth else None)
        if self._classifier or smooth:
            divisor = torch.full_like(scores[:, :1], 1 / CONFIDENCE_TEMPERATURE)
        else:
            divisor = torch.linalg.vector_norm(codes, dim=1, keepdim=True)
        return torch.cat([scores, divisor], dim=1).float()


def class_scores(probe: ClusterProbe | LinearProbe, codes: Tensor, images: Tensor | None) -> Tensor:
    """Scores (B, K, h, w) of codes (B, D, h, w); see :meth:`LandCoverModel.forward`.

    Args:
        probe: reads them.
        codes: of patches.
        images: (B, bands, H, W) in [0, 1] that the patches show, where what lies around is to have its say: scores of
            clusters are finer then.
    """
    if isinstance(probe, LinearProbe):
        logits: Tensor = probe(codes)
        return logits if images is None else average_neighbours(logits)
    if images is None:
        return probe.scores(codes)
    return fit_to_colours(neighbourhood_shares(probe.cosines(codes), probe.spread()), images).log()
