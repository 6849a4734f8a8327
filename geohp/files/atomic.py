"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geohp.errors import GeohpError, OutputError
from geohp.files.locks import FolderLock
from geohp.files.reading import failure_reason
from geohp.files.unfinished import DRAFT, JOURNAL, clear_folder, is_half_published, moving_line, work_folder


@contextmanager
def folder_in_progress(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A hidden folder that takes the name ``folder`` when all went well, and vanishes otherwise.

    Args:
        folder: the name; nothing or an empty folder there, unless
        replace: what is there goes, when the new one is complete.

    Raises:
        OutputError: the folder, or what is written into it, cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: the folder cannot be made ({failure_reason(error)})", "choose a writable place"
        ) from error
    lock = FolderLock(work_folder(folder))
    new, old = lock.folder / "new", lock.folder / "old"
    try:
        _restore(folder, old)
        clear_folder(lock.folder)
        new.mkdir()
        yield new
        if replace and folder.exists():
            folder.rename(old)
        elif folder.exists():
            folder.rmdir()
        new.rename(folder)
    except OSError as error:
        if isinstance(error, GeohpError):
            raise
        raise OutputError(
            f"{folder}: cannot be written ({failure_reason(error)})", "check space and permissions"
        ) from error
    finally:
        with suppress(OSError):
            _restore(folder, old)
            clear_folder(lock.folder)
        lock.release(remove=True)


def _restore(folder: Path, old: Path) -> None:
    """Put back what was to be replaced, where the new one did not come."""
    if old.exists() and not folder.exists():
        old.rename(folder)


def temporary_failure(error: OSError) -> OutputError:
    """What to tell where a temporary file could not be written."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as none:  # of all that are looked at, none can be written to
        return OutputError(
            f"a temporary file could not be written ({none.strerror})", "set TMPDIR to a writable folder"
        )
    return OutputError(
        f"a temporary file in {folder} could not be written ({error.strerror}): free some space there, "
        "or set TMPDIR to another folder"
    )


@contextmanager
def atomic_write(
    path: Path,
    *also: Path,
    failures: tuple[type[Exception], ...] = (OSError,),
    durable: bool = False,
    wait: bool = False,
) -> Iterator[Path]:
    """A file in a hidden folder beside ``path`` that takes its place when all went well; else what was there stays.

    What a process that was killed left in that folder goes. One that is killed between several files leaves a mark, see
    :func:`is_half_published`.

    Args:
        path: the file to be written; where it exists already, the new one may be read and written by the same people.
        also: further files of its folder, to be written beside the first one's draft under their names.
        failures: what writers raise where they cannot write.
        durable: wait until the disk has it.
        wait: for another process that writes it, too.

    Raises:
        FolderInUseError: another process writes it.
        OutputError: it cannot be written.
    """
    if not path.parent.is_dir():  # which locking would make
        raise write_failure(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    lock = FolderLock(work_folder(path), wait=wait)
    drafts = {target: lock.folder / target.name for target in (path, *also)}
    half = is_half_published(path)
    try:
        clear_folder(lock.folder, but_journal=half)
        yield drafts[path]
        for target, draft in drafts.items():
            draft.chmod(_mode_of(target, lock.folder))
            if durable:
                wait_for_disk(draft)
        if also:
            (lock.folder / JOURNAL).write_bytes(moving_line(path, drafts))
            half = True
        for target, draft in drafts.items():
            draft.replace(target)
        half = False
    except failures as error:
        if isinstance(error, GeohpError):
            raise
        raise write_failure(path, error) from error
    finally:
        with suppress(OSError):
            clear_folder(lock.folder, but_journal=half)
        lock.release(remove=True)


def _mode_of(path: Path, folder: Path) -> int:
    """Who may read and write a file, or would an ordinary new one; some libraries write for the owner only."""
    if not path.exists():
        path = folder / "ordinary"
        path.touch()
    return path.stat().st_mode & 0o777


def write_failure(path: Path, error: BaseException) -> OutputError:
    """What to tell where a file or folder could not be written."""
    reason = getattr(error, "strerror", None) or str(error.__cause__ or error).rstrip(". ")
    return OutputError(
        f"{path} could not be written ({reason})", "check the free space and the access rights of its folder"
    )


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> Path:
    """Write a file whole or not at all; see :func:`atomic_write`."""
    with atomic_write(path, durable=durable) as draft:
        draft.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8 whole or not at all; see :func:`atomic_write`."""
    return write_bytes(path, text.encode())


def store(path: Path, content: bytes) -> Path:
    """Write a file of a folder that is locked, whole or not at all; when this returns, the disk has it.

    Raises:
        OutputError: it cannot be written.
    """
    # A name of its own each time: the workers of a run may write the same.
    draft = path.with_name(f"{DRAFT}{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        draft.write_bytes(content)
        wait_for_disk(draft)
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_failure(path, error) from error
        raise
    return path


def wait_for_disk(path: Path) -> None:
    """Return once a file, or the names in a folder, would survive a power failure."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        return  # folders cannot be opened everywhere
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
