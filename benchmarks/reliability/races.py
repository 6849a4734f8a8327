"""Two processes at the same outputs, at the same moment or one a little later.

Each completes or is refused in a sentence, at least one completes, and what is there in the end is what one leaves.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability.commands import Command, commands, contents, difference, expected_contents, usual_seconds
from benchmarks.reliability.isolation import Ended, Limits
from benchmarks.reliability.part import Case, Outcome, Part, Record


def case(number: int) -> Case:
    """Twice the same command, half of the time told to replace what is there."""
    every = commands()
    command, draw = every[number % len(every)], random.Random(f"races {number}")
    replacing = number // len(every) % 2 == 1 and command.takes_overwrite
    name = f"two of {command.name}{' --overwrite' if replacing else ''}"
    return Case(name, lambda folder: _attack(command, folder, draw, replacing=replacing))


def _attack(command: Command, folder: Path, draw: random.Random, *, replacing: bool) -> Outcome:
    expected, runner = expected_contents(command), command.but("--overwrite") if replacing else command
    late = draw.choice((0.0, draw.uniform(0, 0.1), draw.uniform(0, usual_seconds(command))))
    said = folder.with_name("second.json")
    second = os.fork()
    if second == 0:
        time.sleep(late)
        said.write_text(json.dumps(_told(runner.run(folder, Limits(300), said=folder.with_name("second")))))
        os._exit(0)
    first = _told(runner.run(folder, Limits(300)))
    os.waitpid(second, 0)
    both = [first, json.loads(said.read_text())]
    said.unlink()
    refused = sum(code == 2 for code, _, _ in both)
    measures = {"refused": float(refused)}
    for code, fine, err in both:
        if not fine:
            return Outcome("failed", f"code {code}: {err[-700:]}", measures)
    problem = difference(expected, contents(folder))
    if refused == 2:
        again = command.run(folder, Limits(300))
        problem = f"both refused, and again: {again.err[-300:]}" if not command.is_complete(again) else problem
        problem = problem and difference(expected, contents(folder))
    return Outcome("failed" if problem else "right", problem and f"{problem}; {both}"[:900], measures)


def _told(ended: Ended) -> tuple[int, bool, str]:
    """Code, whether it completed or was refused in a sentence, and what it said."""
    return ended.code, (ended.code == 0 or ended.refused) and not ended.broke, ended.err.strip()


def _figures(records: Sequence[Record]) -> str:
    refused = sum(record.outcome.measures.get("refused", 0) > 0 for record in records)
    return f"in {refused} one was refused, in the others both completed"


PART = Part("races", "two processes at the same output, run, store or cache at once", case, 32, _figures)
