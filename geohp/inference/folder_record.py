"""What a folder of maps holds and what made it: so that no map is made twice, and none of another kind is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geohp.errors import OutputError
from geohp.files.atomic import store
from geohp.files.locks import FolderLock
from geohp.files.state import file_state
from geohp.files.unfinished import RECORD, remove_drafts

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
        self._path = folder / RECORD / _NAME
        self._lock = FolderLock(self._path.parent)
        self.notes: dict[str, Any] = {}
        self._files: dict[str, dict[str, Any]] = {}
        try:
            remove_drafts(self._path.parent)
            self._read()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> FolderRecord:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release(remove=not self._files)

    def holds(self, path: Path, key: str | None = None) -> bool:
        """Whether a file is there, complete, as it was left; and made with this key, where one is given."""
        entry = self._files.get(path.name)
        if entry is None or key not in (None, entry["key"]):
            return False
        now = file_state(path)
        if "after" in entry:
            return now is not None and now == entry["after"]
        return now is not None and now != entry["before"]

    def maps(self, model: str) -> list[Path]:
        """The label maps of a model that are there as they were left."""
        paths = {self.folder / name: entry["told"].get("labels") for name, entry in self._files.items()}
        return [path for path, made_by in paths.items() if made_by == model and self.holds(path)]

    @contextmanager
    def making(self, keys: Mapping[Path, str], maps: Mapping[Path, str] | None = None) -> Iterator[None]:
        """Announce that files are about to be made, and that they are complete when the ``with`` block ends well.

        Args:
            keys: what each file is made from and how.
            maps: the model of those that are label maps, see :meth:`maps`.
        """
        models = maps or {}
        for path, key in keys.items():
            # One that is there already and is made again, for the sake of another, stays made throughout.
            before = None if self.holds(path, key) else file_state(path)
            tags = {"labels": models[path]} if path in models else {}
            self._files[path.name] = {"key": key, "before": before, "told": tags}
        self.save()
        yield
        for path in keys:
            self._files[path.name]["after"] = file_state(path)
        self.save()

    def save(self) -> None:
        """Store it all, whole or not at all."""
        text = json.dumps({"format": _FORMAT, "notes": self.notes, "files": self._files}, ensure_ascii=False, indent=1)
        store(self._path, text.encode())

    def _read(self) -> None:
        try:
            record = json.loads(self._path.read_bytes())
            if record["format"] != _FORMAT:
                raise ValueError(f"format {record['format']}")
            self.notes, self._files = dict(record["notes"]), dict(record["files"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._path} cannot be understood ({error})", "choose another folder, or remove it to begin anew"
            ) from error


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """A folder, made if need be, and taken away again where nothing came of it."""
    is_new = not folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder ({error.strerror})", "choose another") from error
    try:
        yield
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
