"""Files appear whole or not at all, and folders are one process's at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from geohp.errors import DataError, OutputError
from geohp.files import RASTERS, FolderInUseError, FolderLock, atomic_write, check_suffix, write_text

LOCKED = """
import sys, time
from pathlib import Path
from geohp.files import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


def test_a_name_may_not_promise_another_format():
    for right in ("map.tif", "MAP.TIFF", "a.b.tif"):
        assert check_suffix(right, RASTERS, "rasters") == Path(right)
    for wrong, suffix in (("map.jpg", "'.jpg'"), ("map", "'(none)'"), (".tif", "'(none)'"), ("map.tif.png", "'.png'")):
        with pytest.raises(OutputError) as refused:
            check_suffix(wrong, RASTERS, "rasters")
        assert str(refused.value) == f"{wrong} has the suffix {suffix}; rasters are written to .tif or .tiff"


FULL = OSError(28, "No space left on device")


def fail(path: Path, error: BaseException) -> None:
    with atomic_write(path) as draft:
        draft.write_text("half")
        draft.with_name(f"{draft.name}-journal").write_text("of a database")
        raise error


@pytest.mark.parametrize("error", [FULL, DataError("a bad image"), KeyboardInterrupt()])
def test_what_was_there_stays_if_anything_fails(tmp_path: Path, error: BaseException) -> None:
    path = write_text(tmp_path / "a.txt", "before")
    expected = OutputError if type(error) is OSError else type(error)
    with pytest.raises(expected) as raised:
        fail(path, error)
    assert "No space left on device" in str(raised.value) or expected is not OutputError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_an_ordinary_one_and_another_keeps_who_may_read_it(tmp_path: Path) -> None:
    path, ordinary = tmp_path / "a.txt", tmp_path / "b.txt"
    ordinary.touch()
    for mode in (ordinary.stat().st_mode, 0o100640):
        with atomic_write(path) as draft:
            draft.touch(0o600)
        assert path.stat().st_mode == mode
        path.chmod(0o640)


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_a_folder_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", LOCKED, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(FolderInUseError, match="in use"):
            FolderLock(folder)
        other.send_signal(signal.SIGKILL)
    lock = FolderLock(folder)
    lock.release(remove=True)
    assert not folder.exists()
    assert not lock.held
