"""What a user sees of a run: progress on a terminal, notes and errors on standard error, one sentence each."""

from __future__ import annotations

import io
import logging
import re
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

from geohp.classes import unprintable
from geohp.credentials import without_credentials
from geohp.errors import GeohpError, Note
from geohp.progress import Progress as ProgressProtocol
from geohp.progress import no_progress

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from geohp.inference.writing import Skipped

_SHOWN = 3
_LONGEST = 2000  # characters of a sentence: names of files and values of others may be of any length
_GDAL_CODE = re.compile(r"^CPLE_\w+(?: in |:)\s*")
"""What rasterio begins the words of GDAL with."""

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
        self._done: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show that so many steps of a stage are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, detail="")
        elif done < self._done[stage]:  # the same stage of something else
            self._bars.reset(self._tasks[stage])
        self._done[stage] = done
        self._bars.update(self._tasks[stage], completed=done, total=total, detail=detail)


@dataclass
class _Stage:
    """When a stage began, how far it is, and what was last said of it."""

    began: float
    said_at: float
    said_share: float = 0.0
    share: float = 0.0


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
        if share < known.share:  # the same stage of something else
            known.began = known.said_at = now
            known.said_share = 0.0
        known.share = share
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
    if sys.stderr is None or not sys.stderr.isatty():  # closed, as of services, there is none
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
    echo(f"geohp: {text}", err=True)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text as a terminal may show it: nothing in it commands the terminal, or gives access to anything."""
    shown = "".join(" " if unprintable(c) and c not in "\n\t" else c for c in without_credentials(text))
    try:
        typer.echo(shown, err=err)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or err:  # nobody listens any more
            raise
        problem = f"the result could not be written to standard output ({error.strerror})"
        raise GeohpError(problem, "all files that were made are complete") from error


def flag(option: str, value: object) -> str:
    """An option as the command line writes it: ``--overwrite``, or ``--window`` where no value is told."""
    name = _FLAGS.get(option, "--" + option.replace("_", "-"))
    return name if value is None or value is True else f"{name} {shlex.quote(str(value))}"


class _Sentences(logging.Handler):
    """Log messages as sentences; where bars are shown, above them."""

    def __init__(self) -> None:
        super().__init__()
        self._of_gdal: list[str] = []
        self._warnings = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("rasterio"):
            self._show_gdal(" ".join(_GDAL_CODE.sub("", self.format(record)).split()))
        # A cluster warns that it closes when it is told to.
        elif record.levelno >= logging.ERROR or not record.name.startswith("distributed"):
            text = record.msg.render(flag) if isinstance(record.msg, Note) else self.format(record)
            self._show(text, once=record.levelno == logging.WARNING)

    def _show(self, text: str, *, once: bool) -> None:
        """A sentence; files are opened several times, and what is odd about them is to be said but once."""
        if not (once and text in self._warnings):
            say(text)
        self._warnings.add(text)

    def _show_gdal(self, text: str) -> None:
        """GDAL repeats what it warns of at every step, now with the file's name and now without: once is enough."""
        if any(text.endswith(known) or known.endswith(text) for known in self._of_gdal):
            return
        self._of_gdal.append(text)
        if len(self._of_gdal) <= _SHOWN or _SHOWN_NOW.get().verbose:
            say(f"GDAL: {text}")
        elif len(self._of_gdal) == _SHOWN + 1:
            say("GDAL: and more; all of it with --verbose")


def show_log() -> None:
    """Show what geohp reports, and what other libraries warn of."""
    logging.getLogger().addHandler(_Sentences())
    logging.getLogger("geohp").setLevel(logging.INFO)


def take_any_character() -> None:
    """Have standard output write in figures what its encoding lacks: names of classes, and arrows, are in any script.

    Files and pipes are in the system's encoding, on Windows one of 256 characters; of itself it would fail, with all
    the work done.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def ignore_undecodable_warnings() -> None:
    """Pass over warnings of GDAL's that quote bytes of a damaged file, which rasterio fails to take for text.

    It fails in a callback from C, where nobody can catch that: Python would print it as if geohp had crashed.
    """
    usual, usual_unraisable = sys.excepthook, sys.unraisablehook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        begins = "rasterio" if trace is None else trace.tb_frame.f_code.co_filename
        if not (isinstance(error, UnicodeDecodeError) and "rasterio" in begins):
            usual(kind, error, trace)

    def show_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, UnicodeDecodeError):
            usual_unraisable(unraisable)

    sys.excepthook, sys.unraisablehook = show, show_unraisable


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
        echo("".join(traceback.format_exception(error)).rstrip(), err=True)
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
