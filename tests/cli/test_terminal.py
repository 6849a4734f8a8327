"""What a user sees of a run beside its results."""

import logging

import pytest

from geohp.cli import terminal
from geohp.errors import OutputError, SceneError


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
    logging.getLogger("other").info("nothing")
    logging.getLogger("other").warning("careful")
    logging.getLogger("distributed.nanny").warning("closing")
    logging.getLogger("distributed.nanny").error("lost")
    assert capsys.readouterr().err.splitlines() == ["geohp: using k-means", "geohp: careful", "geohp: lost"]
