"""Telling across processes: what the processes of a training say reaches whoever listens where it was started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.multiprocessing as multiprocessing


class Relay:
    """Calls a function that lives in the process that made the relay, from any process that it was sent to.

    Args:
        function: called with what the relay is called with.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function: Callable[..., None] | None = function
        self._queue: Any = multiprocessing.get_context("spawn").SimpleQueue()

    def __call__(self, *told: Any) -> None:
        """Tell: at once where the function is, and through the queue elsewhere."""
        if self._function is not None:
            self._function(*told)
        else:
            self._queue.put(told)

    def __getstate__(self) -> dict[str, Any]:
        # Progress bars and terminals do not travel.
        return {"_function": None, "_queue": self._queue}

    def __deepcopy__(self, memo: dict[int, Any]) -> Relay:
        # Who listens to a copy is who listens to this one.
        return self

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Pass on what other processes tell meanwhile."""
        thread = threading.Thread(target=self._listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._queue.put(None)
            thread.join()

    def _listen(self) -> None:
        while (told := self._queue.get()) is not None:
            assert self._function is not None
            self._function(*told)
