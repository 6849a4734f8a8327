"""One process at a time in a folder; a process that is killed leaves it free."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK = "lock"
"""Name of the file that is locked."""

_ATTEMPTS = 100


class FolderLock:
    """A folder that exists and that nobody else works in, until :meth:`release`.

    The operating system forgets the lock with the process. Where the file system knows no locks there is none.
    """

    def __init__(self, folder: Path):
        """Create the folder if need be, and take it.

        Raises:
            BlockingIOError: another process has it.
            OSError: it cannot be created or written to.
        """
        self.path = folder / LOCK
        self._handle = -1
        for attempt in range(_ATTEMPTS):
            folder.mkdir(exist_ok=True)
            try:
                self._take()
                return
            except FileNotFoundError:  # whoever had it removed the folder just now
                if attempt == _ATTEMPTS - 1:
                    raise

    @property
    def held(self) -> bool:
        """Whether it has not been released yet."""
        return self._handle >= 0

    def release(self, *, remove: bool = False) -> None:
        """Let others in; with ``remove`` the folder goes too if nothing else is in it."""
        if self._handle < 0:
            return
        if remove:
            # While it is still held: who opens the file before sees that it is gone, who comes later makes a new one.
            with suppress(OSError):
                self.path.unlink()
                self.path.parent.rmdir()
        os.close(self._handle)
        self._handle = -1

    def _take(self) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if sys.platform != "win32":
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                        raise BlockingIOError(*error.args) from error
            # A folder removed between opening and locking leaves a lock on a file that no longer has a name.
            if os.fstat(handle).st_ino != self.path.stat().st_ino:
                raise FileNotFoundError(errno.ENOENT, "No lasting file", str(self.path))
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
