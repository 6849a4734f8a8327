"""The list of finished blocks: a line each, written once the block's parts are safe on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from geohp.files.appended_lines import AppendedLines
from geohp.files.unfinished import JOURNAL, moving_line
from geohp.raster.write.stored_blocks import StoredBlock

Origin = tuple[int, int]
"""First row and column of a block."""


class JournalEntry(NamedTuple):
    """A finished block: its stored layers and what was noted with it."""

    blocks: tuple[StoredBlock, ...]
    note: Mapping[str, Any] | None


class Journal:
    """Append-only record of blocks in a folder.

    Attributes:
        entries: finished blocks by origin; of a block recorded twice the later record.
    """

    def __init__(self, folder: Path):
        """Read what is there; a line torn by a kill or a full disk, and whatever follows it, is cut off."""
        self.entries: dict[Origin, JournalEntry] = {}
        self._lines = AppendedLines(folder / JOURNAL, self._add)

    def append(self, row: int, col: int, entry: JournalEntry) -> None:
        """Record a block; thread-safe.

        Raises:
            OSError: the disk is full; the record is then not there, and later ones can still be written.
            TypeError: the note cannot be written as JSON.
        """
        line: dict[str, Any] = {"row": row, "col": col, "parts": entry.blocks}
        if entry.note is not None:
            line["note"] = dict(entry.note)
        self._lines.append(line)
        self.entries[row, col] = entry

    def append_moving(self, output: Path, files: Iterable[Path]) -> None:
        """Record that all outputs are complete and are about to move into place.

        Args:
            output: the first.
            files: these, and what the run makes of them.
        """
        self._lines.append_bytes(moving_line(output, files))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _add(self, line: Any) -> None:
        if line.get("moving"):
            return
        blocks = tuple(StoredBlock(*map(int, part)) for part in line["parts"])
        self.entries[int(line["row"]), int(line["col"])] = JournalEntry(blocks, line.get("note"))
