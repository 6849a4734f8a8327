"""Every command without a network, and with homes and temporary folders that cannot be written or are not there."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from benchmarks.reliability.isolation import Ended, Limits, run_function
from benchmarks.reliability.part import Case, Outcome, Part, Record
from benchmarks.reliability.scenes import fields, write_raster
from benchmarks.reliability.soak import TRAINING

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of Linux: a network in which there is nothing."""
_UNWRITABLE = "/sys/geohp"
"""Where not even root can make a folder."""
_MARK = "ASKED FOR "
_LIMITS = Limits(seconds=1800)

_SET = [f"--set={setting}" for setting in ("data.images=scene.tif", *TRAINING)]
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "orthophotos-hp", *_SET, "--out", "other"),
    "train, features on disk": ("train", "orthophotos-hp", *_SET, "--set", "train.cache=disk", "--out", "other"),
    "segment": (
        "segment", "scene.tif", "--model", "run", "--out", "new.tif", "--confidence", "sure.tif",
        "--polygons", "new.gpkg", "--qml", "--stac",
    ),
    "segment, a folder": ("segment", "scene.tif", "later.tif", "--classes", "4", "--out-dir", "maps"),
    "segment, workers": ("segment", "scene.tif", "--model", "run", "--out", "new.tif", "--workers", "1"),
    "polygonize": ("polygonize", "labels.tif", "--out", "new.gpkg", "--simplify", "1", "--smooth", "1"),
    "view": ("view", "labels.tif", "--scene", "scene.tif", "--out", "page.html"),
    "legend": ("legend", "labels.tif", "--reference", "reference.tif", "--out", "legend.yaml"),
    "change": ("change", "scene.tif", "later.tif", "--model", "run", "--out", "change.tif"),
    "probe": ("probe", "scene.tif", "--reference", "reference.tif", "--out", "probed.safetensors", "--backbone", "rcf"),
    "evaluate": ("evaluate", "--model", "run", "--data", "labelled.yaml", "--report", "evaluation"),
    "info": ("info", "scene.tif"),
    "info, a model": ("info", "run/model.safetensors"),
    "doctor": ("doctor",),
    "cache": ("cache",),
    "quickstart": ("quickstart", "--out", "quick"),
}  # fmt: skip
"""What is run, in a folder with a scene, a later one, a reference, a run and its map."""


@dataclass(frozen=True)
class Surroundings:
    """What a command finds around it, besides no network.

    Attributes:
        name: a few words.
        variables: of the environment; ``None`` removes one.
        nobody: the user is in no list of users, as often in containers.
    """

    name: str
    variables: dict[str, str | None]
    nobody: bool = False


_NO_XDG: dict[str, str | None] = dict.fromkeys(("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR"))
SURROUNDINGS = (
    Surroundings("no network", {}),
    Surroundings("unwritable home", {**_NO_XDG, "HOME": _UNWRITABLE}),
    Surroundings("unwritable caches", {"XDG_CACHE_HOME": _UNWRITABLE, "XDG_CONFIG_HOME": _UNWRITABLE}),
    Surroundings("no home, no user's name", {**_NO_XDG, "HOME": None, "USER": None, "LOGNAME": None}, nobody=True),
    Surroundings("no temporary folder", {"TMPDIR": _UNWRITABLE, "TEMP": None, "TMP": None}),
)


def without_network() -> None:
    """Leave the network behind, for good; what Python still asks of it is written to standard error.

    Raises:
        OSError: only root may, or whoever may make namespaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network of its own")
    _raise_loopback()
    lookup, loopback = socket.getaddrinfo, ("localhost", "127.0.0.1", "::1", None, "", socket.gethostname())

    def asked(host: object, *rest: object, **options: object) -> object:
        if host not in loopback:
            print(f"{_MARK}{host}", file=sys.stderr, flush=True)
        return lookup(host, *rest, **options)  # type: ignore[arg-type]

    socket.getaddrinfo = asked  # type: ignore[assignment]


def _raise_loopback() -> None:
    """Processes of one machine may speak to one another."""
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP


def run_there(arguments: Sequence[str], folder: Path, around: Surroundings) -> Ended:
    """A command of geohp without a network, in such surroundings."""

    def command() -> None:
        without_network()
        for name, value in around.variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        tempfile.tempdir = None
        if around.nobody:
            pwd.getpwuid = _no_such_user  # type: ignore[assignment]
        os.chdir(folder)
        sys.argv = ["geohp", *arguments]
        from geohp.cli.app import main

        main()

    return run_function(command, folder, _LIMITS)


def _no_such_user(number: int) -> NoReturn:
    raise KeyError(f"getpwuid(): uid not found: {number}")


@cache
def _inputs() -> Path:
    """A folder with all that the commands need, made once."""
    folder = Path(tempfile.mkdtemp(prefix="offline-"))

    def make() -> None:
        import geohp

        os.chdir(folder)
        image, truth = fields(0)
        write_raster(Path("scene.tif"), image)
        write_raster(Path("later.tif"), fields(1)[0])
        write_raster(Path("reference.tif"), truth[None])
        geohp.train("orthophotos-hp", ["data.images=scene.tif", *TRAINING], out="run")
        geohp.segment_file("scene.tif", "labels.tif", "run")
        Path("labelled.yaml").write_text("data:\n  images: [scene.tif]\n  labels: reference.tif\n  patch_px: 64\n")

    ended = run_function(make, folder, _LIMITS)
    if ended.code:
        raise RuntimeError(ended.err)
    return folder


def _case(number: int) -> Case:
    around = SURROUNDINGS[number % len(SURROUNDINGS)]
    name = list(COMMANDS)[number // len(SURROUNDINGS)]

    def run(folder: Path) -> Outcome:
        shutil.copytree(_inputs(), folder, dirs_exist_ok=True)
        return judge(name, run_there(COMMANDS[name], folder, around))

    return Case(f"{name}: {around.name}", run)


def judge(command: str, ended: Ended) -> Outcome:
    """Right where it did all it always does, and asked nobody."""
    measures = {"seconds": ended.seconds, "peak_mb": ended.peak_mb}
    asked = {line.removeprefix(_MARK) for line in ended.err.splitlines() if line.startswith(_MARK)}
    if ended.traceback or ended.broke:
        return Outcome("failed", (ended.broke or ended.err.strip().splitlines()[-1])[:300], measures)
    if asked and command != "doctor":  # whose business it is to tell whether the hub answers
        return Outcome("failed", f"asked for {', '.join(sorted(asked))}", measures)
    if ended.code and command != "doctor":
        return Outcome("failed", ended.err.strip()[-300:], measures)
    return Outcome("right", measures=measures)


def _figures(records: Sequence[Record]) -> str:
    return f"{len(COMMANDS)} command lines in {len(SURROUNDINGS)} surroundings, in a network namespace without a route"


PART = Part(
    "offline", "No network, no home, no place for temporary files", _case, len(COMMANDS) * len(SURROUNDINGS), _figures
)
