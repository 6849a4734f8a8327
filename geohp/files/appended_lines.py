"""A file of JSON lines that is only added to: what was written stays, however rude the end."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geohp.files.reading import json_value


class AppendedLines:
    """Lines of JSON, each on the disk before the next is begun."""

    def __init__(self, path: Path, add: Callable[[Any], None]) -> None:
        """Read what is there; a line torn by a kill or a full disk, and whatever follows it, is cut off.

        Args:
            path: the file; created where there is none.
            add: takes the value of every line; what it cannot take is told by a ValueError, TypeError, KeyError,
                AttributeError or OverflowError, and counts as torn.

        Raises:
            OSError: the file cannot be read or written.
        """
        self._lock = threading.Lock()
        self._length = _read(path, add)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(self._length)

    def append(self, value: Any) -> None:
        """Add a line; thread-safe.

        Raises:
            OSError: the disk is full; the line is then not there, and later ones can still be written.
            TypeError: the value cannot be written as JSON.
        """
        self.append_bytes(json.dumps(value).encode() + b"\n")

    def append_bytes(self, line: bytes) -> None:
        """Add a line as it is to stand there, its end included; see :meth:`append`."""
        with self._lock:
            try:
                written = self._file.write(line)
                if written != len(line):
                    raise OSError("No space left on device")
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(self._length)
                raise
            self._length += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read(path: Path, add: Callable[[Any], None]) -> int:
    """Give away the values of whole lines, and return their length in bytes."""
    length = 0
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return length
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            add(json_value(line))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            break
        length += len(line)
    return length
