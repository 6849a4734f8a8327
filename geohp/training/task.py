"""The training step as a LightningModule: any iterative method over a source of frozen features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from geohp.data.augment import photometric
from geohp.methods.base import Batch, Method
from geohp.training.features import FeatureSource


class StepReport(L.Callback):
    """Tells of every step: ``tell("training", done, total, detail)``.

    Args:
        tell: whom to tell.
        total_steps: of the whole training.
    """

    def __init__(self, tell: Callable[..., None], total_steps: int) -> None:
        self.tell, self.total_steps, self.done = tell, total_steps, 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """After a step."""
        self.done += 1
        loss = float(trainer.callback_metrics["loss"])
        self.tell("training", self.done, self.total_steps, f"loss {loss:.3f}")


class MethodTask(L.LightningModule):
    """Trains a method's head and probes; the backbone stays outside and frozen.

    Optimisation is manual: a method has several optimisers, all stepped on one backward pass.

    Args:
        method: prepared (see :meth:`geohp.methods.base.Method.prepare`).
        source: where features come from.
        total_steps: steps of the whole training, for schedules.
        seed: of the photometric augmentation.
    """

    def __init__(self, method: Method, source: FeatureSource, total_steps: int, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method = method
        self.total_steps = total_steps
        # Not a submodule: Lightning shall neither move nor save the backbone.
        self.__dict__["source"] = source
        self._steps_done = 0
        self._augmenting = torch.Generator().manual_seed(seed)

    def configure_optimizers(self) -> list[Optimizer]:
        """The method's own."""
        return self.method.optimizers()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One step: losses, one backward pass, every optimiser."""
        source: FeatureSource = self.__dict__["source"]
        self.method.before_step(batch_idx, source.sample)
        losses = self.method.losses(self._batch(source, batch), step=self._steps_done, total_steps=self.total_steps)
        total = torch.stack(list(losses.values())).sum()
        optimizers: Any = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(total)
        self.method.clip_gradients()
        for optimizer in optimizers:
            optimizer.step()
        self._steps_done += 1
        self.log("loss", total.detach())
        self.log_dict({name: value.detach() for name, value in losses.items()})
        self.log_dict(self.method.figures())

    def _batch(self, source: FeatureSource, batch: dict[str, Tensor]) -> Batch:
        augmented = None
        if self.method.wants_augmented:
            augmented = source.features(photometric(batch["image"], self._augmenting), affinities=False)
        return Batch(source.patches(batch), augmented, batch.get("label"))
