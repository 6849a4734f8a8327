"""Commands of geohp run apart, in forks of a process that has imported everything, within limits of time and memory."""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import geohp
from benchmarks.measuring import resident_bytes

_LAZY = (
    "geopandas",
    "pyarrow.parquet",
    "pyogrio",
    "rasterio.shutil",
    "rich.progress",
    "rich.table",
    "PIL.ImageDraw",
    "encodings.raw_unicode_escape",
    "encodings.unicode_escape",
)
_POLL_S = 0.005
_PATIENCE_S = 10
"""Seconds that processes may take to notice that the one which started them has ended."""


@dataclass(frozen=True)
class Limits:
    """What a command may take.

    Attributes:
        seconds: of wall-clock time; it has hung if it takes longer.
        memory_mb: resident, in MiB, above what the libraries take when imported.
        environment: variables set for it.
    """

    seconds: float = 60.0
    memory_mb: float = 2048.0
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative a signal's number.
        out: what it printed.
        err: what it said besides.
        seconds: it took.
        peak_mb: resident memory at its highest, in MiB, above what the libraries take when imported.
        broke: the limit it broke, ``time`` or ``memory``; empty for none. It was killed then.
        orphans: whether processes that it had started outlived it by seconds.
    """

    code: int
    out: str
    err: str
    seconds: float
    peak_mb: float
    broke: str = ""
    orphans: bool = False

    @property
    def traceback(self) -> bool:
        """Whether a user would have seen a traceback, or the process died of a signal."""
        return "Traceback (most recent call last)" in self.err or self.code < 0

    @property
    def refused(self) -> bool:
        """Whether it left by a mistake's code and a sentence for it."""
        return self.code == 2 and not self.traceback and bool(self.err.strip())


def run_command(arguments: Sequence[str | Path], folder: Path, limits: Limits | None = None) -> Ended:
    """``geohp ARGUMENTS`` in a folder, as from a shell.

    The caller imports first what commands need (:func:`import_everything`), or every fork does it anew.
    """
    limits = limits or Limits()

    def command() -> None:
        from geohp.cli.app import main

        os.chdir(folder)
        os.environ.update(limits.environment or {})
        sys.argv = ["geohp", *map(str, arguments)]
        main()

    return run_function(command, folder, limits)


def run_function(function: Callable[[], object], folder: Path, limits: Limits) -> Ended:
    """A function in a fork; what it prints is collected in files beside the folder."""
    out, err = (folder.with_name(f"{folder.name}.{name}") for name in ("out", "err"))
    for path in (out, err):
        path.touch()  # the fork may be killed before it comes to write
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        _become(out, err, function)
    base, peak, broke = resident_mb(child), 0.0, ""
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        peak = max(peak, resident_mb(child) - base)
        seconds = time.perf_counter() - start
        broke = broke or ("time" if seconds > limits.seconds else "memory" if peak > limits.memory_mb else "")
        if broke:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(min(0.05, max(_POLL_S, seconds / 20)))
    seconds, peak = time.perf_counter() - start, max(peak, usage.ru_maxrss / 1024 - base)
    orphans = not broke and _outlives(child)
    with suppress(ProcessLookupError):  # what it left behind
        os.killpg(child, signal.SIGKILL)
    texts = [path.read_text(errors="replace") for path in (out, err)]
    for path in (out, err):
        path.unlink()
    return Ended(os.waitstatus_to_exitcode(status), *texts, seconds, peak, broke, orphans)


def _outlives(group: int) -> bool:
    """Whether a process group has members some seconds after its leader's end."""
    for _ in range(_PATIENCE_S * 20):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def import_everything() -> None:
    """All of geohp, and what it and the libraries below it import lazily, so that forks need not."""
    for module in pkgutil.walk_packages(geohp.__path__, "geohp."):
        if module.name != "geohp.__main__":
            importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    import torch
    from typer.testing import CliRunner

    from geohp.cli.app import app

    torch.set_num_threads(1)
    CliRunner().invoke(app, ["info", "--help"])  # what typer imports as it parses


def resident_mb(process: int) -> float:
    """Resident memory of a process in MiB; 0 once it is gone. Linux only."""
    return resident_bytes(process) / 2**20


def _become(out: Path, err: Path, function: Callable[[], object]) -> None:
    """Turn this fork into a command: its own group, its own outputs, default signals; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        for path, descriptor in ((out, 1), (err, 2)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
            os.close(file)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        tempfile.tempdir = None  # TMPDIR counts anew
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")  # as Python's own
        function()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)
