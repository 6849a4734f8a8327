"""MaskContrast as a method, for scenes without one salient object: many masks an image (arXiv 2102.06191)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from geohp.backbones.base import patch_rows
from geohp.methods.base import Batch, Method, SampleFeatures
from geohp.methods.hp.head import EMAHead, SegmentationHead
from geohp.methods.kmeans.clustering import gather_rows, refit_probe
from geohp.methods.kmeans.method import Standardise
from geohp.methods.maskcontrast.loss import mask_contrast_loss, mask_means, near_equal, numbered
from geohp.methods.maskcontrast.queue import MaskQueue
from geohp.methods.maskcontrast.settings import MaskContrastSettings
from geohp.methods.probes import ClusterProbe

_DEFAULTS = MaskContrastSettings()
_MEASURED_ON = 50_000
"""Patches that the features' mean and deviation are measured on."""
_FEW_NEGATIVES = 0.01


class MaskContrast(Method):
    """Pixel embeddings over frozen features, drawn to the mean of their own mask and pushed from those of others.

    The paper knows one salient object an image, and every other image's object is a negative. Here an image is full of
    masks, and many show the same land cover: those whose features are near-equal are no negatives of each other.

    Args:
        in_channels: width C of the backbone's features.
        clusters: number of classes K to find.
        settings: by default those of the paper, for many masks an image.
        label_classes: of no use: training fits a linear probe to methods that have none.
        seed: of the draw that features are measured on, and of the clusters.
    """

    name = "maskcontrast"
    wants_masks = True
    probe_is_final = False

    def __init__(
        self,
        in_channels: int,
        clusters: int,
        settings: MaskContrastSettings = _DEFAULTS,
        *,
        label_classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.head: SegmentationHead = SegmentationHead(in_channels, settings.code_channels, settings.dropout)
        self.averaged = EMAHead(self.head, settings.ema_momentum)
        self.standardise = Standardise(in_channels)
        self.queue = MaskQueue(settings.queue_size, settings.code_channels, in_channels)
        self.probe = ClusterProbe(settings.code_channels, clusters).requires_grad_(False)  # k-means settles it
        self.wants_augmented = settings.augmented_keys
        self.head_learning_rate, self.gradient_bound = settings.learning_rates.head, settings.clip_norm

    @classmethod
    def build_head(cls, in_channels: int, code_channels: int, tensors: Collection[str]) -> SegmentationHead:
        """With both of its branches."""
        return SegmentationHead(in_channels, code_channels)

    def prepare(self, sample: SampleFeatures) -> None:
        """Measure the features' mean and deviation, which tell near-equal masks from others whatever the backbone."""
        self.standardise.fit(gather_rows(sample, _MEASURED_ON, self.seed))

    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """The contrastive loss, against the masks of this batch and those in the queue."""
        if batch.masks is None:
            raise ValueError("MaskContrast needs the masks of its images")
        features = batch.patches.features
        numbers, masks = numbered(batch.masks)
        z = _unit_rows(self.head(features))
        keys, means = self._targets(batch, numbers, masks)
        earlier, earlier_means = self.queue.rows()
        excluded = near_equal(means, torch.cat([means, earlier_means]), self.settings.near_equal)
        self._note(numbers, masks, len(features), excluded)
        loss = mask_contrast_loss(z, numbers, keys, torch.cat([keys, earlier]), excluded, self.settings.temperature)
        self.queue.enqueue(keys, means)
        return {"contrastive": loss}

    @torch.no_grad()
    def finish(self, sample: SampleFeatures) -> None:
        """Settle the clusters by k-means on the codes of patches: an image of a map has no masks to take means of."""
        refit_probe(self, sample, seed=self.seed)

    def optimizers(self) -> list[Optimizer]:
        """AdamW for the head: nothing else learns by gradient."""
        rates = self.settings.learning_rates
        return [AdamW(self.head.parameters(), lr=rates.head, weight_decay=rates.weight_decay)]

    def clip_gradients(self) -> None:
        """Bound the norm of the head's gradient."""
        self._figures["gradient_norm"] = nn.utils.clip_grad_norm_(self.head.parameters(), self.settings.clip_norm)

    def step_figures(self) -> Mapping[str, Tensor | float]:
        """Of the last step.

        ``masks`` an image, ``masked_share`` of the patches, ``negative_share`` of the other masks that were pushed
        away from, and ``gradient_norm`` of the head before it was clipped.
        """
        return self._figures

    def warnings(self) -> list[str]:
        """That there was nothing to learn from in the last step."""
        figures = self.figures()
        if figures.get("masked_share", 1.0) == 0:
            return [
                "no patch lies in a mask, so nothing is learnt: the polygons may lie elsewhere, or be smaller than the "
                "backbone's patches; add superpixels to method.masks.proposals"
            ]
        if figures.get("negative_share", 1.0) < _FEW_NEGATIVES:
            return [
                "nearly all masks have near-equal features, so that there is nothing to push them away from: raise "
                "method.near_equal, or give imagery with more variety"
            ]
        return []

    def _targets(self, batch: Batch, numbers: Tensor, masks: int) -> tuple[Tensor, Tensor]:
        """Of each mask the mean code (M, D) by the averaged head, and the mean standardised feature (M, C)."""
        features, view = batch.patches.features, batch.patches
        if self.wants_augmented:
            if batch.augmented is None:
                raise ValueError("augmented_keys needs the features of an augmented view")
            view = batch.augmented
        self.averaged.update(self.head, batch.share)
        keys = mask_means(_unit_rows(self.averaged(view.features)), numbers, masks)
        return keys, mask_means(patch_rows(self.standardise(features)), numbers, masks)

    def _note(self, numbers: Tensor, masks: int, images: int, excluded: Tensor) -> None:
        self._figures = {
            "masks": masks / images,
            "masked_share": (numbers >= 0).float().mean(),
            "negative_share": 1 - (excluded.float().sum() - masks) / max(1, excluded.numel() - masks),
        }


def _unit_rows(maps: Tensor) -> Tensor:
    return F.normalize(patch_rows(maps), dim=1)
