"""The record of a folder of maps: it outlives any end, and costs as much for the thousandth map as for the first."""

import json
import tracemalloc

import pytest

from geohp.errors import OutputError
from geohp.inference import folder_record
from geohp.inference.areas import ClassArea
from geohp.inference.folder_record import FolderRecord

AREAS = (ClassArea(0, "water", 7, 0.25, 0.1, 0.9), ClassArea(1, "wood", 21, 0.75, None, None))
MODEL = "f" * 64


def make(record, number):
    """A map of some bytes."""
    path = record.folder / f"{number}.tif"
    with record.making({path: f"key {number}"}, {path: MODEL}):
        path.write_bytes(bytes(number + 1))
    record.remember_areas(path, AREAS)
    return path


def kill(record):
    """End as a process ends that is killed: nothing is tidied up, the system frees the lock."""
    record._lock.release()


def lines(folder):
    return folder / ".geohp" / "record.jsonl"


def knows(folder, count):
    """Whether it knows so many maps and no more."""
    with FolderRecord(folder) as record:
        paths = [folder / f"{number}.tif" for number in range(count)]
        return (
            all(record.holds(path, f"key {number}") for number, path in enumerate(paths))
            and record.maps(MODEL) == paths
            and all(record.areas(path) == AREAS for path in paths)
        )


def test_what_was_known_when_it_was_killed_is_known(tmp_path):
    with FolderRecord(tmp_path) as record:
        make(record, 0)
    assert not lines(tmp_path).exists()
    record = FolderRecord(tmp_path)
    make(record, 1)
    record.notes["origin"] = "somewhere"
    make(record, 2)
    kill(record)
    with lines(tmp_path).open("ab") as file:
        file.write(b'{"files": {"3.tif": {"ke')  # as a full disk may leave it
    assert knows(tmp_path, 3)
    assert not lines(tmp_path).exists()
    assert knows(tmp_path, 3)
    with FolderRecord(tmp_path) as record:
        assert record.notes == {"origin": "somewhere"}


def test_what_is_announced_and_then_changes_is_complete(tmp_path):
    path = tmp_path / "map.tif"
    path.write_bytes(b"before")
    record = FolderRecord(tmp_path)
    making = record.making({path: "key"})
    making.__enter__()
    kill(record)
    with FolderRecord(tmp_path) as record:
        assert not record.holds(path)
    path.write_bytes(b"another")
    with FolderRecord(tmp_path) as record:
        assert record.holds(path, "key")
        assert not record.holds(path, "another key")
        path.unlink()
        assert not record.holds(path)


def test_killed_between_record_and_lines_it_says_the_same(tmp_path):
    record = FolderRecord(tmp_path)
    make(record, 0)
    make(record, 0)  # made again: the later line counts
    said = lines(tmp_path).read_bytes()
    record.__exit__()
    lines(tmp_path).write_bytes(said)
    assert knows(tmp_path, 1)


def test_what_cannot_be_merged_stays_added(tmp_path, monkeypatch):
    def full(*_):
        raise OutputError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(folder_record, "store", full)
        with FolderRecord(tmp_path) as record:
            make(record, 0)
    assert not (tmp_path / ".geohp" / "record.json").exists()
    assert knows(tmp_path, 1)


def test_records_of_earlier_versions_are_understood(tmp_path):
    path = tmp_path / "0.tif"
    path.write_bytes(b"x")
    state = [1, path.stat().st_mtime_ns]
    area = {"id": 0, "name": "a", "pixels": 1, "share": 1.0, "area_ha": None, "mean_confidence": None}
    entry = {"key": "key 0", "before": None, "told": {"labels": MODEL}, "after": state}
    begun = {"key": "key 1", "before": state, "told": {}}
    notes = {"model": MODEL, "areas": {"0.tif": [area]}}
    (tmp_path / ".geohp").mkdir()
    content = {"format": 1, "notes": notes, "files": {"0.tif": entry, "1.tif": begun}}
    (tmp_path / ".geohp" / "record.json").write_text(json.dumps(content))
    with FolderRecord(tmp_path) as record:
        assert record.holds(path, "key 0")
        assert not record.holds(tmp_path / "1.tif")
        assert record.maps(MODEL) == [path]
        assert record.areas(path) == (ClassArea(**area),)
        assert record.notes == {"model": MODEL}
        make(record, 1)
    stored = json.loads((tmp_path / ".geohp" / "record.json").read_text())
    assert stored["notes"]["areas"]["0.tif"] == [area]
    assert stored["notes"]["model"] == MODEL
    assert stored["files"]["0.tif"]["after"] == state
    assert set(stored["files"]) == {"0.tif", "1.tif"}


def test_the_hundredth_map_costs_as_much_as_the_first(tmp_path, monkeypatch):
    def rewritten(*_):
        raise AssertionError("the whole record is written for one map")

    record = FolderRecord(tmp_path)
    make(record, 10)
    first = lines(tmp_path).stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(folder_record, "store", rewritten)
        for number in range(11, 99):
            make(record, number)
        before = lines(tmp_path).stat().st_size
        make(record, 99)
        assert lines(tmp_path).stat().st_size - before == pytest.approx(first, abs=20)
    record.__exit__()


def test_a_map_takes_less_than_half_a_kilobyte(tmp_path):
    with FolderRecord(tmp_path) as record:
        for number in range(20):
            make(record, number)
        tracemalloc.start()
        try:
            for number in range(20, 220):
                make(record, number)
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size / 200 < 512, f"{size / 200:.0f} bytes a map"


LINES = {
    "brackets without end": "[" * 100_000,
    "a name that leads elsewhere": '{"files": {"../../x.tif": {"key": "0", "told": {"labels": "m"}, "after": [1, 2]}}}',
    "a name with NUL": '{"files": {"a\\u0000b": {"key": "0", "told": {"labels": "m"}, "after": [1, 2]}}}',
    "half a character": '{"files": {"\\ud800": {"key": "0", "told": {"labels": "m"}, "after": [1, 2]}}}',
    "an area of text": '{"areas": {"0.tif": [{"id": 0, "name": "a", "pixels": "x", "share": 1, "area_ha": 1}]}}',
    "10^400 pixels": '{"areas": {"0.tif": [{"id": 0, "name": "a", "pixels": 1' + "0" * 400
    + ', "share": 1, "area_ha": 1, "mean_confidence": 1}]}}',
}  # fmt: skip


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_nobody_wrote_counts_as_torn_and_a_record_of_it_is_refused(tmp_path, line):
    record = FolderRecord(tmp_path)
    make(record, 0)
    kill(record)
    with lines(tmp_path).open("a") as file:
        file.write(f"{line}\n")
    with FolderRecord(tmp_path) as record:
        assert list(record._files) == ["0.tif"]
        assert record.maps("m") == []
    stored = line.replace("{", '{"format": 1, ', 1) if line.startswith("{") else line
    (tmp_path / ".geohp" / "record.json").write_text(stored)
    with pytest.raises(OutputError, match="cannot be understood"):
        FolderRecord(tmp_path)


def test_what_nothing_was_written_in_is_left_as_it_was(tmp_path):
    with FolderRecord(tmp_path) as record:
        record.notes["model"] = MODEL
    assert list(tmp_path.iterdir()) == []
