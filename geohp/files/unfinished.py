"""What stands in for an output until it is complete, and what a process that was killed left of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from geohp.errors import OutputError
from geohp.files.locks import LOCK, FolderLock
from geohp.files.reading import json_value

JOURNAL = "journal.jsonl"
"""Name of the file that tells finished blocks in the folder of an unfinished raster: what lies there is kept."""

RECORD = ".geohp"
"""Name of the folder in a folder of maps that tells what made them, and that is locked while they are made."""

DRAFT = ".draft-"
"""What the names of unfinished files in a locked folder begin with."""


def work_folder(output: Path) -> Path:
    """The hidden folder in which an output is made: beside it, so that it moves into place in one step."""
    return output.with_name(f".{output.name}.geohp")


def moving_line(output: Path, files: Iterable[Path]) -> bytes:
    """The last line of a journal when complete outputs move into place.

    Args:
        output: the first.
        files: all that the run makes.
    """
    return json.dumps({"moving": [name_beside(output, path) for path in files]}).encode() + b"\n"


def is_half_published(output: Path, path: Path | None = None) -> bool:
    """Whether a run was stopped when its first output was complete and others were not.

    Then outputs may exist that the same command must be allowed to replace, so as to finish.

    Args:
        output: the first.
        path: a file that the run was to make, too; other files are none of its business.
    """
    try:
        *_, last = (work_folder(output) / JOURNAL).read_bytes().splitlines(keepends=True)
        return last.endswith(b"\n") and name_beside(output, path or output) in json_value(last)["moving"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def may_replace(output: Path, path: Path | None = None, *, overwrite: bool, restart: bool = False) -> bool:
    """Whether a file that exists may be replaced: it was asked for, or a run goes on that was stopped on its way there.

    Args:
        output: the first of the run.
        path: the file; the first itself by default.
        overwrite: it was asked for.
        restart: nothing is gone on with.
    """
    return overwrite or (not restart and is_half_published(output, path))


def name_beside(output: Path, path: Path) -> str:
    """A file's name, where it lies in an output's folder, wherever that is; else its path."""
    path = path.parent.resolve() / path.name
    return path.name if path.parent == output.parent.resolve() else str(path)


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


def remove_drafts(folder: Path) -> None:
    """Remove from a folder what a process that was killed had begun to write.

    Args:
        folder: one that is locked, or in which :func:`geohp.files.atomic.atomic_write` alone writes.
    """
    for draft in folder.glob(f"{DRAFT}*"):
        draft.unlink(missing_ok=True)
    for work in folder.glob(".*.geohp"):
        remove_abandoned(work.with_name(work.name[1 : -len(".geohp")]))
