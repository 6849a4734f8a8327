"""Hidden Positives as a method: one training step put together from its parts (arXiv 2303.15014, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from geohp.methods.base import Batch, Method, SampleFeatures
from geohp.methods.hp.head import EMAHead, SegmentationHead
from geohp.methods.hp.loss import FoundPositives, contrastive_loss
from geohp.methods.hp.mixing import mix_neighbours
from geohp.methods.hp.positives import ReferencePool
from geohp.methods.kmeans import refit_probe
from geohp.methods.probes import ClusterProbe, LinearProbe


class HP(Method):
    """Global hidden positives (GHP) and local hidden positives (LHP) over frozen features.

    Args:
        in_channels: width C of the backbone's features.
        clusters: number of classes K to find.
        label_classes: number of labelled classes for a linear probe; 0 where there are no labels.
        code_channels: width D of the codes.
        temperature: tau.
        consistency_weight: alpha, of the photometric consistency term.
        keep_rate: rho, the share of non-positives kept in the denominator.
        pool_size: rows R of each reference pool.
        ema_momentum: m, of the averaged head.
        warmup_steps: steps during which only task-agnostic positives count.
        renew_interval: steps of an epoch between refills of the task-specific pool.
        dropout: rate of whole-channel dropout.
        reweight: weight anchors by the mass of their positives.
        refit_probe: settle the centroids by spherical k-means on the trained codes, see :meth:`finish`.
        learning_rates: head, projection, linear_probe, cluster_probe and weight_decay.
        clip_norm: bound on the head's gradient norm.
        seed: of the pools' draws.
    """

    name = "hp"

    def __init__(
        self,
        in_channels: int,
        clusters: int,
        *,
        label_classes: int = 0,
        code_channels: int = 256,
        temperature: float = 0.4,
        consistency_weight: float = 0.0,
        keep_rate: float = 1.0,
        pool_size: int = 1024,
        ema_momentum: float = 0.999,
        warmup_steps: int = 100,
        renew_interval: int = 20,
        dropout: float = 0.1,
        reweight: bool = True,
        refit_probe: bool = True,
        learning_rates: Mapping[str, float] | None = None,
        clip_norm: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.head: SegmentationHead = SegmentationHead(in_channels, code_channels, dropout)
        self.averaged = EMAHead(self.head, ema_momentum)
        self.projection = nn.Linear(code_channels, code_channels)
        self.pool_agnostic = ReferencePool(pool_size, in_channels)
        self.pool_specific = ReferencePool(pool_size, code_channels)
        self.probe = ClusterProbe(code_channels, clusters)
        self.linear_probe = LinearProbe(code_channels, label_classes) if label_classes else None
        self.drop = nn.Dropout2d(dropout)
        self.temperature, self.keep_rate, self.reweight = temperature, keep_rate, reweight
        self.consistency_weight = consistency_weight
        self.warmup_steps, self.renew_interval = warmup_steps, renew_interval
        self.clip_norm = clip_norm
        self.refit_probe, self.seed = refit_probe, seed
        self.rates = {
            "head": 5e-4, "projection": 5e-4, "linear_probe": 1e-3, "cluster_probe": 5e-3, "weight_decay": 0.1,
            **(learning_rates or {}),
        }  # fmt: skip
        self.wants_augmented = consistency_weight > 0
        self._generator = torch.Generator().manual_seed(seed)
        self._figures: dict[str, Tensor | float] = {}

    def prepare(self, sample: SampleFeatures) -> None:
        """Fill both reference pools: one random patch of each of R images, from shuffled passes of their own."""
        self._fill_agnostic(sample)
        self._fill_specific(sample)

    def before_step(self, step_of_epoch: int, sample: SampleFeatures) -> None:
        """Refill the task-specific pool every ``renew_interval`` steps of an epoch, not at its first."""
        if step_of_epoch and step_of_epoch % self.renew_interval == 0:
            self._fill_specific(sample)

    def task_specific_weight(self, step: int, total_steps: int) -> float:
        """lambda: 0 during the warm-up, then growing linearly to 1 at the end of training."""
        if step <= self.warmup_steps:
            return 0.0
        return (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)

    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """The contrastive loss, photometric consistency where asked for, and the probes' own losses.

        The probes learn from detached codes: nothing of them, and no label, reaches the head.
        """
        features = batch.patches.features
        if batch.patches.affinities is None:
            raise ValueError("HP needs neighbour affinities; ask the backbone for them")
        codes = self.head(features)
        averaged = self.averaged(features)
        # The average takes the head as it is before this step's update: one step of lag, as published.
        self.averaged.update(self.head)
        mixed = mix_neighbours(codes, batch.patches.affinities)
        weight = self.task_specific_weight(step, total_steps)
        z = self._project(codes)
        self._figures = {"task_specific_weight": weight}
        contrastive = contrastive_loss(
            z,
            self._project(self.drop(mixed)),
            _unit_rows(self.drop(features)),
            _unit_rows(self.drop(averaged)),
            self.pool_agnostic.rows,
            self.pool_specific.rows,
            images=len(features),
            temperature=self.temperature,
            task_specific_weight=weight,
            keep=self.keep_rate,
            reweight=self.reweight,
            tell=self._note,
        )
        losses = {"contrastive": contrastive, "cluster": self.probe.loss(codes.detach())}
        if self.wants_augmented:
            if batch.augmented is None:
                raise ValueError("consistency_weight > 0 needs the features of an augmented view")
            other = self._project(self.head(batch.augmented.features))
            losses["consistency"] = self.consistency_weight * F.pairwise_distance(z, other).mean()
        if self.linear_probe is not None and batch.labels is not None:
            losses["linear"] = self.linear_probe.loss(codes.detach(), batch.labels)
        return losses

    @torch.no_grad()
    def finish(self, sample: SampleFeatures) -> None:
        """Settle the centroids on the codes as they are now, where ``refit_probe`` says so.

        The published probe follows the codes by gradient, one step of Adam at a time. In the few hundred steps that
        a small set of images affords it lags behind, and clusters may stay empty; k-means on the final codes is what
        it would converge to.
        """
        if self.refit_probe:
            refit_probe(self, sample, seed=self.seed)

    def optimizers(self) -> list[Optimizer]:
        """AdamW for the head; Adam for projection, cluster probe and linear probe."""
        rates = self.rates
        chosen: list[Optimizer] = [
            AdamW(self.head.parameters(), lr=rates["head"], weight_decay=rates["weight_decay"]),
            Adam(self.projection.parameters(), lr=rates["projection"]),
            Adam(self.probe.parameters(), lr=rates["cluster_probe"]),
        ]
        if self.linear_probe is not None:
            chosen.append(Adam(self.linear_probe.parameters(), lr=rates["linear_probe"]))
        return chosen

    def clip_gradients(self) -> None:
        """Bound the norm of the head's gradient."""
        self._figures["gradient_norm"] = nn.utils.clip_grad_norm_(self.head.parameters(), self.clip_norm)

    def random_state(self) -> dict[str, Tensor]:
        """The state of the pools' draws."""
        return {"pools": self._generator.get_state()}

    def restore_random_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the pools' draws."""
        self._generator.set_state(state["pools"].cpu())

    def figures(self) -> dict[str, float]:
        """Of the last step; on a GPU this waits for it.

        ``task_specific_weight`` (lambda), ``gradient_norm`` of the head before it was clipped, ``anchor_share`` (share
        of patches that found a positive), ``positives_agnostic`` (mean of an anchor) and, once lambda is above 0,
        ``positives_specific``.
        """
        return {name: float(value) for name, value in self._figures.items()}

    def _note(self, found: FoundPositives) -> None:
        self._figures.update(anchor_share=found.anchors, positives_agnostic=found.agnostic)
        if found.specific is not None:
            self._figures["positives_specific"] = found.specific

    def _project(self, codes: Tensor) -> Tensor:
        rows = codes.flatten(2).transpose(1, 2).reshape(-1, codes.shape[1])
        return _as_multiplied(F.normalize(self.projection(rows), dim=1))

    @torch.no_grad()
    def _fill_agnostic(self, sample: SampleFeatures) -> None:
        maps = (self.drop(features) for features in sample(len(self.pool_agnostic.rows)))
        self.pool_agnostic.fill(maps, self._generator)

    @torch.no_grad()
    def _fill_specific(self, sample: SampleFeatures) -> None:
        maps = (self.drop(self.averaged(features)) for features in sample(len(self.pool_specific.rows)))
        self.pool_specific.fill(maps, self._generator)


def _unit_rows(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B*h*w, C), image-major, each row of length 1, without gradient."""
    rows = maps.detach().flatten(2).transpose(1, 2).reshape(-1, maps.shape[1])
    return _as_multiplied(F.normalize(rows, dim=1))


def _as_multiplied(rows: Tensor) -> Tensor:
    """Under autocasting on a GPU, the rows in its half precision: their products are what a step consists of.

    The loss adds them up in float32. On a CPU half precision would gain nothing.
    """
    if rows.is_cuda and torch.is_autocast_enabled("cuda"):
        return rows.to(torch.get_autocast_dtype("cuda"))
    return rows
