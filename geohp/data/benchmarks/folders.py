"""Folders of data sets: what lies in them, what a list says should, and those that are prepared for many trainings."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from geohp.errors import DataError, OutputError
from geohp.files.atomic import atomic_write, write_failure
from geohp.files.reading import failure_reason, json_value, read_text
from geohp.files.unfinished import remove_drafts

MANIFEST = "geohp-prepared.json"
_FORMAT = 1


def list_names(folder: Path) -> frozenset[str]:
    """Names of what lies in a folder, hidden ones apart, read in one go; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})", "check the access rights") from error


def shortened(names: Sequence[str], most: int = 3) -> str:
    """The first of many names, for messages."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_list(path: Path) -> list[str]:
    """Ids of a list, one a line, in order.

    Raises:
        DataError: it is not there, empty, no text, or names something twice.
    """
    try:
        ids = read_text(path).split()
    except FileNotFoundError as error:
        lists = sorted(name for name in list_names(path.parent) if name.endswith(".txt"))
        remedy = f"lists there are {shortened(lists, 8)}" if lists else "there are no lists"
        raise DataError(f"{path}: there is no such list", remedy) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as a list of ids ({failure_reason(error)})", "fetch it again"
        ) from error
    if not ids:
        raise DataError(f"{path}: is empty", "fetch it again")
    twice, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: names {twice} more than once", "fetch it again")
    return ids


class PreparedFolder:
    """A folder that is being filled.

    Its manifest is there from the beginning and says whether all is done. Every file appears whole or not at all, so
    that after an interruption only what is missing is made.

    Args:
        folder: made where it does not exist.
        description: JSON-able, all that its contents depend on.

    Raises:
        OutputError: the folder holds something else, or cannot be written to.
    """

    def __init__(self, folder: str | Path, description: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self.description = {"format": _FORMAT, **description}
        self._begin()

    def names(self, part: str) -> frozenset[str]:
        """Names of the files of a subfolder, which is made where it does not exist."""
        try:
            (self.folder / part).mkdir(exist_ok=True)
            remove_drafts(self.folder / part)
        except OSError as error:
            raise write_failure(self.folder / part, error) from error
        return list_names(self.folder / part)

    def write(self, name: str, save: Callable[[BinaryIO], object]) -> None:
        """Make a file of this name below the folder: ``save`` writes its contents into an open file."""
        path = self.folder / name
        with atomic_write(path) as draft, draft.open("wb") as file:
            save(file)

    def remove(self, name: str) -> None:
        """Take a file of this name below the folder away, where there is one."""
        (self.folder / name).unlink(missing_ok=True)

    def finish(self) -> None:
        """Note that all is there."""
        self._note(complete=True)

    def _begin(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(self.folder, error) from error
        manifest = _read(self.folder)
        if not manifest:
            if list_names(self.folder):
                raise OutputError(f"{self.folder}: holds other files already", "choose an empty or a new folder")
            self._note(complete=False)
            return
        differing = [key for key, value in self.description.items() if manifest.get(key) != value]
        if differing:
            key = differing[0]
            raise OutputError(
                f"{self.folder}: was prepared with {key} = {manifest.get(key)} where now it is {self.description[key]}",
                "choose another folder",
            )

    def _note(self, *, complete: bool) -> None:
        text = json.dumps({**self.description, "complete": complete}, indent=1, ensure_ascii=False)
        self.write(MANIFEST, lambda file: file.write(text.encode()))


def read_manifest(folder: Path) -> dict[str, object]:
    """What a folder was prepared as; empty where it was not prepared by geohp.

    Raises:
        DataError: it is unfinished, or made by a version that did it otherwise.
    """
    manifest = _read(folder)
    if manifest and manifest.get("format") != _FORMAT:
        raise DataError(f"{folder}: was prepared by another version of geohp", "prepare it anew in an empty folder")
    if manifest and not manifest.get("complete"):
        raise DataError(f"{folder}: is unfinished", "run the same geohp prepare again, it goes on where it stopped")
    return manifest


def _read(folder: Path) -> dict[str, object]:
    path = folder / MANIFEST
    try:
        document = json_value(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({failure_reason(error)})", "prepare the data anew in an empty folder"
        ) from error
    if not isinstance(document, dict) or not document:
        raise DataError(f"{path}: is no description of prepared data", "prepare the data anew in an empty folder")
    return document
