"""Outputs: may one be written here, would it destroy anything; files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from geohp.errors import GeohpError, OutputError

LOCK = "lock"
"""Name of the file that is locked in a folder."""

JOURNAL = "journal.jsonl"
"""Name of the file that tells finished blocks in the folder of an unfinished raster: what lies there is kept."""

MOVING = b'{"moving": true}\n'
"""Its last line when complete outputs move into place."""

RECORD = ".geohp"
"""Name of the folder in a folder of maps that tells what made them, and that is locked while they are made."""

DRAFT = ".draft-"
"""What the names of unfinished files in a locked folder begin with."""

_LONGEST_NAME = 240
"""Bytes of a file's name; file systems take 255, and what hides an unfinished output needs a few more."""


RASTERS = (".tif", ".tiff")
"""Suffixes of the rasters that are written."""

MODELS = (".safetensors",)
"""Suffixes of model files."""


def check_suffix(path: str | Path, suffixes: Sequence[str], what: str) -> Path:
    """Refuse an output whose name promises another format than it gets.

    Args:
        path: the file to be written.
        suffixes: in small letters; capitals will do as well.
        what: will be in the file, in the plural.

    Raises:
        OutputError: with the suffixes that are right.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        *others, last = suffixes
        right = f"{', '.join(others)} or {last}" if others else last
        raise OutputError(f"{path} has the suffix {suffix or '(none)'!r}", f"{what} are written to {right}")
    return path


def expand_home(path: str | Path) -> Path:
    """A path with ``~`` at its beginning as the home folder; as it is where there is no such home.

    :meth:`pathlib.Path.expanduser` raises there: for files called ``~draft.tif``, and for users without a home, as in
    containers.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def check_new_folder(path: str | Path) -> Path:
    """Refuse a folder that holds anything already."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: exists already", "choose another folder or remove it")
    return path


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
        raise OutputError(f"{folder}: the folder cannot be made ({error})", "choose a writable place") from error
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
        raise OutputError(f"{folder}: cannot be written ({error})", "check space and permissions") from error
    finally:
        with suppress(OSError):
            _restore(folder, old)
            clear_folder(lock.folder)
        lock.release(remove=True)


def _restore(folder: Path, old: Path) -> None:
    """Put back what was to be replaced, where the new one did not come."""
    if old.exists() and not folder.exists():
        old.rename(folder)


def check_output(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> Path:
    """Refuse an output that could not be written, or would replace something the user did not mean to lose.

    Args:
        path: the file to be written.
        overwrite: an existing file may be replaced.
        inputs: files that are read; none of them may be the output, not even with ``overwrite``.

    Raises:
        OutputError: with the remedy.
    """
    path = Path(path)
    folder = path.parent
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"{path}: the name has more than {_LONGEST_NAME} bytes", "choose a shorter one")
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{path}: is not UTF-8, which GDAL asks of names", "choose another name") from error
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", "choose another") from error
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "give the name of a file in it")
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist", "create it or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} cannot be written to", "choose another")
    for source in inputs:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise OutputError(f"{path}: is the input itself", "choose another name for the output")
    remove_abandoned(path)
    if path.exists() and not overwrite:
        remedy = "choose another name or replace it with {option}"
        raise OutputError(f"{path}: exists already", remedy, option="overwrite", value=True)
    return path


def temporary_failure(error: OSError) -> OutputError:
    """What to tell where a temporary file could not be written."""
    return OutputError(
        f"a temporary file in {tempfile.gettempdir()} could not be written ({error.strerror}): free some space there, "
        "or set TMPDIR to another folder"
    )


def work_folder(output: Path) -> Path:
    """The hidden folder in which an output is made: beside it, so that it moves into place in one step."""
    return output.with_name(f".{output.name}.geohp")


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
            (lock.folder / JOURNAL).write_bytes(MOVING)
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


def is_half_published(output: Path) -> bool:
    """Whether a run was stopped when its first output was complete and others were not.

    Then outputs may exist that the same command must be allowed to replace, so as to finish.

    Args:
        output: the first.
    """
    try:
        lines = (work_folder(Path(output)) / JOURNAL).read_bytes().splitlines(keepends=True)
    except OSError:
        return False
    return lines[-1:] == [MOVING]


def remove_abandoned(output: Path) -> None:
    """Remove what a process that was killed left of an output, but for finished blocks that can be gone on with."""
    folder = work_folder(output)
    if not folder.is_dir() or (folder / JOURNAL).exists():
        return
    with suppress(OutputError, OSError):
        lock = FolderLock(folder)
        if not (folder / JOURNAL).exists():
            clear_folder(folder)
        lock.release(remove=True)


def remove_abandoned_folder(folder: Path) -> None:
    """Remove a folder of maps that a process left which was killed as it removed it; not while another is at work."""
    if folder.is_dir():
        with suppress(OutputError):
            FolderLock(folder / RECORD).release()
            shutil.rmtree(folder, ignore_errors=True)


def clear_folder(folder: Path, *, but_journal: bool = False) -> None:
    """Empty a folder that is locked; the journal goes first, so that it never names what is gone, or stays."""
    if not but_journal:
        (folder / JOURNAL).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name in (LOCK, JOURNAL):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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


def remove_drafts(folder: Path) -> None:
    """Remove from a folder what a process that was killed had begun to write.

    Args:
        folder: one that is locked, or in which :func:`atomic_write` alone writes.
    """
    for draft in folder.glob(f"{DRAFT}*"):
        draft.unlink(missing_ok=True)
    for work in folder.glob(".*.geohp"):
        remove_abandoned(work.with_name(work.name[1 : -len(".geohp")]))


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


def file_state(path: Path) -> list[int] | None:
    """What tells a file from another of its name, also after both were moved: its size and the time of its change.

    Returns:
        ``None`` where there is no such file.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
