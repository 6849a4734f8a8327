"""Figures of training steps, brought to the host without making a GPU wait.

A step's figures are stacked where they were computed and copied while later steps run; they reach the loggers, and
whoever watches them, in order and when they are there: on a CPU at once, on a GPU a step or two later. Before anything
is saved, at the end of an epoch and at the end of training they are waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor

from geohp.features.host_copy import HostCopy

StepFigures = Mapping[str, Tensor | float]

_MOST_WAITING = 64
"""Steps whose figures may be on their way before the host waits: it would only run further ahead."""


@runtime_checkable
class FiguresWatcher(Protocol):
    """A callback that wants to know the figures of every step."""

    def on_figures(
        self, trainer: L.Trainer, pl_module: L.LightningModule, step: int, figures: Mapping[str, float]
    ) -> None:
        """Take note of those of a step, counted from 0."""


@dataclass(frozen=True)
class _Waiting:
    """Figures of a step on their way to the host."""

    step: int
    epoch: int
    known: dict[str, float]
    names: list[str]
    values: HostCopy

    @classmethod
    def of(cls, figures: StepFigures, step: int, epoch: int) -> _Waiting:
        tensors = {name: value for name, value in figures.items() if isinstance(value, Tensor)}
        known = {name: float(value) for name, value in figures.items() if not isinstance(value, Tensor)}
        stacked = torch.stack([value.detach().float() for value in tensors.values()]) if tensors else torch.empty(0)
        return cls(step, epoch, known, list(tensors), HostCopy(stacked))

    def figures(self) -> dict[str, float]:
        """The numbers; waits for them."""
        return dict(zip(self.names, self.values.wait().tolist(), strict=True)) | self.known


class FiguresReader(L.Callback):
    """Takes the module's ``figures`` after every step to the loggers and to all callbacks that watch them.

    To be the first of a trainer's callbacks: at the end of an epoch the others shall know all of its steps.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Send for the step's figures, and pass on those that have come."""
        task: Any = pl_module
        self._waiting.append(_Waiting.of(task.figures, task.steps_done - 1, trainer.current_epoch))
        while self._waiting and (self._waiting[0].values.arrived or len(self._waiting) > _MOST_WAITING):
            self._pass_on(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for all."""
        self.catch_up(trainer, pl_module)

    def catch_up(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pass on the figures of all steps made so far: to be called before training is saved."""
        while self._waiting:
            self._pass_on(trainer, pl_module)

    def _pass_on(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        waiting = self._waiting.popleft()
        figures = waiting.figures()
        for logger in trainer.loggers:
            logger.log_metrics({**figures, "epoch": float(waiting.epoch)}, step=waiting.step)
            logger.save()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, FiguresWatcher):
                callback.on_figures(trainer, pl_module, waiting.step, figures)
