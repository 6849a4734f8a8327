"""The plain Python of the QGIS plugin: which geohp, what command line, what its lines mean, how it is stopped."""

import os
import sys
import time
from pathlib import Path

import pytest
from geohp_processing import command
from geohp_processing.command import CommandError, Message, Progress, command_line, environment, parse_line, run

from geohp.cli.terminal import Lines
from geohp.version import __version__

posix = pytest.mark.skipif(os.name == "nt", reason="scripts that start themselves are of Unix")


def _script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@posix
@pytest.mark.parametrize("place", ["env", "env/bin", "env/bin/geohp"])
def test_an_environment_is_named_by_its_folder_or_its_command(tmp_path, place):
    script = _script(tmp_path / "env" / "bin" / "geohp", "")
    assert command.find_executable(str(tmp_path / place)) == script


@posix
def test_without_a_setting_the_command_on_path_is_taken(tmp_path, monkeypatch):
    script = _script(tmp_path / "geohp", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.find_executable(" ") == script


@pytest.mark.parametrize("setting", ["", "no/such/place", "."])
def test_no_command_says_where_to_choose_one(tmp_path, monkeypatch, setting):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="Settings > Options > Processing > Providers > geohp"):
        command.find_executable(setting)


@posix
def test_the_version_is_checked(tmp_path):
    version = command.check_version(_script(tmp_path / "geohp", "print('geohp 0.2.0')"))
    assert version == "0.2.0"
    with pytest.raises(CommandError, match=r"is geohp 0\.0\.9, and this plugin needs 0\.1\.0"):
        command.check_version(_script(tmp_path / "geohp", "print('geohp 0.0.9')"))
    with pytest.raises(CommandError, match=r"no working geohp \(ModuleNotFoundError: No module named 'geohp_'\)"):
        command.check_version(_script(tmp_path / "geohp", "import geohp_"))  # whose traceback has several lines
    with pytest.raises(CommandError, match="does not run"):
        command.check_version(tmp_path / "absent")


@posix
@pytest.mark.parametrize(("version", "is_enough"), [("0.10.0", True), ("0.10", True), ("1.2", True), ("0.9.9", False)])
def test_versions_are_compared_as_numbers_and_the_needed_one_will_do(tmp_path, monkeypatch, version, is_enough):
    monkeypatch.setattr(command, "MINIMUM_VERSION", (0, 10, 0))
    script = _script(tmp_path / "geohp", f"print('geohp {version}')")
    if is_enough:
        assert command.check_version(script).startswith(version)
        return
    with pytest.raises(CommandError, match="this plugin needs"):
        command.check_version(script)


def test_this_geohp_is_new_enough():
    match = command._VERSION.match(f"geohp {__version__}")
    assert tuple(map(int, match.groups())) >= command.MINIMUM_VERSION


def test_values_become_words_of_their_own_whatever_they_hold():
    line = command_line(
        Path("geohp"),
        "segment",
        ["a scene;rm -rf.tif", None],
        [
            ("--out", Path("out dir/l.tif")), ("--scaling", "-1,1"), ("--qml", True), ("--tta", False),
            ("--model", None), ("--pixel-size", 0), ("--block", 0.0),
        ],
    )  # fmt: skip
    assert line == [
        "geohp", "segment", "--out=out dir/l.tif", "--scaling=-1,1", "--qml", "--pixel-size=0", "--block=0.0", "--",
        "a scene;rm -rf.tif",
    ]  # fmt: skip


def test_what_qgis_means_for_itself_does_not_reach_the_command(tmp_path):
    of_qgis = {"PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA"}
    inherited = {**dict.fromkeys(of_qgis, "/qgis"), "HOME": "/home", "PATH": "/usr/bin"}
    variables = environment(tmp_path / "bin" / "geohp", inherited)
    assert not of_qgis & set(variables)
    assert variables["HOME"] == "/home"
    assert variables["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")
    assert variables["PATH"].split(os.pathsep)[-1] == "/usr/bin"


def test_progress_is_read_as_geohp_writes_it():
    written = []
    lines = Lines(lambda text: written.append(f"geohp: {text}"), clock=iter([0.0, 100.0]).__next__)
    lines("finding classes: of all", 0, 8)
    lines("finding classes: of all", 5, 8, "scene.tif")
    (event,) = map(parse_line, written)
    assert event == Progress("finding classes: of all", 62.0, written[0].removeprefix("geohp: "))


def test_errors_and_sentences_are_told_apart():
    assert parse_line("geohp: error: no such file\n") == Message("no such file", is_error=True)
    assert parse_line("geohp: using k-means") == Message("using k-means")
    assert parse_line("Traceback (most recent call last):") == Message("Traceback (most recent call last):")


def test_a_command_is_run_and_its_lines_are_handed_on(tmp_path):
    body = "import sys; print('geohp: reading: 50 % (1 of 2) in 3 s', file=sys.stderr); print('wrote ä')"
    events = []
    finished = run([sys.executable, "-c", body], events.append, lambda: False)
    assert [type(event) for event in events] == [Progress]
    assert (finished.code, finished.text, finished.error, finished.cancelled) == (0, "wrote ä", "", False)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("print('geohp: note', file=sys.stderr); sys.exit('geohp: error: bad; mend it')", "bad; mend it"),
        ("print('1'); sys.exit('unknown option')", "unknown option"),
        ("sys.exit(3)", "exit code 3"),
    ],
)
def test_a_failure_has_its_own_words(body, error):
    finished = run([sys.executable, "-c", f"import sys; {body}"], lambda event: None, lambda: False)
    assert (finished.error, finished.cancelled) == (error, False)
    assert finished.code != 0


_PARENT = """
import subprocess, sys, signal, time
from pathlib import Path
def end(*_):
    print("geohp: kept; the same command goes on", file=sys.stderr, flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, end if {listens} else signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path({place!r}).write_text(str(child.pid))
print("geohp: ready", file=sys.stderr, flush=True)
time.sleep(600)
"""


def _is_running(pid: int) -> bool:
    """Whether a process works; one that nobody has asked for its exit code does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@posix
@pytest.mark.parametrize("listens", [True, False])
def test_cancelling_ends_all_that_was_started_and_still_says_what_is_kept(tmp_path, listens):
    place = tmp_path / "pid"
    events = []
    line = [sys.executable, "-c", _PARENT.format(place=str(place), listens=listens)]
    finished = run(line, events.append, lambda: Message("ready") in events, grace_s=60 if listens else 0.5)
    assert finished.cancelled
    assert (Message("kept; the same command goes on") in events) is listens
    assert finished.code == (143 if listens else -9)
    child = int(place.read_text())
    deadline = time.monotonic() + 10
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(child)


@posix
def test_what_a_command_leaves_behind_is_not_waited_for(tmp_path):
    body = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    started = time.monotonic()
    assert run([sys.executable, "-c", body], lambda event: None, lambda: False).code == 0
    assert time.monotonic() - started < 15


def test_a_command_that_does_not_start_says_so(tmp_path):
    with pytest.raises(CommandError, match="does not run"):
        run([str(tmp_path / "absent"), "segment"], lambda event: None, lambda: False)
