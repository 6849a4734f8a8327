"""Files appear whole or not at all, and folders are one process's at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from geohp.errors import DataError, OutputError
from geohp.files.atomic import atomic_write, folder_in_progress, store, write_bytes, write_text
from geohp.files.checks import RASTERS, check_new_folder, check_output, check_suffix
from geohp.files.locks import FolderInUseError, FolderLock
from geohp.files.unfinished import is_half_published, work_folder

LOCKED = """
import sys, time
from pathlib import Path
from geohp.files.locks import FolderLock
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
@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_has_a_durable_file_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    done: list[str] = []
    place = Path.replace
    monkeypatch.setattr("os.fsync", lambda _: done.append("on disk"))
    monkeypatch.setattr(Path, "replace", lambda self, to: done.append("in place") or place(self, to))
    write_bytes(tmp_path / "a.txt", b"a", durable=durable)
    assert done == (["on disk"] if durable else []) + ["in place"]


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


KILLED = """
import os, signal, sys
from pathlib import Path
from geohp.files.atomic import atomic_write
path, replaces = Path(sys.argv[1]), int(sys.argv[2])
def replace(*arguments, plain=os.replace):
    global replaces
    if not replaces:
        os.kill(os.getpid(), signal.SIGKILL)
    replaces -= 1
    plain(*arguments)
os.replace = replace
with atomic_write(path, path.with_suffix(".qml")) as draft:
    draft.write_text("new")
    draft.with_suffix(".qml").write_text("new")
"""


def kill(path: Path, replaces: int) -> None:
    """Have a process killed before it moves its files into place, after so many of them."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(replaces)], check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_what_a_killed_process_left_goes_with_the_next_run_whether_that_writes_or_refuses(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "before")
    kill(path, 0)
    assert path.read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", ".a.txt.geohp"}
    work = work_folder(path)
    (work / "journal.jsonl").unlink()  # as if it had been killed a moment before
    with pytest.raises(OutputError, match="exists already"):
        check_output(path)
    assert list(tmp_path.iterdir()) == [path]
    kill(path, 0)
    write_text(path, "after")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_killed_between_two_outputs_the_same_command_may_replace_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    kill(path, 1)
    assert path.read_text() == "new"
    assert not path.with_suffix(".qml").exists()
    assert is_half_published(path)
    kill(path, 0)  # and again, before it comes to that
    assert is_half_published(path)
    with pytest.raises(DataError):
        fail(path, DataError("a bad image"))
    assert is_half_published(path)
    check_output(path, overwrite=is_half_published(path))
    with atomic_write(path) as draft:
        draft.write_text("newer")
    assert not is_half_published(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_somebody_works_on_is_not_taken_for_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_write(path) as draft:
        draft.write_text("half")
        check_output(path)
        assert draft.exists()
        with pytest.raises(FolderInUseError, match="in use"), atomic_write(path):
            pass
    assert path.read_text() == "half"


def test_a_folder_killed_between_going_and_coming_is_back_with_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "a.txt").write_text("before")
    work_folder(folder).mkdir()
    folder.rename(work_folder(folder) / "old")
    with pytest.raises(DataError), folder_in_progress(folder, replace=True):
        raise DataError("a bad image")
    assert (folder / "a.txt").read_text() == "before"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("target", ["out.tif", "elsewhere/missing.tif"])
def test_a_link_that_leads_nowhere_is_refused_and_stays(tmp_path: Path, target: str) -> None:
    link = tmp_path / "out.tif"
    link.symlink_to(tmp_path / target)  # to itself, or dangling
    for check in (check_output, check_new_folder):
        with pytest.raises(OutputError, match="is a symbolic link that leads nowhere; remove it or choose"):
            check(link)
    assert link.is_symlink()


def test_names_too_long_for_a_disk_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for length in (241, 255, 300):
        with pytest.raises(OutputError, match="240 bytes; choose a shorter one"):
            check_output(tmp_path / ("n" * (length - 4) + ".tif"))
    assert write_text(check_output(tmp_path / ("n" * 236 + ".tif")), "fits").exists()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError):
        check_output(tmp_path / "loop" / "a.tif")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_that_are_no_text_are_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(OutputError, match="is not UTF-8"):
        check_output(folder / "a.tif")


def test_a_folder_that_goes_as_another_wants_it_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, folder = Path.mkdir, tmp_path / "run"

    def vanishing(self: Path, *arguments: object, **options: object) -> None:
        plain(self, *arguments, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(Path, "mkdir", plain)
        self.rmdir()  # whoever had it has just let go

    monkeypatch.setattr(Path, "mkdir", vanishing)
    lock = FolderLock(folder)
    assert lock.held
    lock.release()


def test_a_folder_goes_before_others_are_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came in between would work in a folder whose lock is about to be removed."""
    lock, seen = FolderLock(tmp_path / "a"), []
    unlink = Path.unlink

    def watched(self: Path) -> None:
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path / "a")
        seen.append(self.name)
        unlink(self)

    monkeypatch.setattr(Path, "unlink", watched)
    lock.release(remove=True)
    assert seen == ["lock"]
    assert not (tmp_path / "a").exists()


def test_files_of_a_locked_folder_appear_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "a", b"before")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda _: (_ for _ in ()).throw(FULL))
        with pytest.raises(OutputError, match="No space left"):
            store(tmp_path / "a", b"after")
    assert (tmp_path / "a").read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
