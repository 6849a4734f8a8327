"""Disks that fill up at any write: a small disk of any size, or a limit to the size of files where none can be had.

A command on a disk that is too small says so in a sentence and leaves nothing half; what was there stays. With room
again the same command completes, to the bytes that it leaves undisturbed.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from benchmarks.reliability.commands import Command, commands, contents, difference, expected_contents, half_made, sizes
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part, Record

_PAGE = 4096
_MESSAGE = 8192
"""Bytes that a command may always write, to say what is wrong."""
_ROOMY = "640m"
_OLD = b"what was there before"
_CACHE = "cache/"
"""What names of stored features begin with."""


def case(number: int) -> Case:
    """A command on a disk, or with files, of a size that does not suffice, from none to what it needs."""
    every = commands()
    command, draw = every[number % len(every)], random.Random(f"full-disk {number}")
    by_disk = (number // len(every)) % 3 != 2 and can_mount()
    share = draw.random()
    attack = _on_small_disk if by_disk else _with_small_files
    name = f"{command.name} {'on a disk' if by_disk else 'with files'} of {100 * share:.0f} % of its outputs"
    return Case(name, lambda folder: attack(command, folder, share, draw))


def _on_small_disk(command: Command, folder: Path, share: float, draw: random.Random) -> Outcome:
    room = round(share * (1.5 * sum(sizes(command).values()) + 16 * _PAGE)) // _PAGE * _PAGE + _PAGE
    limits = Limits(120)
    with small_disk(folder / "disk", room) as disk:
        work = disk / "work"
        work.mkdir()
        if draw.random() < 0.3:  # temporary files lie there, too
            limits = Limits(120, environment={"TMPDIR": str(disk)})
        before = _put_old(command, work, draw)
        if before is not command:
            before = command.but("--overwrite")
        return _judged(before, work, folder / "said", limits, None, lambda: _remount(disk, _ROOMY))


def _with_small_files(command: Command, folder: Path, share: float, draw: random.Random) -> Outcome:
    limit = max(_MESSAGE, round(share * max(sizes(command).values())))

    def limiting() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing further then fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    work = folder / "work"
    work.mkdir()
    return _judged(_put_old(command, work, draw), work, folder / "said", Limits(120), limiting, lambda: None)


def _put_old(command: Command, work: Path, draw: random.Random) -> Command:
    """Perhaps put files at the outputs' places, to be replaced."""
    if not command.takes_overwrite or draw.random() < 0.5:
        return command
    for name in expected_contents(command):
        if not name.endswith(".gpkg"):
            try:
                (work / name).write_bytes(_OLD)
            except OSError:  # not even for these there is room
                (work / name).unlink(missing_ok=True)
    return command.but("--overwrite")


def _judged(
    command: Command,
    work: Path,
    said: Path,
    limits: Limits,
    limiting: Callable[[], None] | None,
    make_room: Callable[[], None],
) -> Outcome:
    expected = expected_contents(Command(command.name, tuple(w for w in command.arguments if w != "--overwrite")))
    there = contents(work)
    full = command.run(work, limits, limiting, said=said)
    measures = {"seconds": full.seconds, "stopped": float(full.code == 2)}
    if full.code and (not full.refused or len(full.err.strip()) > 4000):
        return Outcome("failed", f"code {full.code}{full.broke}: {full.err.strip()[-700:]}", measures)
    lost = [name for name in there if not (work / name).exists()]
    problem = half_made(command, work, expected, _OLD) or (f"{lost[0]} is lost" if lost else "")
    if full.code == 2 and problem:
        return Outcome("failed", f"{problem}, after: {_last(full.err)}", measures)
    make_room()
    again = command.run(work, Limits(120))
    if not command.is_complete(again):
        return Outcome("failed", f"with room: {_last(again.err)}; before: {_last(full.err)}", measures)
    if problem := difference(_without_cache(expected, contents(work)), contents(work)):
        return Outcome("failed", f"with room: {problem}; before: {_last(full.err)}", measures)
    return Outcome("refused" if full.code else "right", _last(full.err) if full.code else "", measures)


def _without_cache(expected: Mapping[str, object], actual: Mapping[str, object]) -> Mapping[str, object]:
    """What has to be there: of features for which there was no room all or nothing, as a training does without."""
    if any(name.startswith(_CACHE) for name in actual):
        return expected
    return {name: content for name, content in expected.items() if not name.startswith(_CACHE)}


def _last(text: str) -> str:
    """The sentence that says what was wrong."""
    lines = [line for line in text.splitlines() if "error:" in line] or text.splitlines()[-1:]
    return " ".join(lines)[:400]


@contextmanager
def small_disk(place: Path, room: int | str) -> Iterator[Path]:
    """A disk of its own, in memory, with so much room in bytes."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _remount(disk: Path, room: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={room}", str(disk)], check=True)


@cache
def can_mount() -> bool:
    """Whether this process may make disks."""
    import tempfile

    if not hasattr(os, "geteuid") or os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", _PAGE):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def _figures(records: Sequence[Record]) -> str:
    stopped = sum(record.outcome.measures.get("stopped", 0) > 0 for record in records)
    return f"{stopped} stopped by a full disk and completed with room"


_TITLE = "a disk, or files, of any size that does not suffice, for every command that writes"
PART = Part("full-disk", _TITLE, case, 96, _figures)
