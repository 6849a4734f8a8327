"""Processes that share a map: one dies, hangs, or runs another geohp; the main one is interrupted, or killed itself.

The map is that of one process, or there is a sentence; nobody is left behind, and the same command completes. What
happens happens when both processes have done blocks, and has to have happened.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import Command, commands, contents, difference, expected_contents, inputs
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part
from benchmarks.reliability.scenes import fields, write_raster

_MOST_S = 600.0
_SIDE_PX = 240
"""Of the scene: 25 blocks, each a task."""
_AT_ONCE = "one is of another version"
_FAULTS = (
    "nothing", "one is killed", "one hangs", "one becomes another version", "all are killed",
    "the main process is killed", "Ctrl-C", "SIGTERM", _AT_ONCE,
)  # fmt: skip
_ENDS = {
    "one becomes another version": 2, "the main process is killed": -9, "Ctrl-C": 130, "SIGTERM": 143, _AT_ONCE: 2,
}  # fmt: skip
"""Exit codes where it is not 0; where all are killed there may be new ones in time, or not."""


def case(number: int) -> Case:
    """Two workers, and what happens to them."""
    fault = _FAULTS[number % len(_FAULTS)]
    draw = random.Random(f"workers {number}")
    return Case(f"segment --workers 2: {fault}", lambda folder: _attack(fault, folder, draw.randrange(1, 5)))


def _attack(fault: str, folder: Path, after: int) -> Outcome:
    alone = _command()
    expected, happened = expected_contents(alone), folder.with_name("happened")
    ended = alone.but("--workers", "2").run(folder, Limits(_MOST_S, 8192), _at_work(fault, after, happened))
    measures = {"seconds": ended.seconds, "blocks": float(happened.read_text()) if happened.exists() else 0.0}
    right = (0, 2) if fault == "all are killed" else (_ENDS.get(fault, 0),)
    if ended.broke or ended.code not in right or (ended.traceback and ended.code >= 0) or ended.orphans:
        said = ended.err.strip()[-700:]
        return Outcome("failed", f"code {ended.code}{ended.broke}, orphans {ended.orphans}: {said}", measures)
    if not happened.exists():
        return Outcome("failed", "the attack itself: two workers did not share the map", measures)
    again = ended if ended.code == 0 else alone.run(folder, Limits(_MOST_S))
    if not alone.is_complete(again):
        return Outcome("failed", f"again: {again.err.strip()[-500:]}", measures)
    problem = difference(expected, contents(folder))
    said = ended.err.strip().splitlines()[-1][:300] if ended.code == 2 else ""
    return Outcome("failed" if problem else "refused" if ended.code == 2 else "right", problem or said, measures)


@cache
def _command() -> Command:
    """A map that has blocks enough for two."""
    write_raster(inputs() / "wide.tif", fields(3, _SIDE_PX)[0], tiled=True, blockxsize=32, blockysize=32)
    plain = next(command for command in commands() if command.name == "segment")
    words = (word.replace("scene.tif", "wide.tif") for word in plain.arguments)
    return Command("segment by workers", (*words, "--window", "32"))


def _at_work(fault: str, after: int, happened: Path) -> Callable[[], None]:
    """Have something happen when so many blocks are done since both workers have done some.

    Then a file has the number of all blocks that were done.
    """

    def install() -> None:
        import dask

        from geohp.inference.cluster import client as clients
        from geohp.inference.cluster import groups

        if fault == "one hangs":  # which is given up after five minutes; importing torch may take long, too
            dask.config.set({"distributed.scheduler.worker-ttl": "60s"})
        groups._GROUP_STRIDES = 1
        plain_result = clients._result
        at_work = set[str]()
        done = since = 0

        def result(future: Any, client: Any) -> Any:
            nonlocal done, since
            at_work.update(*client.who_has([future]).values())
            blocks = plain_result(future, client)
            done, since = done + len(blocks), since + (len(at_work) == 2)
            if since == after:
                happened.write_text(str(done))
                _happen(fault, client)
            return blocks

        clients._result = result  # type: ignore[assignment]
        if fault == _AT_ONCE:
            _pretend_on_one(clients, happened)

    return install


def _pretend_on_one(clients: Any, happened: Path) -> None:
    """Have a worker be of another version from the beginning."""
    plain = clients._common_threads

    def common_threads(client: Any) -> int:
        happened.write_text("0")
        _happen("one becomes another version", client)
        return int(plain(client))

    clients._common_threads = common_threads


def _pretend() -> None:
    from geohp.inference.cluster import workers

    workers.__version__ = "0.0.1"


def _happen(fault: str, client: Any) -> None:
    workers = client.run(os.getpid)
    match fault:
        case "one is killed":
            os.kill(next(iter(workers.values())), signal.SIGKILL)
        case "one hangs":
            os.kill(next(iter(workers.values())), signal.SIGSTOP)
        case "one becomes another version":
            client.run(_pretend, workers=[next(iter(workers))])
        case "all are killed":
            for worker in workers.values():
                os.kill(worker, signal.SIGKILL)
        case "the main process is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "Ctrl-C":
            os.killpg(0, signal.SIGINT)
        case "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)


_TITLE = "workers that die, hang or run another version, and a main process that ends"
PART = Part("workers", _TITLE, case, len(_FAULTS))
