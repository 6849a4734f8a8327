"""Across processes: what those of a training report, log and fail with reaches whoever listens where it was started."""

from __future__ import annotations

import logging
import pickle
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

import torch.multiprocessing as multiprocessing
from torch.distributed import DistError
from torch.multiprocessing.spawn import ProcessException

from geohp.errors import ClusterError, GeohpError
from geohp.progress import Progress

_PACKAGE = "geohp"
_PATIENCE_S = 10.0


class Relay:
    """Progress that reports to where it was made from any process it was sent to; geohp's log records travel along.

    Args:
        progress: of the process that makes the relay.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress: Progress | None = progress
        self._queue: Any = multiprocessing.get_context("spawn").SimpleQueue()
        self._error: BaseException | None = None

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report: at once where the listener is, and through the queue elsewhere."""
        if self._progress is not None:
            self._progress(stage, done, total, detail)
        else:
            self._queue.put((stage, done, total, detail))

    def fail(self, error: Exception) -> None:
        """Have the listener raise what ends another process, of which only a traceback's text would arrive there."""
        if not isinstance(error, GeohpError):  # whose sentence says all
            error.add_note(f"In another process:\n{''.join(traceback.format_exception(error))}")
        with suppress(Exception):  # some are not made for travelling
            pickle.loads(pickle.dumps(error))
            self._queue.put(error)

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
        """Pass on what other processes report and log meanwhile, and raise what they fail with.

        Where whoever listens raises something, the processes begun meanwhile are stopped, and that is raised.
        """
        thread = threading.Thread(target=self._listen, args=(active_children(),), daemon=True)
        thread.start()
        ended: ProcessException | ClusterError | None = None
        try:
            yield
        except (ProcessException, ClusterError) as error:
            ended = error
        finally:
            # No last message: a process that was killed as it wrote holds the lock for good.
            self._queue._writer.close()
            thread.join(_PATIENCE_S)  # not for ever: another process may have inherited the pipe
        told = self._error
        if told is not None and not (isinstance(ended, ClusterError) and _may_miss_another(told)):
            raise told from (ended if isinstance(told, GeohpError) else None)
        if ended is not None:
            raise ended

    def _listen(self, others: Sequence[BaseProcess]) -> None:
        with suppress(EOFError, OSError):  # all that wrote have ended, one of them perhaps within a message
            while True:
                message = self._queue.get()
                try:
                    self._take(message)
                except BaseException as error:  # there is nobody to catch it in this thread
                    self._fail(error)
                    for process in set(active_children()).difference(others):
                        process.terminate()

    def _take(self, message: Any) -> None:
        if isinstance(message, Exception):
            self._fail(message)
        elif isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
        else:
            self(*message)

    def _fail(self, error: BaseException) -> None:
        """The first counts, which is what the others follow from."""
        if self._error is None:
            self._error = error


def _may_miss_another(error: BaseException) -> bool:
    """Whether it may be what a process says that cannot reach one that was killed.

    Anything else is the cause itself, and the kill its consequence: who does not end within half a minute, being busy
    outside Python, is killed for it.
    """
    return type(error) is RuntimeError or isinstance(error, DistError)


class _ToQueue(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put(record)  # type: ignore[attr-defined]
