"""What a user sees of a run: progress on a terminal, notes and errors on standard error, one sentence each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from geohp.inference.writing import Skipped

_SHOWN = 3


class Stages:
    """Shows named stages of work, one bar each, as they report."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show that so many steps of a stage are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, detail="")
        self._progress.update(self._tasks[stage], completed=done, total=total, detail=detail)

    def of(self, stage: str) -> Callable[[int, int], None]:
        """What one stage reports to."""
        return lambda done, total: self(stage, done, total)


def progress() -> Progress:
    """Bars on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:>20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def say(text: str) -> None:
    """Tell the user something beside the result."""
    typer.echo(f"geohp: {text}", err=True)


def say_skipped(scene: str, skipped: Sequence[Skipped]) -> None:
    """Tell which parts of a scene are missing in the map: how many, and the first of them."""
    if not skipped:
        return
    say(f"{len(skipped)} part(s) of {scene} could not be read and are nodata in the map:")
    for part in skipped[:_SHOWN]:
        # The scene's own sentence names the place, too, and a remedy.
        reason = part.reason.split(" px): ", 1)[-1].split("; ", 1)[0]
        say(f"  row {part.row}, column {part.col}, {part.height} x {part.width} px: {reason}")
    if len(skipped) > _SHOWN:
        say(f"  and {len(skipped) - _SHOWN} more")


def say_error(error: BaseException) -> None:
    """Tell what was wrong, and what is kept of the work."""
    say(f"error: {' '.join(str(error).split())}")
    _say_notes(error)


def say_interrupted(error: BaseException) -> None:
    """Tell that the run was stopped, and what is kept of the work."""
    kept = bool(getattr(error, "__notes__", ()))
    say("interrupted" if kept else "interrupted; nothing unfinished was left behind")
    _say_notes(error)


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _say_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", ()):
        say(note)
