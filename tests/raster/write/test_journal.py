"""The list of finished blocks: on disk before it is believed, and readable however it was torn."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from geohp.files.unfinished import is_half_published, work_folder
from geohp.raster.grid import Grid
from geohp.raster.write.journal import Journal, JournalEntry
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.stored_blocks import StoredBlock

FIRST = JournalEntry((StoredBlock(0, 3, 4, 100, 7), StoredBlock(1, 3, 4, 90, 8)), {"skipped": ["a"]})
SECOND = JournalEntry((), None)


def read(folder: Path) -> dict[tuple[int, int], JournalEntry]:
    journal = Journal(folder)
    journal.close()
    return journal.entries


def test_what_is_appended_is_read_back_the_later_record_of_a_block(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.entries == {}
    journal.append(0, 5, SECOND)
    journal.append(2, 0, FIRST)
    journal.append(0, 5, FIRST)
    journal.append_moving(tmp_path / "a.tif", [])
    assert journal.entries == {(0, 5): FIRST, (2, 0): FIRST}
    journal.close()
    assert read(tmp_path) == {(0, 5): FIRST, (2, 0): FIRST}


def test_a_line_that_was_not_written_whole_is_taken_back_and_the_next_is_whole(tmp_path: Path) -> None:
    class Full:
        """Takes a few bytes and then no more, as a disk that has just become full."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, text: bytes) -> int:
            return int(self.file.write(text[:9]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    journal = Journal(tmp_path)
    journal.append(0, 0, FIRST)
    size = (tmp_path / "journal.jsonl").stat().st_size
    lines = journal._lines
    usual, lines._file = lines._file, Full(lines._file)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        journal.append(1, 0, SECOND)
    assert (tmp_path / "journal.jsonl").stat().st_size == size
    assert (1, 0) not in journal.entries
    lines._file = usual
    journal.append(2, 0, SECOND)
    journal.close()
    assert read(tmp_path) == {(0, 0): FIRST, (2, 0): SECOND}


def test_what_follows_a_torn_line_is_cut_off_and_does_not_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(0, 0, FIRST)
    journal.append(1, 0, FIRST)
    journal.close()
    path = tmp_path / "journal.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:20] + b"\n" + second)
    assert read(tmp_path) == {(0, 0): FIRST}
    assert path.read_bytes() == first
    path.write_bytes(first + second[:-1])  # without its end, though it could be read
    assert read(tmp_path) == {(0, 0): FIRST}


def test_whether_outputs_were_moving(tmp_path: Path) -> None:
    output = tmp_path / "labels.tif"
    folder = work_folder(output)
    assert not is_half_published(output)
    folder.mkdir()
    assert not is_half_published(output)
    journal = Journal(folder)
    assert not is_half_published(output)
    journal.append(0, 0, FIRST)
    assert not is_half_published(output)
    journal.append_moving(output, [output, tmp_path / "labels.qml", tmp_path.parent / "a.gpkg"])
    assert is_half_published(output)
    assert is_half_published(output, tmp_path / "labels.qml")
    assert is_half_published(output, tmp_path.parent / "a.gpkg")
    assert not is_half_published(output, tmp_path / "a.gpkg")
    assert not is_half_published(output, tmp_path / "labels.json")
    journal.append(1, 0, FIRST)  # begun anew
    assert not is_half_published(output)
    journal.close()
    for content in (b"[]\n", b"{", b"\xff\n", b'{"moving": true}\n', b'{"moving": ["labels.tif"]}'):
        (folder / "journal.jsonl").write_bytes(content)
        assert not is_half_published(output)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the names of open files")
def test_a_block_is_on_disk_before_the_journal_names_it_and_outputs_before_they_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        waited.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    output = tmp_path / "a.tif"
    with ResumableRasterWriter.open({output: Layer()}, Grid(4, 4, Affine.identity()), {}) as work:
        monkeypatch.setattr(os, "fsync", watched)
        work.put(0, 0, {output: np.zeros((4, 4), np.uint8)})
        block, journal = waited
        assert block.startswith(".draft-0-0-0.")
        assert journal == "journal.jsonl"
        waited.clear()
        work.publish()
    assert waited == ["0.cog.tif", "journal.jsonl", tmp_path.name]
