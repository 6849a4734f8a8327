"""Places where nothing can be written, or only under odd names: each command there, with the rights of a mere user.

Either there is the right result, or one sentence and nothing written.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.commands import Command, commands, contents, difference, expected_contents
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part

_FORGOTTEN = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER of Linux
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True)
class Place:
    """Where outputs are to go.

    Attributes:
        name: for people.
        prepare: in an empty folder, makes the place; gives the output's path there, from its usual name.
        may_succeed: whether there is nothing wrong with it.
    """

    name: str
    prepare: Callable[[Path, str], str]
    may_succeed: bool = False


def _read_only(folder: Path, output: str) -> str:
    (folder / "closed").mkdir(mode=0o555)
    return f"closed/{output}"


def _read_only_file(folder: Path, output: str) -> str:
    (folder / output).write_text("mine")
    (folder / output).chmod(0o444)
    return output


def _missing(folder: Path, output: str) -> str:
    return f"nowhere/deeper/{output}"


def _under_a_file(folder: Path, output: str) -> str:
    (folder / "file").write_text("a file")
    return f"file/{output}"


def _a_folder_there(folder: Path, output: str) -> str:
    (folder / output / "mine").mkdir(parents=True)
    return output


def _long_name(length: int) -> Callable[[Path, str], str]:
    def prepare(folder: Path, output: str) -> str:
        suffix = Path(output).suffix
        return "n" * (length - len(suffix)) + suffix

    return prepare


def _loop(folder: Path, output: str) -> str:
    (folder / output).symlink_to(output)
    return output


def _loop_of_folders(folder: Path, output: str) -> str:
    (folder / "round").symlink_to("round")
    return f"round/{output}"


def _dangling(folder: Path, output: str) -> str:
    (folder / output).symlink_to("gone")
    return output


def _folder_of(name: str) -> Callable[[Path, str], str]:
    def prepare(folder: Path, output: str) -> str:
        place = folder / name
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        return f"{name}/{output}"

    return prepare


PLACES = (
    Place("a folder that may only be read", _read_only),
    Place("a file that may only be read", _read_only_file),
    Place("a missing folder", _missing, may_succeed=True),  # whose outputs are folders make it
    Place("a file in a folder's place", _under_a_file),
    Place("a folder in a file's place", _a_folder_there, may_succeed=True),  # maps of a folder go there, too
    Place("a name of 255 bytes", _long_name(255), may_succeed=True),
    Place("a name of 256 bytes", _long_name(256)),
    Place("a name of 240 bytes", _long_name(240), may_succeed=True),
    Place("a symbolic link to itself", _loop),
    Place("a folder that is a symbolic link to itself", _loop_of_folders),
    Place("a dangling symbolic link", _dangling, may_succeed=True),
    Place("a name that is no UTF-8", _folder_of(os.fsdecode(b"\xff\xfe caf\xe9")), may_succeed=True),
    Place("a name of quotes, and signs of shells and HTML", _folder_of(" '\"$(x);&<b>%20\n#*?[a]"), may_succeed=True),
)


def case(number: int) -> Case:
    """A command whose output goes to a place."""
    every = commands()
    command, place = every[number % len(every)], PLACES[number // len(every)]
    return Case(f"{command.name}: {place.name}", lambda folder: _attack(command, place, folder))


def _attack(command: Command, place: Place, folder: Path) -> Outcome:
    expected = expected_contents(command)
    home = folder.with_name("home")
    home.mkdir(mode=0o555)
    output = place.prepare(folder, command.output)
    before = contents(folder)
    limits = Limits(120, environment={"HOME": str(home), "XDG_CACHE_HOME": str(home)})
    ended = command.but(output=output).run(folder, limits, before=_lose_rights)
    after = contents(folder)
    measures = {"seconds": ended.seconds}
    if ended.code == 0 and place.may_succeed:
        made = after | contents((folder / output).parent)  # the first output goes to the place, others beside it
        lacking = _lacking(expected, made, command.output, Path(output).name)
        return Outcome("failed" if lacking else "right", lacking, measures)
    if not ended.refused:
        return Outcome("failed", f"code {ended.code}{ended.broke}: {ended.err.strip()[-600:]}", measures)
    if problem := difference(before, after):
        return Outcome("failed", f"{problem}, after: {ended.err.strip()[-300:]}", measures)
    return Outcome("refused", ended.err.strip().splitlines()[-1][:400], measures)


def _lacking(expected: object, made: dict[str, object], usual: str, name: str) -> str:
    """What is not there of what has to be, its first output under another name."""
    assert isinstance(expected, dict)
    stem, other = Path(usual).stem, Path(name).stem
    missing = [text for text in expected if text.replace(stem, other, 1) not in made]
    return f"missing: {', '.join(missing)}; there: {', '.join(made)}" if missing else ""


def _lose_rights() -> None:
    """Have access rights hold for root, too, and for what it starts; it still reads Python wherever that is its own."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    done = libc.capget(header, sets)
    for number in _FORGOTTEN:
        done |= libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        for place in range(3):  # effective, permitted, inheritable
            sets[place] &= ~(1 << number)
    if done | libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "root's rights cannot be given up")


_TITLE = "outputs where they cannot be, or under odd names, with the rights of a mere user"
PART = Part("places", _TITLE, case, len(PLACES) * len(commands()))
