"""Folders that one process works in at a time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from geohp.errors import OutputError

LOCK = "lock"
"""Name of the file that is locked in a folder."""


class FolderInUseError(OutputError):
    """Another process works in a folder."""


class FolderLock:
    """A folder that exists and that nobody else works in, until :meth:`release`; the lock ends with the process.

    Attributes:
        folder: the one that is locked; a file ``lock`` lies in it.
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        """Create the folder if need be, and take it.

        Args:
            folder: to be locked.
            wait: until it is free.

        Raises:
            FolderInUseError: another process has it.
            OutputError: it cannot be created or written to.
        """
        self.folder = folder
        self._lock = FileLock(folder / LOCK, timeout=-1 if wait else 0, thread_local=False)
        try:
            while not self._lock.is_locked:
                folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # whoever had it has just removed the folder
                    self._lock.acquire()
        except Timeout as error:
            raise FolderInUseError(
                f"{folder} is in use by another run: wait until it ends, or choose another output"
            ) from error
        except OSError as error:
            raise OutputError(f"{folder} cannot be written to ({error.strerror}): choose another folder") from error

    @property
    def held(self) -> bool:
        """Whether it has not been released yet."""
        return self._lock.is_locked

    def release(self, *, remove: bool = False) -> None:
        """Let others in; with ``remove`` the folder goes too if nothing else is in it."""
        if remove and self.held:
            # While it is still held: who opens the file before sees that it is gone, who comes later makes a new one.
            with suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        self._lock.release()
