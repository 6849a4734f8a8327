"""What a folder of maps holds and what made it: so that no map is made twice, and none of another kind is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from geohp.errors import OutputError
from geohp.files import FolderLock, file_state, write_bytes

FOLDER = ".geohp"
"""Hidden, in the folder of the maps."""

_NAME = "record.json"
_FORMAT = 1


class FolderRecord:
    """Files of a folder, each with a key that says what it was made from and how.

    A file counts as made when its name's entry holds the key asked for and the file is as it was left. A file's making
    is announced before it begins: since files appear whole or not at all, one that has changed since the announcement
    is complete, even where the process died before it could say so.

    One process at a time; a lock is held until the ``with`` block ends.

    Attributes:
        folder: of the maps.
        notes: anything else to be remembered, JSON-able; :meth:`save` stores it.
    """

    def __init__(self, folder: Path):
        """Read what is known of a folder that exists.

        Raises:
            OutputError: another process is at work there, the folder cannot be written to, or the record is not
                legible.
        """
        self.folder = folder
        self._path = folder / FOLDER / _NAME
        self._lock = FolderLock(self._path.parent)
        self.notes: dict[str, Any] = {}
        self._files: dict[str, dict[str, Any]] = {}
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> FolderRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release(remove=not self._files)

    def made(self, path: Path, key: str) -> bool:
        """Whether a file is there, made with this key, and complete."""
        entry = self._files.get(path.name)
        if entry is None or entry["key"] != key:
            return False
        now = file_state(path)
        if "after" in entry:
            return now is not None and now == entry["after"]
        return now is not None and now != entry["before"]

    def kept(self, path: Path) -> bool:
        """Whether a file is there as it was left, whatever its key."""
        return path.name in self._files and self.made(path, self._files[path.name]["key"])

    def files(self) -> dict[Path, Mapping[str, Any]]:
        """The files that are there as they were left, with what was told of them."""
        paths = {self.folder / name: entry for name, entry in self._files.items()}
        return {path: entry["told"] for path, entry in paths.items() if self.kept(path)}

    def begin(self, paths: Iterable[Path], key: str, **told: Any) -> None:
        """Announce that files are about to be made.

        Args:
            paths: in the folder.
            key: what they are made from and how.
            **told: to be given back by :meth:`files`.
        """
        for path in paths:
            # One that is there already and is made again, for the sake of another, stays made throughout.
            before = None if self.made(path, key) else file_state(path)
            self._files[path.name] = {"key": key, "before": before, "told": told}
        self.save()

    def end(self, paths: Iterable[Path]) -> None:
        """Say that announced files are complete."""
        for path in paths:
            self._files[path.name]["after"] = file_state(path)
        self.save()

    def save(self) -> None:
        """Store it all, whole or not at all.

        Raises:
            OutputError: the disk is full.
        """
        text = json.dumps({"format": _FORMAT, "notes": self.notes, "files": self._files}, ensure_ascii=False, indent=1)
        write_bytes(self._path, text.encode(), durable=True)

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_bytes())
            if found["format"] != _FORMAT:
                raise ValueError(f"format {found['format']}")
            self.notes, self._files = dict(found["notes"]), dict(found["files"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._path} cannot be understood ({error}): choose another folder, or remove it to begin anew"
            ) from error
