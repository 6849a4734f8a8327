"""How a command that ended is judged: a right result, one sentence and nothing written, or anything else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.reliability.isolation import Ended
from benchmarks.reliability.part import Outcome, Record
from geohp.cli import terminal
from geohp.errors import GeohpError
from geohp.files.unfinished import JOURNAL, work_folder

_LONGEST_MESSAGE = 3000  # characters; more is no sentence
_USAGE = re.compile(r"^Usage: |^╭─ Error", re.MULTILINE)  # the command line's own words, where arguments are no such


def judge(
    ended: Ended, outputs: Sequence[Path] = (), mistake: Callable[[], str] = lambda: "", *, refuse: bool = False
) -> Outcome:
    """A verdict on a command.

    Args:
        ended: how it ended.
        outputs: files and folders that are there where it succeeded, and nothing of which is where it refused.
        mistake: looks at the result of a success, and says what is wrong with it; nothing where it is right.
        refuse: it must not succeed.
    """
    problem = _broken(ended)
    if not problem and ended.code == 0:
        missing = [path.name for path in outputs if not path.exists()]
        problem = "it was accepted" if refuse else f"{missing[0]} is missing" if missing else mistake()
    elif not problem and ended.code == 2:
        problem = _no_sentence(ended.err) or left_behind(outputs)
    measures = {"seconds": round(ended.seconds, 3), "peak_mb": round(ended.peak_mb, 1)}
    if problem:
        return Outcome("failed", problem, measures)
    return Outcome("right" if ended.code == 0 else "refused", _last_line(ended.err)[:300], measures)


def left_behind(outputs: Sequence[Path]) -> str:
    """What there is of outputs, or of unfinished ones beside them, though there should be nothing."""
    for path in outputs:
        draft = work_folder(path)
        if path.exists():
            return f"left {path.name} behind"
        if draft.exists() and not (draft / JOURNAL).exists():  # finished blocks are kept, to go on with
            return f"left {draft.name} behind"
    return ""


def _broken(ended: Ended) -> str:
    """What no command may end in."""
    if ended.broke:
        return f"broke the limit of {ended.broke}: {ended.seconds:.0f} s, {ended.peak_mb:.0f} MiB"
    if ended.traceback:
        return f"code {ended.code}: {_last_line(ended.err)[:600]}"
    return "" if ended.code in (0, 2) else f"code {ended.code}: {_last_line(ended.err)[:300]}"


def _no_sentence(text: str) -> str:
    if _USAGE.search(text):
        return ""
    errors = [line for line in text.splitlines() if line.startswith("geohp: error: ")]
    if len(errors) != 1:
        return f"{len(errors)} error sentences: {text[:300]}"
    return f"a message of {len(errors[0])} characters" if len(errors[0]) > _LONGEST_MESSAGE else ""


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("geohp: error: ")]
    return (errors or lines or [""])[-1]


def refusing(function: Callable[[], object]) -> Callable[[], None]:
    """A function for a fork that treats a mistake as the command line does."""

    def run() -> None:
        try:
            function()
        except GeohpError as error:
            terminal.show_error(error)
            sys.exit(2)

    return run


def usual_figures(records: Sequence[Record]) -> str:
    """How long commands took and what memory they needed, for the table."""
    seconds, memory = (
        sorted(record.outcome.measures.get(name, 0.0) for record in records) for name in ("seconds", "peak_mb")
    )
    return f"{seconds[len(seconds) // 2]:.2f} s the median, at most {memory[-1]:.0f} MiB"
