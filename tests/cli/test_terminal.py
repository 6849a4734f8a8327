"""What a user sees of a run beside its results."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rich.progress import Progress

from geohp.cli import terminal
from geohp.cli.app import app
from geohp.errors import Note, OutputError, SceneError


@pytest.mark.parametrize(
    ("option", "value", "written"),
    [
        ("overwrite", True, "--overwrite"),
        ("on_read_error", "nodata", "--on-read-error nodata"),
        ("window_px", None, "--window"),
        ("min_area_m2", None, "--min-area"),
    ],
)
def test_errors_name_options_as_the_command_line_does(option, value, written, capsys):
    terminal.show_error(OutputError("a.tif: in the way", "use\n {option}", option=option, value=value))
    assert capsys.readouterr().err == f"geohp: error: a.tif: in the way; use {written}\n"


def test_notes_of_an_error_follow_it(capsys):
    error = SceneError("a.tif cannot be read")
    error.add_note("2 blocks are kept")
    terminal.show_error(error)
    assert capsys.readouterr().err.splitlines() == ["geohp: error: a.tif cannot be read", "geohp: 2 blocks are kept"]


def test_what_geohp_reports_and_others_warn_of_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("geohp"), "level", logging.NOTSET)
    terminal.show_log()
    logging.getLogger("geohp.inference").info("using %s", "k-means")
    logging.getLogger("geohp.inference").info(Note("{option} tells kinds apart", option="split_covers", value=True))
    logging.getLogger("other").info("nothing")
    for _ in range(2):
        logging.getLogger("other").warning("careful")
    logging.getLogger("distributed.nanny").warning("closing")
    logging.getLogger("distributed.nanny").error("lost")
    said = ["using k-means", "--split-covers tells kinds apart", "careful", "lost"]
    assert capsys.readouterr().err.splitlines() == [f"geohp: {line}" for line in said]


def test_what_gdal_warns_of_is_said_once_and_a_flood_of_it_cut_short(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    terminal.show_log()
    log = logging.getLogger("rasterio._env")
    for text in ("a.tif: damaged", "damaged", "a.tif: damaged", "cut short\nhere", "third", "fourth", "fifth"):
        log.warning("CPLE_AppDefined in %s", text)
    said = ["GDAL: a.tif: damaged", "GDAL: cut short here", "GDAL: third", "GDAL: and more; all of it with --verbose"]
    assert capsys.readouterr().err.splitlines() == [f"geohp: {line}" for line in said]


def test_a_warning_that_is_no_text_is_passed_over_and_a_crash_is_not(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def warn(path):
        sys.excepthook(UnicodeDecodeError, undecodable, None)
        raise SceneError(f"{path} is damaged")

    monkeypatch.setattr("geohp.inspection.rasters.raster_info", warn)
    undecodable = UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid start byte")
    monkeypatch.setattr(sys, "argv", ["geohp", "info", "a.tif"])
    with pytest.raises(SceneError):
        app()
    assert capsys.readouterr().err == ""
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xe9".decode()
    sys.excepthook(UnicodeDecodeError, caught.value, caught.value.__traceback__)
    assert "UnicodeDecodeError" in capsys.readouterr().err


def lines(calls):
    """What is said of (seconds, done) of a stage of 20 steps."""
    said, now = [], [0.0]
    progress = terminal.Lines(said.append, clock=lambda: now[0])
    for now[0], done in calls:
        progress("segmenting", done, 20, "a.tif")
    return said


def test_without_a_terminal_long_work_says_how_far_it_is_and_short_work_nothing():
    assert lines([(0, 1), (0.5, 10), (1.9, 20)]) == []
    assert lines([(0, 1), (1, 5), (4, 10), (5, 12), (8, 20), (9, 20)]) == [
        "segmenting: 50 % (10 of 20) in 4 s, about 4 s left (a.tif)",
        "segmenting: 100 % (20 of 20) in 8 s (a.tif)",
    ]
    assert [line.split(",")[0] for line in lines([(0, 1), (31, 1), (62, 1)])] == [
        "segmenting: 5 % (1 of 20) in 31 s",
        "segmenting: 5 % (1 of 20) in 1 min 2 s",
    ]


def test_where_standard_error_is_closed_work_is_done_in_silence(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with terminal.progress() as progress:
        progress("segmenting", 1, 2)


def test_the_next_scene_begins_anew():
    said = lines([(0, 1), (5, 20), (6, 1), (9, 20)])
    assert said[-1].startswith("segmenting: 100 % (20 of 20) in 3 s")
    # Also where the last one was too short to be spoken of.
    assert lines([(0, 1), (1, 20), (60, 1), (63, 5)]) == ["segmenting: 25 % (5 of 20) in 3 s, about 9 s left (a.tif)"]


def test_a_bar_of_the_next_scene_begins_anew():
    now = [0.0]
    bars = Progress(get_time=lambda: now[0], disable=True)
    progress = terminal.Stages(bars)
    for now[0], done in [(0, 1), (50, 20), (60, 1)]:
        progress("segmenting", done, 20)
    now[0] = 63
    (task,) = bars.tasks
    assert (task.completed, task.elapsed) == (1, 3)


def test_quiet_shows_no_progress_and_no_news(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("geohp"), "level", logging.NOTSET)
    terminal.show_log()
    with terminal.showing(quiet=True), terminal.progress() as progress:
        assert not isinstance(progress, terminal.Lines)
        logging.getLogger("geohp.inference").info("using k-means")
        logging.getLogger("geohp.inference").warning("few patches")
    with terminal.showing(), terminal.progress() as progress:
        assert isinstance(progress, terminal.Lines)
    assert capsys.readouterr().err.splitlines() == ["geohp: few patches"]


def test_verbose_shows_where_an_error_arose(capsys):
    with terminal.showing(verbose=True):
        pass
    try:
        raise SceneError("a.tif cannot be read")
    except SceneError as error:
        terminal.show_error(error)
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("geohp: error: a.tif cannot be read\n")
    with terminal.showing():
        pass


def test_a_note_names_the_command_that_goes_on(capsys):
    error = SceneError("a.tif cannot be read")
    error.add_note(Note("kept; {option} goes on", option="resume", value="runs/my run"))
    terminal.show_error(error)
    assert capsys.readouterr().err.splitlines()[1] == "geohp: kept; geohp train --resume 'runs/my run' goes on"
    assert error.__notes__ == ["kept; resume='runs/my run' goes on"]


def test_a_terminal_is_told_no_commands_and_no_secrets(capsys):
    terminal.say("\x1b[31mred\x07 \x9b1m https://u:p@h/a?sig=x\nnext\tline \ud800")
    shown = capsys.readouterr().err
    assert shown == "geohp:  [31mred   1m https://***@h/a?sig=***\nnext\tline  \n"
    terminal.echo("\x1b]0;title\x07é 🌲")
    assert capsys.readouterr().out == " ]0;title é 🌲\n"


def test_sentences_stay_sentences_whatever_a_file_is_called(capsys):
    terminal.show_error(SceneError(f"{'x' * 50_000}.tif: not there", "check the path"))
    shown = capsys.readouterr().err
    assert len(shown) < 3_000
    assert shown.endswith("not there; check the path\n")


def test_what_the_system_says_of_a_file_is_the_sentence():
    done = subprocess.run([sys.executable, "-m", "geohp", "train", "x" * 5_000], capture_output=True, text=True)
    assert done.returncode == 2
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("as_json", [False, True])
def test_standard_output_takes_names_in_any_script(write_scene, encoding, as_json):
    """As a file or a pipe on Windows, whose encodings have 256 characters."""
    path = write_scene(np.zeros((1, 4, 4), np.uint8), "labels.tif", nodata=255)
    name = "Straße → 森 🌲"
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, classes=json.dumps([{"id": 0, "name": name, "colour": "#112233"}]))
    command = [sys.executable, "-m", "geohp", "info", str(path), *["--json"] * as_json]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    if as_json:
        assert json.loads(shown)["classes"][0]["name"] == name
    else:
        assert (name if encoding == "utf-8" else r"Straße \u2192 \u68ee \U0001f332") in shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a full disk to write to")
def test_standard_output_on_a_full_disk_is_one_sentence():
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "geohp", "config"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("geohp: error: the result could not be written to standard output")
    assert done.stderr.count("\n") == 1
