"""What a user sees of a run: progress on a terminal, notes and errors on standard error, one sentence each."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from geohp.errors import GeohpError, Note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from geohp.inference.writing import Skipped

_SHOWN = 3

_FLAGS = {
    "overrides": "--set",
    "window_px": "--window",
    "pixel_size_m": "--pixel-size",
    "min_area_m2": "--min-area",
    "simplify_m": "--simplify",
    "resume": "geohp train --resume",
}
"""Options that the command line calls otherwise than Python does."""


class Stages:
    """Shows named stages of work, one bar each, as they report."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show that so many steps of a stage are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, detail="")
        self._bars.update(self._tasks[stage], completed=done, total=total, detail=detail)


@contextmanager
def progress() -> Iterator[Stages]:
    """Bars on standard error for the stages of some work, where that is a terminal."""
    from rich import progress as columns
    from rich.console import Console

    with columns.Progress(
        columns.TextColumn("{task.description:>20}"),
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        columns.TimeElapsedColumn(),
        columns.TimeRemainingColumn(),
        columns.TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as bars:
        yield Stages(bars)


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def say(text: str) -> None:
    """A sentence beside the result."""
    typer.echo(f"geohp: {text}", err=True)


def flag(option: str, value: object) -> str:
    """An option as the command line writes it: ``--overwrite``, or ``--window`` where no value is told."""
    name = _FLAGS.get(option, "--" + option.replace("_", "-"))
    return name if value is None or value is True else f"{name} {shlex.quote(str(value))}"


class _Sentences(logging.Handler):
    """Log messages as sentences; where bars are shown, above them."""

    def emit(self, record: logging.LogRecord) -> None:
        # A cluster warns that it closes when it is told to.
        if record.levelno >= logging.ERROR or not record.name.startswith("distributed"):
            say(self.format(record))


def show_log() -> None:
    """Show what geohp reports, and what other libraries warn of."""
    logging.getLogger().addHandler(_Sentences())
    logging.getLogger("geohp").setLevel(logging.INFO)


def show_skipped(scene: str, skipped: Sequence[Skipped]) -> None:
    """Which parts of a scene are missing in the map: how many, and the first of them."""
    if not skipped:
        return
    say(f"{len(skipped)} part(s) of {scene} could not be read and are nodata in the map:")
    for part in skipped[:_SHOWN]:
        say(f"  row {part.row}, column {part.col}, {part.height} x {part.width} px: {part.reason}")
    if len(skipped) > _SHOWN:
        say(f"  and {len(skipped) - _SHOWN} more")


def show_error(error: GeohpError) -> None:
    """What was wrong, and what is kept of the work."""
    say(f"error: {' '.join(error.render(flag).split())}")
    _show_notes(error)


def show_interrupt(interrupt: KeyboardInterrupt) -> None:
    """That the run was stopped, and what is kept of the work."""
    notes = getattr(interrupt, "__notes__", ())
    say("interrupted" if notes else "interrupted; nothing unfinished was left behind")
    _show_notes(interrupt)


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _show_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", ()):
        say(note.render(flag) if isinstance(note, Note) else note)
