"""What a user sees of a run: progress on a terminal, notes and errors on standard error, one sentence each."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from geohp.errors import GeohpError, Note
from geohp.progress import Progress as ProgressProtocol
from geohp.progress import no_progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from geohp.inference.writing import Skipped

_SHOWN = 3
_LONGEST = 2000  # characters of a sentence: names of files and values of others may be of any length

_FLAGS = {
    "overrides": "--set",
    "window_px": "--window",
    "pixel_size_m": "--pixel-size",
    "min_area_m2": "--min-area",
    "simplify_m": "--simplify",
    "resume": "geohp train --resume",
}
"""Options that the command line calls otherwise than Python does."""


_LINE_EVERY_S = 2.0
"""Where there is no terminal, a stage is silent for so long, and between two lines."""
_LINE_AT_LEAST_S = 30.0
_LINE_SHARE = 0.1


@dataclass(frozen=True)
class _Shown:
    """What a user wants to see."""

    quiet: bool = False
    verbose: bool = False


_USUAL = _Shown()
_SHOWN_NOW: ContextVar[_Shown] = ContextVar("shown", default=_USUAL)


@contextmanager
def showing(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Within the ``with`` block, show less or more of what happens; the exception that ends it is shown alike."""
    _SHOWN_NOW.set(_Shown(quiet, verbose))
    package, everything = logging.getLogger("geohp"), logging.getLogger()
    levels = package.level, everything.level
    if quiet or verbose:
        package.setLevel(logging.DEBUG if verbose else logging.WARNING)
    if verbose:
        everything.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(levels[0])
        everything.setLevel(levels[1])


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


@dataclass
class _Stage:
    """When a stage began, and what was last said of it."""

    began: float
    said_at: float
    said_share: float = 0.0
    detail: str = ""


class Lines:
    """Says of named stages of work how far they are, in a plain line now and then; of short ones nothing.

    Args:
        say: takes a line.
        clock: seconds, as ``time.monotonic`` gives them.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._stages: dict[str, _Stage] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Take note of so many steps, and say so when it is time."""
        now = self._clock()
        if stage not in self._stages:
            self._stages[stage] = _Stage(began=now, said_at=now)
        known = self._stages[stage]
        share = done / total if total else 1.0
        if share < known.said_share:  # the same stage of something else
            known.began = known.said_at = now
            known.said_share = 0.0
        waited = now - known.said_at
        far = share - known.said_share >= _LINE_SHARE or (done == total and known.said_share < 1)
        if waited < _LINE_EVERY_S or not (far or waited >= _LINE_AT_LEAST_S):
            return
        elapsed = now - known.began
        left = f", about {duration(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
        words = f" ({detail})" if detail else ""
        self._say(f"{stage}: {100 * share:.0f} % ({done} of {total}) in {duration(elapsed)}{left}{words}")
        known.said_at, known.said_share = now, share


@contextmanager
def progress() -> Iterator[ProgressProtocol]:
    """How far some work is, on standard error: bars where that is a terminal, else a line now and then."""
    if _SHOWN_NOW.get().quiet:
        yield no_progress
        return
    if not sys.stderr.isatty():
        yield Lines(say)
        return
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
    if _SHOWN_NOW.get().verbose:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    sentence = " ".join(error.render(flag).split())
    if len(sentence) > _LONGEST:
        sentence = f"{sentence[: _LONGEST // 2]} ... {sentence[-_LONGEST // 2 :]}"
    say(f"error: {sentence}")
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
