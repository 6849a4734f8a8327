"""Outputs: may one be written here, would it destroy anything; and texts that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geohp.errors import OutputError


def check_new_folder(path: str | Path) -> Path:
    """Refuse a folder that holds anything already.

    Raises:
        OutputError: with the remedy.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: exists already; choose another folder or remove it")
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
    work = folder.with_name(f".{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made ({error}); choose a writable place") from error
    try:
        yield work
        if not folder.exists():
            work.rename(folder)
        elif not replace:
            folder.rmdir()
            work.rename(folder)
        else:
            old = folder.with_name(f".{folder.name}.old")
            folder.rename(old)
            work.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error}); check space and permissions") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file in it")
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} cannot be written to; choose another")
    for source in inputs:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise OutputError(f"{path}: is the input itself; choose another name for the output")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or replace it with --overwrite")
    return path


def temporary_failure(error: OSError) -> OutputError:
    """What to tell where a temporary file could not be written."""
    return OutputError(
        f"a temporary file in {tempfile.gettempdir()} could not be written ({error.strerror}): free some space there, "
        "or set TMPDIR to another folder"
    )


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8 beside its place and move it there when complete; what was there stays if anything fails.

    Raises:
        OutputError: it cannot be written.
    """
    # Not a temporary file of the standard library: it would be readable by its owner only.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    return path


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
