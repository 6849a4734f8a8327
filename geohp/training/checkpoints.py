"""Checkpoints of a running training: written whole, read without unpickling, exact to the next random number."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import lightning as L
import torch
from torch import Tensor

from geohp.errors import ModelError
from geohp.files import atomic_write

if TYPE_CHECKING:
    from geohp.features.sampler import FeatureSampler

CHECKPOINT_NAME = "checkpoint.ckpt"


class Checkpoints(L.Callback):
    """Saves the state of training at the end of every epoch, and every so many minutes within one.

    Args:
        path: the file; it is replaced by each later one when that is complete.
        minutes: between two checkpoints within an epoch; 0 saves after every step.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.minutes = path, minutes
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save where it is time to; the end of an epoch saves anyway."""
        if trainer.is_last_batch:
            return
        due = time.monotonic() - self._saved_at >= 60 * self.minutes
        if trainer.world_size > 1:
            # All processes take part in saving, so all have to think that it is time.
            due = trainer.strategy.broadcast(due)
        if due:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save what later epochs start from."""
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        # What is logged up to here must be there, too, when training goes on from here.
        for logger in trainer.loggers:
            logger.save()
        # All processes take part in saving, one writes.
        with atomic_write(self.path) if trainer.is_global_zero else nullcontext(self.path) as draft:
            trainer.save_checkpoint(draft)
        self._saved_at = time.monotonic()


def check_readable(path: Path) -> None:
    """Make sure that a checkpoint can be gone on from.

    Raises:
        ModelError: it is damaged.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path}: the checkpoint is damaged ({reason})",
            "remove it, and {option} trains the run from its beginning",
            option="resume",
        ) from error


@contextmanager
def preserve_rng_state(features: FeatureSampler) -> Iterator[None]:
    """Whatever is drawn inside, training goes on as if it had not been."""
    samples, states = features.state(), random_states()
    try:
        yield
    finally:
        features.restore(samples)
        restore_random_states(states)


class RandomStates(TypedDict):
    """States of torch's own random numbers, on the CPU and on each GPU."""

    cpu: Tensor
    cuda: NotRequired[list[Tensor]]


def random_states() -> RandomStates:
    """The states of torch's own random numbers, of all devices in use."""
    states: RandomStates = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: RandomStates) -> None:
    """Go on where :func:`random_states` was taken."""
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
