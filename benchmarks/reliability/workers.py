"""Processes that share a map: one dies, hangs, or runs another geohp; the main one is interrupted, or killed itself.

The map is that of one process, or there is a sentence; nobody is left behind, and the same command completes.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import Command, commands, contents, difference, expected_contents
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part

_MOST_S = 600.0
_FAULTS = (
    "nothing", "one is killed", "one hangs", "one runs another version", "all are killed", "the main process is killed",
    "Ctrl-C", "SIGTERM",
)  # fmt: skip
_ENDS = {"one runs another version": 2, "the main process is killed": -9, "Ctrl-C": 130, "SIGTERM": 143}
"""Exit codes where it is not 0; where all are killed there may be new ones in time, or not."""


def case(number: int) -> Case:
    """Two workers, and what happens to them."""
    fault = _FAULTS[number % len(_FAULTS)]
    draw = random.Random(f"workers {number}")
    return Case(f"segment --workers 2: {fault}", lambda folder: _attack(fault, folder, draw.randrange(1, 5)))


def _attack(fault: str, folder: Path, after: int) -> Outcome:
    alone = next(command for command in commands() if command.name == "segment")
    expected = expected_contents(alone)
    shared = Command("segment by workers", (*alone.arguments, "--workers", "2"))
    ended = shared.run(folder, Limits(_MOST_S, 8192), _at_work(fault, after))
    measures = {"seconds": ended.seconds}
    right = (0, 2) if fault == "all are killed" else (_ENDS.get(fault, 0),)
    if ended.broke or ended.code not in right or (ended.traceback and ended.code >= 0) or ended.orphans:
        said = ended.err.strip()[-700:]
        return Outcome("failed", f"code {ended.code}{ended.broke}, orphans {ended.orphans}: {said}", measures)
    again = ended if ended.code == 0 else alone.run(folder, Limits(_MOST_S))
    if not alone.is_complete(again):
        return Outcome("failed", f"again: {again.err.strip()[-500:]}", measures)
    problem = difference(expected, contents(folder))
    said = ended.err.strip().splitlines()[-1][:300] if ended.code == 2 else ""
    return Outcome("failed" if problem else "refused" if ended.code == 2 else "right", problem or said, measures)


def _at_work(fault: str, after: int) -> Callable[[], None]:
    """Have something happen when so many blocks are done."""

    def install() -> None:
        import dask

        from geohp.inference.cluster import client as clients
        from geohp.inference.map_options import RasterOptions

        # Left alone, a worker that hangs is given up after five minutes.
        dask.config.set({"distributed.scheduler.worker-ttl": "5s"})
        plain_run, plain_add = clients.run_blocks, clients._Counter.add
        workers: list[Any] = []
        done = 0

        def run(*arguments: Any) -> None:
            options = next(argument for argument in arguments if isinstance(argument, RasterOptions))
            workers.extend(options.client.run(os.getpid).values())
            if fault == "one runs another version":
                address = next(iter(options.client.scheduler_info()["workers"]))
                options.client.run(_pretend, workers=[address])
            plain_run(*arguments)

        def add(self: Any, block: Any) -> None:
            nonlocal done
            done += 1
            plain_add(self, block)
            if done == after:
                _happen(fault, workers)

        clients.run_blocks, clients._Counter.add = run, add  # type: ignore[assignment, method-assign]

    return install


def _pretend() -> None:
    from geohp.inference.cluster import workers

    workers.__version__ = "0.0.1"


def _happen(fault: str, workers: list[int]) -> None:
    match fault:
        case "one is killed":
            os.kill(workers[0], signal.SIGKILL)
        case "one hangs":
            os.kill(workers[0], signal.SIGSTOP)
        case "all are killed":
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
        case "the main process is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "Ctrl-C":
            os.killpg(0, signal.SIGINT)
        case "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)


PART = Part("workers", "workers that die, hang or run another version, and a main process that ends", case, 8)
