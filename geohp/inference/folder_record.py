"""What a folder of maps holds and what made it: so that no map is made twice, and none of another kind is replaced."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geohp.errors import OutputError
from geohp.files.appended_lines import AppendedLines
from geohp.files.atomic import store, write_failure
from geohp.files.locks import FolderLock
from geohp.files.reading import json_value
from geohp.files.state import file_state
from geohp.files.unfinished import RECORD, remove_drafts
from geohp.inference.areas import ClassArea

_NAME = "record.json"
_ADDITIONS = "record.jsonl"
_FORMAT = 1
_AREAS = "areas"  # what the notes of a stored record call those of its maps


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of a file; small, as there may be tens of thousands.

    Attributes:
        key: says what it was made from and how.
        model: that made it, where it is a label map.
        is_complete: its making has ended.
        state: its state at the end of its making, or before it; ``None`` where there was no such file.
    """

    key: str
    model: str | None
    is_complete: bool
    state: tuple[int, ...] | None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> _Entry:
        complete, model = "after" in stored, stored["told"].get("labels")
        state = stored["after" if complete else "before"]
        model = None if model is None else sys.intern(model)
        return cls(str(stored["key"]), model, complete, None if state is None else tuple(state))

    @property
    def stored(self) -> dict[str, Any]:
        told = {} if self.model is None else {"labels": self.model}
        return {"key": self.key, "told": told, "after" if self.is_complete else "before": self.state}

    def describes(self, path: Path) -> bool:
        """Whether a file is the one that was made."""
        now = file_state(path)
        return now is not None and (tuple(now) == self.state) == self.is_complete


class FolderRecord:
    """Files of a folder, each with a key that says what it was made from and how.

    A file counts as made when its name's entry holds the key asked for and the file is as it was left. A file's making
    is announced before it begins: since files appear whole or not at all, one that has changed since the announcement
    is complete, even where the process died before it could say so.

    What becomes known is added to a file line by line, so that the thousandth map costs no more than the first; it goes
    into the record itself when the ``with`` block ends. One process at a time; a lock is held until then.

    Attributes:
        folder: of the maps.
        notes: anything else to be remembered, JSON-able; stored when files are made next.
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
        self._files: dict[str, _Entry] = {}
        self._areas: dict[str, tuple[ClassArea, ...]] = {}
        try:
            remove_drafts(self._path.parent)
            self._read()
            self._additions = self._open_additions()
            self._stored_notes = dict(self.notes)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> FolderRecord:
        return self

    def __exit__(self, *_: object) -> None:
        self._additions.close()
        try:
            with suppress(OSError, OutputError):  # the lines that were added are still there
                self._merge()
        finally:
            self._lock.release(remove=not self._files)

    def holds(self, path: Path, key: str | None = None) -> bool:
        """Whether a file is there, complete, as it was left; and made with this key, where one is given."""
        entry = self._files.get(path.name)
        return entry is not None and key in (None, entry.key) and entry.describes(path)

    def maps(self, model: str) -> list[Path]:
        """The label maps of a model that are there as they were left."""
        paths = [self.folder / name for name, entry in self._files.items() if entry.model == model]
        return [path for path in paths if self.holds(path)]

    def areas(self, path: Path) -> tuple[ClassArea, ...] | None:
        """How much each class covers in a label map, as :meth:`remember_areas` was told; else ``None``."""
        return self._areas.get(path.name)

    def remember_areas(self, path: Path, areas: tuple[ClassArea, ...]) -> None:
        """How much each class covers in a label map; empty of one that holds no data."""
        self._append({_AREAS: {path.name: _stored_areas(areas)}})
        self._areas[path.name] = areas

    @contextmanager
    def making(self, keys: Mapping[Path, str], maps: Mapping[Path, str] | None = None) -> Iterator[None]:
        """Announce that files are about to be made, and that they are complete when the ``with`` block ends well.

        Args:
            keys: what each file is made from and how.
            maps: the model of those that are label maps, see :meth:`maps`.
        """
        models = maps or {}
        # One that is there already and is made again, for the sake of another, stays made throughout.
        befores = {path: None if self.holds(path, key) else file_state(path) for path, key in keys.items()}
        self._set({path: _entry(key, models.get(path), befores[path]) for path, key in keys.items()})
        yield
        self._set({path: _entry(key, models.get(path), file_state(path), complete=True) for path, key in keys.items()})

    def _set(self, entries: Mapping[Path, _Entry]) -> None:
        files = {path.name: entry for path, entry in entries.items()}
        self._append({"files": {name: entry.stored for name, entry in files.items()}})
        self._files |= files

    def _append(self, line: dict[str, Any]) -> None:
        """Store what has become known, and the notes where they have changed."""
        notes = {} if self.notes == self._stored_notes else {"notes": self.notes}
        try:
            self._additions.append({**line, **notes})
        except OSError as error:
            raise write_failure(self._path, error) from error
        self._stored_notes = dict(self.notes)

    def _merge(self) -> None:
        """Have the record tell what was added to it, whole or not at all."""
        additions = self._path.with_name(_ADDITIONS)
        if additions.stat().st_size:
            notes = {**self._stored_notes, _AREAS: {name: _stored_areas(areas) for name, areas in self._areas.items()}}
            files = {name: entry.stored for name, entry in self._files.items()}
            store(self._path, json.dumps({"format": _FORMAT, "notes": notes, "files": files}).encode())
        additions.unlink()  # killed before, nothing is lost: what it says once more is what the record says

    def _open_additions(self) -> AppendedLines:
        try:
            return AppendedLines(self._path.with_name(_ADDITIONS), self._add)
        except OSError as error:
            raise write_failure(self._path, error) from error

    def _read(self) -> None:
        try:
            record = json_value(self._path.read_bytes())
            if record["format"] != _FORMAT:
                raise ValueError(f"format {record['format']}")
            self._add(record)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self.illegible(error) from error

    def illegible(self, error: Exception) -> OutputError:
        """Of a record that says what no record says."""
        reason = (str(error).splitlines() or [""])[0][:200]
        problem = f"{self._path} cannot be understood ({type(error).__name__}: {reason})"
        return OutputError(problem, "choose another folder, or remove it to begin anew")

    def _add(self, stored: Any) -> None:
        """Take over what a record, or a line added to it, says."""
        files = {_file_name(name): _Entry.of(entry) for name, entry in stored.get("files", {}).items()}
        notes = dict(stored.get("notes", {}))
        areas = {**notes.pop(_AREAS, {}), **stored.get(_AREAS, {})}
        self._areas |= {name: tuple(ClassArea.of(area) for area in of_map) for name, of_map in areas.items()}
        self._files |= files
        self.notes |= notes


def _file_name(name: str) -> str:
    """The name of a file in the folder itself.

    Raises:
        ValueError: it leads elsewhere, or is no name at all.
    """
    if b"\0" in os.fsencode(name) or name != Path(name).name:
        raise ValueError(f"{name[:100]!r} is no file's name")
    return name


def _entry(key: str, model: str | None, state: Sequence[int] | None, *, complete: bool = False) -> _Entry:
    return _Entry(key, model, complete, None if state is None else tuple(state))


def _stored_areas(areas: tuple[ClassArea, ...]) -> list[dict[str, Any]]:
    return [asdict(area) for area in areas]


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
