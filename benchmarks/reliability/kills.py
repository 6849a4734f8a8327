"""``kill -9`` of a command and all its processes, at random moments and before each lasting change to the disk.

A case kills a command again and again and then lets it end: what it leaves has to be what it leaves undisturbed,
to the byte, and nothing besides. Half of them begin with files at the outputs' places, which must be the old ones or
the new ones after every kill.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import (
    Command,
    commands,
    contents,
    difference,
    expected_contents,
    half_made,
    usual_seconds,
)
from benchmarks.reliability.isolation import Ended, Limits
from benchmarks.reliability.part import Case, Outcome, Part, Record

_KILLS = 6
"""Of a case."""
_RUNS = 4 * _KILLS
"""Of a case, at most: where one ends before it is killed, it begins anew."""
_LASTING = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir")
"""Functions of ``os`` that change what a later process finds."""
_OLD = b"what was there before"


def case(number: int) -> Case:
    """A command killed: an even number at random moments, an odd one before lasting steps."""
    every = commands()
    command = every[number % len(every)]
    by_step = number // len(every) % 2 == 1
    draw = random.Random(f"kills {number}")
    over_old = draw.random() < 0.5 and command.takes_overwrite
    where = "before lasting steps" if by_step else "at random moments"
    name = f"{command.name} killed {where}{', over old outputs' if over_old else ''}"
    return Case(name, lambda folder: _attack(command, folder, draw, by_step=by_step, over_old=over_old))


def _attack(command: Command, folder: Path, draw: random.Random, *, by_step: bool, over_old: bool) -> Outcome:
    expected, killer = expected_contents(command), _before_a_step if by_step else _at_a_moment
    old = [name for name in expected if over_old and not name.endswith(".gpkg")]
    attacked = command.but("--overwrite") if over_old else command
    _begin(folder, old)
    kills, seconds = 0, 0.0
    for _ in range(_RUNS):
        ended = killer(command, attacked, folder, draw) if kills < _KILLS else attacked.run(folder, Limits(300))
        seconds += ended.seconds
        measures = {"kills": kills, "seconds": seconds}
        if ended.code == -signal.SIGKILL:
            kills += 1
            problem = half_made(attacked, folder, expected, _OLD)
        elif not attacked.is_complete(ended):
            problem = " ".join(ended.err.split())[-700:]
        else:
            problem = difference(expected, contents(folder))
        if problem:
            return Outcome("failed", f"after {kills} kill(s): {problem}", measures)
        if ended.code != -signal.SIGKILL:
            if kills == _KILLS:
                break
            _begin(folder, old)
    return Outcome("right", "", measures)


def _begin(folder: Path, old: Sequence[str]) -> None:
    """An empty folder, but for files at the outputs' places."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name in old:
        (folder / name).write_bytes(_OLD)


def _at_a_moment(command: Command, attacked: Command, folder: Path, draw: random.Random) -> Ended:
    ended = attacked.run(folder, Limits(seconds=draw.uniform(0, usual_seconds(command))))
    return ended if not ended.broke else replace(ended, code=-signal.SIGKILL)


def _before_a_step(command: Command, attacked: Command, folder: Path, draw: random.Random) -> Ended:
    return attacked.run(folder, Limits(300), _dying(draw.randrange(_steps(command))))


@cache
def _steps(command: Command) -> int:
    """How many lasting changes a command makes to the disk."""
    counter = mmap.mmap(-1, 8)
    with tempfile.TemporaryDirectory(prefix="steps-") as folder:
        (Path(folder) / "case").mkdir()
        command.run(Path(folder) / "case", Limits(300), _dying(-1, counter))
    return max(1, struct.unpack("q", counter[:8])[0])


def _dying(step: int, counter: Any = None) -> Callable[[], None]:
    """Have a process and its group killed as it is about to make its lasting change of this number."""

    def install() -> None:
        made = 0

        def counting(function: Callable[..., Any]) -> Callable[..., Any]:
            def changing(*arguments: Any, **options: Any) -> Any:
                nonlocal made
                if made == step:
                    os.killpg(0, signal.SIGKILL)
                made += 1
                if counter is not None:
                    counter[:8] = struct.pack("q", made)
                return function(*arguments, **options)

            return changing

        for name in _LASTING:
            setattr(os, name, counting(getattr(os, name)))

    return install


def _figures(records: Sequence[Record]) -> str:
    kills = sum(int(record.outcome.measures.get("kills", 0)) for record in records)
    return f"{kills:,} kills"


PART = Part(
    "kills", "kill -9 at random moments and before lasting steps, of every command that writes", case, 96, _figures
)
