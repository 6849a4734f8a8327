"""Commands asked to end, by Ctrl-C, SIGTERM or a closed terminal, at random moments.

They end with the code of the signal and a word, no process outlives them, nothing visible is half; the same command
then completes to the same bytes.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.reliability.commands import (
    Command,
    commands,
    contents,
    difference,
    expected_contents,
    half_made,
    usual_seconds,
)
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part, Record

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def case(number: int) -> Case:
    """A command and a signal; see :data:`_SIGNALS`."""
    every = commands()
    command, kind = every[number % len(every)], _SIGNALS[number // len(every) % 3]
    draw = random.Random(f"signals {number}")
    name = f"{command.name} stopped by {kind.name}"
    return Case(name, lambda folder: _attack(command, kind, folder, draw))


def _attack(command: Command, kind: signal.Signals, folder: Path, draw: random.Random) -> Outcome:
    expected = expected_contents(command)
    moment = draw.uniform(0.02, usual_seconds(command))
    ended = command.run(folder, Limits(300), _asked_to_end(kind, moment))
    stopped = ended.code == 128 + kind
    measures = {"seconds": ended.seconds - moment, "stopped": float(stopped)}
    if not stopped and ended.code:
        return Outcome("failed", f"code {ended.code}{ended.broke}: {ended.err.strip()[-700:]}", measures)
    said = "interrupted" in ended.err or "kept" in ended.err
    # Python passes over what is raised where it only cleans up: whoever pressed Ctrl-C presses it again.
    measures["lost"] = float("Exception ignored" in ended.err)
    traceback = ended.traceback and not measures["lost"]
    if traceback or ended.orphans or (stopped and not said):
        return Outcome("failed", f"orphans: {ended.orphans}, said: {ended.err.strip()[-700:]}", measures)
    if problem := half_made(command, folder, expected):
        return Outcome("failed", problem, measures)
    again = command.run(folder, Limits(300))
    if not command.is_complete(again):
        return Outcome("failed", f"again: {' '.join(again.err.split())[-500:]}", measures)
    problem = difference(expected, contents(folder))
    return Outcome("failed" if problem else "right", problem, measures)


def _asked_to_end(kind: signal.Signals, moment: float) -> Callable[[], None]:
    """Have a process sent a signal, as from a terminal to all of its group, after so many seconds."""

    def send(*_: object) -> None:
        if kind == signal.SIGINT:
            os.killpg(0, kind)
        else:
            os.kill(os.getpid(), kind)

    def install() -> None:
        signal.signal(signal.SIGALRM, send)
        signal.setitimer(signal.ITIMER_REAL, moment)

    return install


def _figures(records: Sequence[Record]) -> str:
    stopped = [record.outcome.measures for record in records if record.outcome.measures.get("stopped")]
    slowest = max((measures["seconds"] for measures in stopped), default=0.0)
    return f"{len(stopped)} stopped, none later than {slowest:.0f} s after the signal"


PART = Part("signals", "Ctrl-C, SIGTERM and SIGHUP at random moments of every command", case, 48, _figures)
