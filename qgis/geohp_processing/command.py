"""The geohp command as another program sees it: where it is, how it is started and ended, and what it writes.

Plain Python from 3.9 on, the oldest that QGIS 3.22 brings, without QGIS: what is here can be tested anywhere.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Union

MINIMUM_VERSION = (0, 1, 0)
"""The first geohp whose options are those of this plugin."""

SETTINGS = "Settings > Options > Processing > Providers > geohp"

_OF_QGIS = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA")
"""What QGIS says to its own Python, GDAL and PROJ, and what would break those of another environment."""

_WINDOWS = sys.platform == "win32"
_PLACES = ("", "bin", "Scripts")
_NAME = "geohp.exe" if _WINDOWS else "geohp"

_VERSION = re.compile(r"^geohp (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)
_PROGRESS = re.compile(r"^(?P<stage>.+?): (?P<percent>\d+) % \(\d+ of \d+\)")
_PREFIX, _ERROR = "geohp: ", "error: "
_TAIL_LINES = 15
_POLL_S = 0.2
_VERSION_WAIT_S = 120.0

Value = Union[str, int, float, bool, Path, None]


class CommandError(Exception):
    """The command cannot be used, or has failed; the message says what is wrong and what helps."""


@dataclass(frozen=True)
class Progress:
    """A stage of the work is so far.

    Attributes:
        stage: what is being done.
        percent: 0 to 100.
        text: the line as it was written.
    """

    stage: str
    percent: float
    text: str


@dataclass(frozen=True)
class Message:
    """A sentence beside the result.

    Attributes:
        text: without the name of the program.
        is_error: it says why the command ends.
    """

    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Finished:
    """A command that has ended.

    Attributes:
        code: its exit code; below 0 the signal that ended it.
        text: what it wrote on standard output, its result in words.
        error: why it failed; empty where it did not.
        cancelled: it was asked to end.
    """

    code: int
    text: str
    error: str
    cancelled: bool


def find_executable(setting: str) -> Path:
    """The geohp command to run.

    Args:
        setting: its path, or the folder of its environment (venv or conda); empty for the first on ``PATH``.

    Raises:
        CommandError: there is none.
    """
    if not setting.strip():
        name = shutil.which("geohp")
        if name is None:
            raise CommandError(
                "the command geohp is not on the PATH that QGIS sees; install geohp in a Python environment of its own "
                f"and choose the folder of that environment, or its geohp, in {SETTINGS}"
            )
        return Path(name)
    place = Path(setting.strip()).expanduser()
    if place.is_file():
        return place
    for candidate in (place / folder / _NAME for folder in _PLACES):
        if candidate.is_file():
            return candidate
    problem = "holds no command geohp" if place.is_dir() else "does not exist"
    raise CommandError(
        f"{place} {problem}; choose the folder of the Python environment that geohp is installed in, or its geohp, "
        f"in {SETTINGS}"
    )


def check_version(executable: Path) -> str:
    """The version of a geohp command, as it says itself.

    Raises:
        CommandError: it does not run, is something else, or is older than this plugin needs.
    """
    remedy = f"choose another one in {SETTINGS}"
    try:
        process = subprocess.run(
            [str(executable), "--version"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_VERSION_WAIT_S,
            env=environment(executable),
            stdin=subprocess.DEVNULL,
            **_hidden(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{executable} does not run ({error}); {remedy}") from error
    match = _VERSION.search(process.stdout)
    if process.returncode or match is None:
        said = _last_line(process.stderr) or _last_line(process.stdout) or f"exit code {process.returncode}"
        raise CommandError(f"{executable} is no working geohp ({said}); mend its environment, or {remedy}")
    version = tuple(int(part or 0) for part in match.groups())
    if version < MINIMUM_VERSION:
        needed = ".".join(map(str, MINIMUM_VERSION))
        raise CommandError(
            f"{executable} is geohp {'.'.join(map(str, version))}, and this plugin needs {needed} or newer; "
            f"update it in its environment, or {remedy}"
        )
    return ".".join(map(str, version))


def command_line(
    executable: Path, command: str, positional: Sequence[Value], options: Sequence[tuple[str, Value]]
) -> list[str]:
    """The arguments to start, one string each; no shell ever reads them.

    Args:
        executable: the geohp command.
        command: such as ``segment``.
        positional: values without a flag; ``None`` is left out.
        options: flag and value; ``None`` and ``False`` are left out, ``True`` is the flag alone. A flag may come twice.
    """
    line = [str(executable), command]
    for flag, value in options:
        if value is None or value is False:
            continue
        # In one word: what begins with a hyphen is a value all the same.
        line.append(flag if value is True else f"{flag}={value}")
    values = [str(value) for value in positional if value is not None]
    return [*line, "--", *values] if values else line


def environment(executable: Path, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that a geohp command is run with: those of QGIS, without what QGIS means for itself alone.

    The environment's own folders come first on ``PATH``: one of conda that is not activated has its libraries there.
    """
    folder = executable.absolute().parent
    root = folder.parent
    own = [folder, *([root, root / "Library" / "bin", root / "Scripts"] if _WINDOWS else [])]
    variables = {name: value for name, value in inherited.items() if name not in _OF_QGIS}
    variables["PATH"] = os.pathsep.join([*map(str, own), variables.get("PATH", "")])
    return {**variables, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def parse_line(line: str) -> Progress | Message:
    """What a line on geohp's standard error says."""
    text = line.rstrip()
    if not text.startswith(_PREFIX):
        return Message(text)
    text = text[len(_PREFIX) :]
    if text.startswith(_ERROR):
        return Message(text[len(_ERROR) :], is_error=True)
    match = _PROGRESS.match(text)
    return Progress(match["stage"], float(match["percent"]), text) if match else Message(text)


def run(
    line: Sequence[str],
    listener: Callable[[Progress | Message], None],
    is_cancelled: Callable[[], bool],
    *,
    grace_s: float = 60.0,
) -> Finished:
    """Run a command to its end, or until somebody cancels it.

    Args:
        line: its arguments, the executable first.
        listener: takes what it writes on standard error, as it comes, in the thread that called.
        is_cancelled: asked several times a second; where it says so, the command and all processes it has started are
            asked to end, which lets them keep what is done.
        grace_s: how long they may take for it before they are killed.

    Raises:
        CommandError: it cannot be started.
    """
    process = _start(line)
    lines: queue.Queue[str] = queue.Queue()
    written: list[str] = []
    readers = [_reader(process.stderr, lines.put), _reader(process.stdout, written.append)]
    log = _Log(listener)
    asked_at = None
    try:
        for text in _until_end(process, lines):
            if text is not None:
                log.add(text)
            if asked_at is None and is_cancelled():
                asked_at = time.monotonic()
                _ask_to_end(process)
            elif asked_at is not None and time.monotonic() - asked_at > grace_s:
                _kill(process)
    finally:
        if process.poll() is None or asked_at is not None:
            _kill(process)
        code = process.wait()
        for reader in readers:
            reader.join(_POLL_S)
    return Finished(code, "".join(written).strip(), log.failure(code), asked_at is not None)


class _Log:
    """What a command writes on standard error, handed on and kept for the sentence about its failure."""

    def __init__(self, listener: Callable[[Progress | Message], None]) -> None:
        self._listener = listener
        self._errors: list[str] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def add(self, line: str) -> None:
        """Take a line."""
        event = parse_line(line)
        if isinstance(event, Message) and event.is_error:
            self._errors.append(event.text)
        if line.strip():
            self._tail.append(line.rstrip())
        self._listener(event)

    def failure(self, code: int) -> str:
        """Why it failed, empty where it did not: its own sentence, or the last that it wrote."""
        if code == 0:
            return ""
        return " ".join(self._errors) or "\n".join(self._tail) or f"exit code {code}"


def _start(line: Sequence[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            list(line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment(Path(line[0])),
            **_own_group(),
        )
    except OSError as error:
        raise CommandError(f"{line[0]} does not run ({error}); choose another one in {SETTINGS}") from error


def _until_end(process: subprocess.Popen[str], lines: queue.Queue[str]) -> Iterator[str | None]:
    """The lines of a process as they come, and ``None`` whenever there was none for a moment."""
    while True:
        try:
            yield lines.get(timeout=_POLL_S)
        except queue.Empty:
            # Not at the end of its output, which a process that it has left behind may hold open.
            if process.poll() is not None:
                return
            yield None


def _reader(stream: IO[str] | None, take: Callable[[Any], None]) -> threading.Thread:
    def read() -> None:
        with stream or nullcontext(()) as texts:
            for text in texts:
                take(text)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _hidden() -> dict[str, Any]:
    """No console appears on Windows."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {}


def _own_group() -> dict[str, Any]:
    """A process and what it starts can be ended together, and apart from QGIS."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _ask_to_end(process: subprocess.Popen[str]) -> None:
    """Ask a process and all that it has started to end; geohp keeps what is done, and says how to go on.

    Windows has no such question for a program without a console: there they are ended at once, which geohp survives
    as it does a power failure.
    """
    if sys.platform == "win32":
        _kill(process)
    else:
        _signal_group(process, signal.SIGTERM)


def _kill(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, **_hidden())
    else:
        _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):  # all have ended; macOS says so by the latter
            os.killpg(process.pid, number)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
