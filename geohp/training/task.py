"""The training step as a LightningModule: any iterative method over frozen features."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed import all_gather_object
from torch.optim import Optimizer

from geohp.backbones.base import PatchFeatures
from geohp.backbones.memory import half_as_many
from geohp.data.augment import photometric
from geohp.errors import ModelError
from geohp.features.images import ImageBatch
from geohp.features.neighbours import NearestImages
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Batch, Method
from geohp.progress import Progress
from geohp.training.checkpoints import RandomStates, random_states, restore_random_states
from geohp.training.figures import StepFigures

_STATE = "geohp"
_WORDS_EVERY_S = 0.2  # nobody reads faster


class StepReport(L.Callback):
    """Reports every step, with the figures of the last one that they are known of."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._words, self._read_at = "", -_WORDS_EVERY_S

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """After a step."""
        task: Any = pl_module
        if trainer.is_global_zero:
            self.progress("training", task.steps_done, task.total_steps, self._words)

    def on_figures(
        self, trainer: L.Trainer, pl_module: L.LightningModule, step: int, figures: Mapping[str, float]
    ) -> None:
        """Put them into words."""
        task: Any = pl_module
        if time.monotonic() - self._read_at >= _WORDS_EVERY_S:
            self._words, self._read_at = task.method.describe(figures), time.monotonic()


class MethodTask(L.LightningModule):
    """Trains a method's head and probes; the backbone stays outside and frozen.

    Optimisation is manual: a method has several optimisers, all stepped on one backward pass. Over several processes,
    each looks for positives among its own share of a batch; pools are the same in all of them.

    Args:
        method: prepared (see :meth:`geohp.methods.base.Method.prepare`).
        features: of the images to train on.
        total_steps: steps of the whole training, for schedules.
        seed: of the photometric augmentation.
        nearest: similar images, where the method asks for them.

    Attributes:
        steps_done: steps of the whole training that are done.
        figures: losses and figures of the last step, where they were computed.
    """

    def __init__(
        self,
        method: Method,
        features: FeatureSampler,
        total_steps: int,
        seed: int = 0,
        nearest: NearestImages | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method = method
        self.total_steps = total_steps
        # Not a submodule: Lightning shall neither move nor save the backbone.
        self.__dict__["features"] = features
        self.steps_done = 0
        self.figures: StepFigures = {}
        self._parts = 1  # that a batch is computed in, one after another
        self._augmenting = torch.Generator().manual_seed(seed)
        self._random: RandomStates | None = None
        self._own: dict[str, Tensor] = {}  # pools and queues of this process, to go on with
        self._images = features.images.identity()
        self._nearest = nearest

    def configure_optimizers(self) -> list[Optimizer]:
        """The method's own."""
        return self.method.optimizers()

    def on_fit_start(self) -> None:
        """Every process computes features on its own device."""
        self.features.backbone.to(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Go on with the random numbers of the checkpoint, after all that draws some while training is set up."""
        if self._random is not None:
            restore_random_states(self._random)
            self._random = None
        for name, rows in self._own.items():
            self.method.get_buffer(name).copy_(rows)
        self._own = {}

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """One step: losses, one backward pass, every optimiser."""
        self.method.before_step(batch_idx, self.features.sample)
        optimizers: Any = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        losses = self._accumulate_gradients(self._batch(batch), optimizers)
        for optimizer in optimizers:
            optimizer.step()
        self.steps_done += 1
        self.figures = {"loss": torch.stack(list(losses.values())).sum(), **losses, **self.method.step_figures()}

    def _accumulate_gradients(self, batch: Batch, optimizers: Sequence[Any]) -> dict[str, Tensor]:
        """The losses of a step, their gradients being in place; of fewer images at a time where memory runs out.

        Each part looks for positives among its own images, as each of several processes does.

        Raises:
            ModelError: the device's memory does not do for a single image, or for a process's share of a batch.
        """
        while True:
            for optimizer in optimizers:
                optimizer.zero_grad()
            try:
                return self._losses(list(batch.parts(self._parts)) if self._parts > 1 else [batch])
            except torch.OutOfMemoryError as error:
                at_once = math.ceil(len(batch) / self._parts)
                if self.trainer.world_size > 1:  # the others would wait for this one's gradients
                    raise ModelError(
                        f"device {self.device}: not enough memory for a step on {at_once} images",
                        "set train.batch_size lower, or train on smaller patches",
                    ) from error
                if at_once == 1:
                    raise ModelError(
                        f"device {self.device}: not enough memory for a step on a single image",
                        "train on smaller patches, or on another device",
                    ) from error
            self._parts = math.ceil(len(batch) / half_as_many(at_once, self.device, "images"))

    def _losses(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """Means over the parts, after a backward pass through each."""
        means: dict[str, Tensor] = {}
        for part in parts:
            losses = self.method.losses(part, step=self.steps_done, total_steps=self.total_steps)
            self.manual_backward(torch.stack(list(losses.values())).sum() * part.share)
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + part.share * loss.detach()
        return means

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """All but the images' numbers, which nobody computes with: to ask a GPU for them would be to wait for it."""
        index = batch.pop("index")
        return {**super().transfer_batch_to_device(batch, device, dataloader_idx), "index": index}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Bound the gradients once, before the first optimiser: in half precision they are unscaled only here."""
        if optimizer is self.trainer.optimizers[0]:
            self.method.clip_gradients()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What training needs to go on as if it had never stopped, besides weights and optimisers."""
        drawing = {
            "augmenting": self._augmenting.get_state(),
            "method": self.method.random_state(),
            "source": self.features.state(),
            "random": random_states(),
            "buffers": dict(self.method.named_buffers()) if self.trainer.world_size > 1 else {},
            "nearest": None if self._nearest is None else self._nearest.state(),
        }
        checkpoint[_STATE] = {
            "steps_done": self.steps_done,
            "total_steps": self.total_steps,
            "images": self._images,
            "processes": self._of_all_processes(drawing),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take that up again.

        Raises:
            ModelError: the checkpoint is of a training on other images.
        """
        state = checkpoint[_STATE]
        if (state["images"], state["total_steps"]) != (self._images, self.total_steps):
            raise ModelError(
                "the checkpoint is of other images, or of the same ones before they were changed",
                "bring them back, or start a new run",
            )
        self.steps_done = state["steps_done"]
        # Earlier checkpoints have the state of the first alone, among the others.
        drawing = state.get("processes", [state] * self.trainer.world_size)[self.trainer.global_rank]
        self._augmenting.set_state(drawing["augmenting"].cpu())
        self.method.restore_random_state(drawing["method"])
        self.features.restore(drawing["source"])
        self._random, self._own = drawing["random"], drawing.get("buffers", {})
        if self._nearest is not None:
            self._nearest.restore(drawing["nearest"])

    @property
    def features(self) -> FeatureSampler:
        """Of the images to train on."""
        features: FeatureSampler = self.__dict__["features"]
        return features

    def _of_all_processes(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """That of each: they have pools and queues of their own and, on GPUs, draw other random numbers."""
        states = [state] * self.trainer.world_size
        if len(states) > 1:
            all_gather_object(states, state)
        return states

    def _batch(self, batch: ImageBatch) -> Batch:
        augmented = neighbours = None
        if self.method.wants_augmented:
            augmented = self.features.encode(photometric(batch["image"], self._augmenting), affinities=False)
        if self._nearest is not None:
            neighbours = PatchFeatures(self._nearest.draw(batch["index"]))
        patches = self.features.patches(batch)
        masks = self.features.masks(batch, patches) if self.method.wants_masks else None
        return Batch(patches, augmented, masks=masks, neighbours=neighbours, labels=batch.get("mask"))
