"""Outputs before anything is written: may one be written here, and would it destroy anything?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from geohp.errors import OutputError
from geohp.files.unfinished import remove_abandoned

RASTERS = (".tif", ".tiff")
"""Suffixes of the rasters that are written."""

MODELS = (".safetensors",)
"""Suffixes of model files."""

_LONGEST_NAME = 240
"""Bytes of a file's name; file systems take 255, and what hides an unfinished output needs a few more."""


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


def check_name(path: str | Path) -> Path:
    """Refuse a file or folder that no disk or no library takes by this name, and a link to nowhere.

    Raises:
        OutputError: with the remedy.
    """
    path = Path(path)
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"{path}: the name has more than {_LONGEST_NAME} bytes", "choose a shorter one")
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{path}: is not UTF-8, which GDAL asks of names", "choose another name") from error
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", "choose another") from error
    if path.is_symlink() and not path.exists():
        # What is written takes the name: the link would be lost, and its target still not be there.
        raise OutputError(f"{path}: is a symbolic link that leads nowhere", "remove it or choose another name")
    return path


def check_new_folder(path: str | Path) -> Path:
    """Refuse a folder that holds anything already, or cannot be made by this name."""
    path = check_name(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: exists already", "choose another folder or remove it")
    return path


def check_output(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> Path:
    """Refuse an output that could not be written, or would replace something the user did not mean to lose.

    Args:
        path: the file to be written.
        overwrite: an existing file may be replaced.
        inputs: files that are read; none of them may be the output, not even with ``overwrite``.

    Raises:
        OutputError: with the remedy.
    """
    path = check_name(path)
    folder = path.parent
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
    if not overwrite:
        refuse_existing(path)
    return path


def refuse_parts(outputs: Iterable[Path], parts: Iterable[str | Path]) -> None:
    """Refuse outputs that would replace a file that an input is made of, such as the image behind a virtual raster.

    Raises:
        OutputError: with the remedy.
    """
    sources = {Path(part).resolve() for part in parts}
    for path in outputs:
        if path.exists() and path.resolve() in sources:
            raise OutputError(f"{path}: the input is made of it", "choose another name for the output")


def refuse_existing(path: Path) -> None:
    """Refuse an output that is there already.

    Raises:
        OutputError: with the remedy.
    """
    if path.exists():
        remedy = "choose another name or replace it with {option}"
        raise OutputError(f"{path}: exists already", remedy, option="overwrite", value=True)
