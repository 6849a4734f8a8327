"""Files that stay open between reads."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class OpenFiles(Generic[T]):
    """So many (``most``) of the recently used files, open; one thread reads at a time.

    A process that this is sent to opens them anew, since GDAL handles do not travel, and so does one that is forked
    off: it would share its parent's handles, and with them the place each reads at.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._forget()

    def __reduce__(self) -> tuple[object, ...]:
        return OpenFiles, (self._most,)

    def __len__(self) -> int:
        return len(self._files)

    @contextmanager
    def use(self, path: str, open_file: Callable[[ExitStack], T]) -> Iterator[T]:
        """What a file opens as, for as long as the ``with`` block lasts; ``open_file`` has it closed with the stack."""
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            if path not in self._files:
                if len(self._files) >= self._most:
                    self._files.popitem(last=False)[1][1].close()
                with ExitStack() as stack:
                    self._files[path] = open_file(stack), stack.pop_all()
            self._files.move_to_end(path)
            yield self._files[path][0]

    def close(self, path: str | None = None) -> None:
        """Close a file, or all."""
        with self._lock:
            for name in [path] if path is not None else list(self._files):
                if name in self._files:
                    self._files.pop(name)[1].close()

    def _forget(self) -> None:
        self._files: OrderedDict[str, tuple[T, ExitStack]] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()
