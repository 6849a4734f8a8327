"""Hidden Positives as a method: one training step put together from its parts (arXiv 2303.15014, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from geohp.backbones.base import PatchFeatures, patch_rows
from geohp.methods.base import Batch, Method, SampleFeatures
from geohp.methods.hp.head import EMAHead, SegmentationHead
from geohp.methods.hp.loss import FoundPositives, contrastive_loss, view_loss
from geohp.methods.hp.mixing import mix_neighbours
from geohp.methods.hp.positives import ReferencePool, draw_patches
from geohp.methods.hp.settings import HPSettings
from geohp.methods.kmeans.clustering import refit_probe
from geohp.methods.probes import ClusterProbe, LinearProbe

_DEFAULTS = HPSettings()
_POOL_SIZE, _WARMUP_STEPS, _RENEW_INTERVAL = 1024, 100, 20
_SHOWN = {
    "loss": "loss",
    "contrastive": "contrastive",
    "consistency": "consistency",
    "cluster": "cluster",
    "linear": "linear",
    "task_specific_weight": "lambda",
}


class HP(Method):
    """Global hidden positives (GHP) and local hidden positives (LHP) over frozen features.

    Args:
        in_channels: width C of the backbone's features.
        clusters: number of classes K to find.
        settings: numbers that they leave open are those published for Potsdam-3.
        label_classes: number of labelled classes for a linear probe; 0 where there are no labels.
        seed: of the pools' draws.
    """

    name = "hp"

    def __init__(
        self,
        in_channels: int,
        clusters: int,
        settings: HPSettings = _DEFAULTS,
        *,
        label_classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.warmup_steps = _or(settings.warmup_steps, _WARMUP_STEPS)
        self.renew_interval = _or(settings.renew_interval, _RENEW_INTERVAL)
        code_channels, pool_size = settings.code_channels, _or(settings.pool_size, _POOL_SIZE)
        self.head: SegmentationHead = SegmentationHead(in_channels, code_channels, settings.dropout)
        self.averaged = EMAHead(self.head, settings.ema_momentum)
        self.projection = nn.Linear(code_channels, code_channels)
        self.pool_agnostic = ReferencePool(pool_size, in_channels)
        self.pool_specific = ReferencePool(pool_size, code_channels)
        self.probe = ClusterProbe(code_channels, clusters)
        self.linear_probe = LinearProbe(code_channels, label_classes) if label_classes else None
        self.drop = nn.Dropout2d(settings.dropout)
        self.wants_augmented = settings.consistency_weight > 0 or not settings.discovers
        self.probe_is_final = not settings.refit_probe
        self.head_learning_rate, self.gradient_bound = settings.learning_rates.head, settings.clip_norm
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def build_head(cls, in_channels: int, code_channels: int, tensors: Collection[str]) -> SegmentationHead:
        """With the nonlinear branch where the file has one."""
        nonlinear = any(name.startswith("head.nonlinear.") for name in tensors)
        return SegmentationHead(in_channels, code_channels, nonlinear=nonlinear)

    @torch.no_grad()
    def prepare(self, sample: SampleFeatures) -> None:
        """Fill both reference pools: of the same R images one random patch for each, dropout on."""
        agnostic, specific = [], []
        for features in sample(len(self.pool_agnostic.rows)):
            agnostic.append(draw_patches(self.drop(features), self._generator))
            specific.append(self._draw_codes(features))
        self.pool_agnostic.put(torch.cat(agnostic))
        self.pool_specific.put(torch.cat(specific))

    @torch.no_grad()
    def before_step(self, step_of_epoch: int, sample: SampleFeatures) -> None:
        """Refill the task-specific pool every ``renew_interval`` steps of an epoch, not at its first."""
        if step_of_epoch and step_of_epoch % self.renew_interval == 0:
            rows = [self._draw_codes(features) for features in sample(len(self.pool_specific.rows))]
            self.pool_specific.put(torch.cat(rows))

    def task_specific_weight(self, step: int, total_steps: int) -> float:
        """lambda: 0 during the warm-up, then growing linearly to 1 at the end of training.

        It stays 0 without task-specific positives, and 1 where there are no others: an anchor's weights are relative.
        """
        if not self.settings.task_specific_positives:
            return 0.0
        if not self.settings.task_agnostic_positives:
            return 1.0
        if step <= self.warmup_steps:
            return 0.0
        return (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)

    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """The contrastive loss, photometric consistency where asked for, and the probes' own losses."""
        codes = self.head(batch.patches.features)
        averaged = self.averaged(batch.patches.features)
        # The average takes the head as it is before this step's update: one step of lag, as published.
        self.averaged.update(self.head, batch.share)
        self._figures = {"task_specific_weight": self.task_specific_weight(step, total_steps)}
        if self.settings.discovers:
            z, contrastive = self._contrast_patches(codes, averaged, batch.patches)
            other = self._project(self._augmented_codes(batch)) if self.wants_augmented else None
        else:
            z, other, contrastive = self._contrast_views(codes, batch)
        losses = {"contrastive": contrastive, **self.probe_losses(codes, batch.labels)}
        if self.settings.consistency_weight > 0 and other is not None:
            losses["consistency"] = self.settings.consistency_weight * F.pairwise_distance(z, other).mean()
        return losses

    def _contrast_patches(self, codes: Tensor, averaged: Tensor, patches: PatchFeatures) -> tuple[Tensor, Tensor]:
        """The rows z, and their contrastive loss over the positives that patches discover in others."""
        settings = self.settings
        z, z_mix = self._project(codes), self._local(codes, patches.affinities)
        features, pool = _unit_rows(self.drop(patches.features)), self.pool_agnostic.rows
        similar, weight = _unit_rows(self.drop(averaged)), float(self._figures["task_specific_weight"])
        if not settings.task_agnostic_positives:
            # Task-specific positives take their place: they tell who is an anchor and what is in the denominator.
            features, pool, weight = similar, self.pool_specific.rows, 0.0
        loss = contrastive_loss(
            z,
            z_mix,
            features,
            similar,
            pool,
            self.pool_specific.rows,
            images=len(codes),
            temperature=settings.temperature,
            task_specific_weight=weight,
            keep=settings.keep_rate,
            reweight=settings.reweight,
            symmetric=settings.symmetric_positives,
            on_positives=self._note,
        )
        return z, loss

    def _contrast_views(self, codes: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The rows z of the images and of their augmented views, and the naive contrastive loss between them."""
        both = torch.cat([codes, self._augmented_codes(batch)])
        affinities = batch.patches.affinities
        z = self._project(both)
        loss = view_loss(
            z,
            # Augmentation leaves neighbours in their places.
            self._local(both, None if affinities is None else affinities.repeat(2, 1, 1)),
            images=len(both),
            temperature=self.settings.temperature,
            keep=self.settings.keep_rate,
        )
        return z[: len(z) // 2], z[len(z) // 2 :], loss

    def _local(self, codes: Tensor, affinities: Tensor | None) -> Tensor | None:
        """The rows z_mix of codes mixed with their neighbours', where the settings want local hidden positives."""
        if not self.settings.local_positives:
            return None
        if affinities is None:
            raise ValueError("local hidden positives need neighbour affinities; ask the backbone for them")
        return self._project(self.drop(mix_neighbours(codes, affinities)))

    def _augmented_codes(self, batch: Batch) -> Tensor:
        if batch.augmented is None:
            raise ValueError("the features of an augmented view are needed")
        codes: Tensor = self.head(batch.augmented.features)
        return codes

    @torch.no_grad()
    def finish(self, sample: SampleFeatures) -> None:
        """Settle the centroids on the codes as they are now, where ``refit_probe`` says so.

        The published probe follows the codes by gradient, one step of Adam at a time. In the few hundred steps that
        a small set of images affords it lags behind, and clusters may stay empty; k-means on the final codes is what
        it would converge to.
        """
        if self.settings.refit_probe:
            refit_probe(self, sample, seed=self.seed)

    def optimizers(self) -> list[Optimizer]:
        """AdamW for the head; Adam for projection, cluster probe and linear probe."""
        rates = self.settings.learning_rates
        return [
            AdamW(self.head.parameters(), lr=rates.head, weight_decay=rates.weight_decay),
            Adam(self.projection.parameters(), lr=rates.projection),
            *self.probe_optimizers(rates.cluster_probe, rates.linear_probe),
        ]

    def clip_gradients(self) -> None:
        """Bound the norm of the head's gradient."""
        self._figures["gradient_norm"] = nn.utils.clip_grad_norm_(self.head.parameters(), self.settings.clip_norm)

    def random_state(self) -> dict[str, Tensor]:
        """The state of the pools' draws."""
        return {"pools": self._generator.get_state()}

    def restore_random_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the pools' draws."""
        self._generator.set_state(state["pools"].cpu())

    def step_figures(self) -> Mapping[str, Tensor | float]:
        """Of the last step.

        ``task_specific_weight`` (lambda), ``gradient_norm`` of the head before it was clipped, ``anchor_share`` (share
        of patches that found a positive), ``positives_agnostic`` (mean of an anchor) and, once lambda is above 0,
        ``positives_specific``.
        """
        return self._figures

    def describe(self, figures: Mapping[str, float]) -> str:
        """Losses, lambda, and how many positives an anchor found."""
        parts = [f"{word} {figures[name]:.3g}" for name, word in _SHOWN.items() if name in figures]
        positives = [figures[name] for name in ("positives_agnostic", "positives_specific") if name in figures]
        if positives:
            parts.append(f"positives {' + '.join(f'{count:.0f}' for count in positives)} an anchor")
        return ", ".join(parts)

    def warnings(self) -> list[str]:
        """That no patch found a positive."""
        return positives_warnings(self.figures())

    def _note(self, positives: FoundPositives) -> None:
        first = "positives_agnostic" if self.settings.task_agnostic_positives else "positives_specific"
        self._figures.update({"anchor_share": positives.anchors, first: positives.agnostic})
        if positives.specific is not None:
            self._figures["positives_specific"] = positives.specific

    def _project(self, codes: Tensor) -> Tensor:
        return _as_multiplied(F.normalize(self.projection(patch_rows(codes)), dim=1))

    def _draw_codes(self, features: Tensor) -> Tensor:
        return draw_patches(self.drop(self.averaged(features)), self._generator)


def positives_warnings(figures: Mapping[str, float]) -> list[str]:
    """What is wrong with the positives found in a step, by :meth:`HP.figures`, in sentences."""
    if figures.get("anchor_share", 1.0) > 0:
        return []
    return [
        "no patch is more similar to another than to the reference pool, so nothing is learnt: the images are all "
        "alike, or the pool is too large for a batch; give other imagery, raise train.batch_size or lower "
        "method.pool_size"
    ]


def _or(number: int | None, otherwise: int) -> int:
    return otherwise if number is None else number


def _unit_rows(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B*h*w, C), image-major, each row of length 1, without gradient."""
    return _as_multiplied(F.normalize(patch_rows(maps.detach()), dim=1))


def _as_multiplied(rows: Tensor) -> Tensor:
    """Under autocasting on a GPU, the rows in its half precision: their products are what a step consists of.

    The loss adds them up in float32. On a CPU half precision would gain nothing.
    """
    if rows.is_cuda and torch.is_autocast_enabled("cuda"):
        return rows.to(torch.get_autocast_dtype("cuda"))
    return rows
