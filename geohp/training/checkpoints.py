"""Checkpoints of a running training: written whole, read without unpickling, exact to the next random number."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import lightning as L
import torch
from torch import Tensor

from geohp.files.atomic import atomic_write
from geohp.training.checks import damaged_checkpoint
from geohp.training.figures import FiguresReader

if TYPE_CHECKING:
    from geohp.features.sampler import FeatureSampler

logger = logging.getLogger(__name__)

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a training to stop; Windows knows no hang-up."""


_ENTRIES = {"pytorch-lightning_version", "state_dict", "loops", "optimizer_states", "callbacks"}
"""Of a checkpoint, without which nothing goes on."""


class StoppedError(Exception):
    """Training was stopped by a signal, whose number it carries, and is saved.

    Not a KeyboardInterrupt, which a process that shares the work would keep to itself.
    """


class Checkpoints(L.Callback):
    """Saves the state of training at the end of every epoch, every so many minutes within one, and when it is stopped.

    The signals of :data:`STOPPING` end training after the step at hand; a second one ends it at once, from the last
    checkpoint.

    Args:
        path: the file; it is replaced by each later one when that is complete.
        minutes: between two checkpoints within an epoch; 0 saves after every step.
        figures: passes on those of all steps before any of them is saved.
    """

    def __init__(self, path: Path, minutes: float, figures: FiguresReader) -> None:
        self.path, self.minutes, self.figures = path, minutes, figures
        self._saved_at = time.monotonic()
        self._stopping = 0  # the signal
        self._shared = False

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """From now on there is something to save; Lightning puts the handlers back in the end."""
        self._shared = trainer.world_size > 1
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                signal.signal(number, self._stop)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save where it is time to; the end of an epoch saves anyway."""
        if trainer.is_last_batch:
            return
        due, stopping = time.monotonic() - self._saved_at >= 60 * self.minutes, self._stopping
        if self._shared:
            # All processes take part in saving, so all have to think that it is time.
            due, stopping = trainer.strategy.broadcast((due, stopping))
        if due or stopping:
            self._save(trainer)
        if stopping:
            raise StoppedError(stopping)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save what later epochs start from."""
        self._save(trainer)
        if stopping := trainer.strategy.broadcast(self._stopping) if self._shared else self._stopping:
            raise StoppedError(stopping)

    def _stop(self, number: int, frame: object) -> None:
        """End after this step; where the work is not shared, at once when asked again."""
        if self._stopping and not self._shared:
            raise KeyboardInterrupt(number)
        # Not where it is shared: there a log record waits for the lock that what was interrupted may hold.
        if not self._stopping and not self._shared:
            logger.info("stopping after this step")
        self._stopping = number

    def _save(self, trainer: L.Trainer) -> None:
        # What is logged up to here must be there, too, when training goes on from here; and broken numbers end it.
        self.figures.catch_up(trainer, trainer.lightning_module)
        for logger in trainer.loggers:
            logger.save()
        # All processes take part in saving, one writes.
        failures = (OSError, RuntimeError)  # torch's word for a full disk
        with atomic_write(self.path, failures=failures) if trainer.is_global_zero else nullcontext(self.path) as draft:
            trainer.save_checkpoint(draft)
        self._saved_at = time.monotonic()


def check_readable(path: Path) -> None:
    """Make sure that a checkpoint can be gone on from.

    Raises:
        ModelError: it is damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # archives and pickles fail in their own ways, and all mean the same to the user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise damaged_checkpoint(path, reason) from error
    if not isinstance(content, dict) or not content.keys() >= _ENTRIES:
        raise damaged_checkpoint(path, "it is none of a training")


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
    """The states of torch's own random numbers, of all devices in use: a GPU that is not is left alone."""
    states: RandomStates = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: RandomStates) -> None:
    """Go on where :func:`random_states` was taken."""
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
