"""A land-cover model: backbone, head and probes in one, and the card that says how to use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geohp.backbones.base import Backbone
from geohp.classes import LandCoverClass
from geohp.methods.probes import ClusterProbe, LinearProbe

PROBES = ("cluster", "linear")
CONFIDENCE_TEMPERATURE = 0.1
"""Confidence is the winner's share in a softmax of the scores, divided by their last channel, over this."""


@dataclass(frozen=True)
class ModelCard:
    """What has to be known to use a model on other imagery.

    Attributes:
        method: name of the method that trained it.
        backbone: name, block, options, weights (where they came from) and fingerprint of the backbone.
        in_channels: width C of the features; code_channels: width D of the codes.
        classes: the classes; where ``cluster_to_class`` does not tell, in the order of the predicting probe's clusters.
        bands: bands as the training configuration asked for them; ``None`` is red, green, blue.
        scaling: rule that brings values to [0, 1], measured on each scene anew where it measures.
        patch_px: side of training patches in scene pixels; input_px: side they were resized to.
        pixel_size_m: ground sampling distance of the training imagery, ``None`` where it had none.
        config: the whole configuration as resolved; empty where there was none.
        geohp_version: version that wrote it.
        probe: which probe predicts, ``"cluster"`` or ``"linear"``; the linear one has learned from labels.
        cluster_to_class: the number of the class that each cluster belongs to, where a legend has named them.
    """

    method: str
    backbone: dict[str, Any]
    in_channels: int
    code_channels: int
    classes: tuple[LandCoverClass, ...]
    bands: tuple[int | str, ...] | None = None
    scaling: str = "auto"
    patch_px: int = 224
    input_px: int = 224
    pixel_size_m: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    geohp_version: str = ""
    probe: str = "cluster"
    cluster_to_class: tuple[int, ...] | None = None


class LandCoverModel(nn.Module):
    """Images to class scores at patch resolution.

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
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.mean.device

    @property
    def clusters(self) -> int:
        """Number K of clusters, or classes, that the predicting probe tells apart."""
        if self.linear_probe is not None and self.card.probe == "linear":
            return self.linear_probe.classifier.out_channels
        return len(self.probe.clusters)

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
        """Scores of every patch.

        Args:
            images: (B, bands, H, W) in [0, 1]; sides are multiples of the backbone's patch size.

        Returns:
            (B, K + 1, h, w) float32: K scores and what to divide them by for a confidence. All are linear or slowly
            varying in the code, so they may be interpolated and blended, and the argmax over the first K is the
            class.

            - Of the cluster probe: the dot products of each patch's code with the K unit centroids, and the length
              of the code. The argmax equals that of the interpolated codes' cosines, since dividing by the length
              changes no order.
            - Of the linear probe: its K logits, and 1 / ``CONFIDENCE_TEMPERATURE``, so that the confidence is the
              softmax of the logits themselves.
        """
        codes = self.codes(images)
        if self.linear_probe is not None and self.card.probe == "linear":
            scores = self.linear_probe(codes)
            divisor = torch.full_like(scores[:, :1], 1 / CONFIDENCE_TEMPERATURE)
        else:
            scores = self.probe.scores(codes)
            divisor = torch.linalg.vector_norm(codes, dim=1, keepdim=True)
        return torch.cat([scores, divisor], dim=1).float()
