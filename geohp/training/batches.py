"""The batches of a training as a LightningDataModule: every process its share, from wherever training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from geohp.training.task import MethodTask


class EpochBatches:
    """Batches of one epoch each time it is gone through; the first time from the step that training is at.

    Args:
        loader: with a sampler that has an ``epoch`` and a ``start``, see :class:`geohp.features.epochs.EpochOrder`.
        steps_done: tells how many steps of the whole training are done.
    """

    def __init__(self, loader: DataLoader[Any], steps_done: Callable[[], int]) -> None:
        self.loader, self.steps_done = loader, steps_done

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        # Not before the first batch is asked for: until then, a checkpoint may still be loaded.
        epoch, step = divmod(self.steps_done(), len(self))
        order: Any = self.loader.sampler
        order.set_epoch(epoch)
        order.start = step * (self.loader.batch_size or 1)
        yield from self.loader


class FeatureBatches(L.LightningDataModule):
    """What a sampler of features gives to a training.

    Args:
        task: which features, and how many steps of the whole training are done.
    """

    def __init__(self, task: MethodTask) -> None:
        super().__init__()
        self.task = task

    def train_dataloader(self) -> EpochBatches:
        """This process's share of every epoch."""
        trainer = self.trainer
        rank, processes = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        return EpochBatches(self.task.features.batches(rank, processes), lambda: self.task.steps_done)
