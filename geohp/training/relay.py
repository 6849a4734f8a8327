"""Across processes: what those of a training report and log reaches whoever listens where it was started."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import Any

import torch.multiprocessing as multiprocessing

from geohp.progress import Progress

_PACKAGE = "geohp"


class Relay:
    """Progress that reports to where it was made from any process it was sent to; geohp's log records travel along.

    Args:
        progress: of the process that makes the relay.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress: Progress | None = progress
        self._queue: Any = multiprocessing.get_context("spawn").SimpleQueue()

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report: at once where the listener is, and through the queue elsewhere."""
        if self._progress is not None:
            self._progress(stage, done, total, detail)
        else:
            self._queue.put((stage, done, total, detail))

    def __getstate__(self) -> dict[str, object]:
        # Progress bars and terminals do not travel.
        return {"_queue": self._queue, "level": logging.getLogger(_PACKAGE).getEffectiveLevel()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._progress, self._queue = None, state["_queue"]
        logger = logging.getLogger(_PACKAGE)
        logger.handlers, logger.propagate = [_ToQueue(self._queue)], False
        logger.setLevel(state["level"])

    def __deepcopy__(self, memo: dict[int, object]) -> Relay:
        # Who listens to a copy is who listens to this one.
        return self

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Pass on what other processes report and log meanwhile."""
        thread = threading.Thread(target=self._listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._queue.put(None)
            thread.join()

    def _listen(self) -> None:
        while (message := self._queue.get()) is not None:
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            else:
                self(*message)


class _ToQueue(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put(record)  # type: ignore[attr-defined]
