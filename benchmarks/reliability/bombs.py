"""Files that run something, or grow beyond all bounds, in the hands of a careless reader."""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class _Calls:
    """Unpickled, calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def armed(marker: Path) -> dict[str, Any]:
    """Objects that would write a marker when they are unpickled, by name."""
    command = f"touch '{marker}'"
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": _Calls(os.system, command),
        "exec": _Calls(exec, code),
        "eval": _Calls(eval, f"__import__('os').system({command!r})"),
        "open": _Calls(open, str(marker), "w"),
        "getattr": _Calls(getattr, _Calls(__import__, "os"), "system"),
        "in a state dict": OrderedDict(weight=_Calls(os.system, command)),
        "as a key": {_Calls(os.system, command): 1},
        "map": [_Calls(map, os.system, [command])],
        "partial": _Calls(functools.partial, os.system, command),
        "mkdir": _Calls(Path.mkdir, marker),
    }


THINGS = tuple(armed(Path("marker")))
"""Names of the armed objects."""
FORMS = ("protocol 0", "protocol 2", "protocol 5", "archive")
"""What they are saved as."""


def armed_file(marker: Path, thing: str, form: str) -> bytes:
    """An armed object as a plain pickle, or as torch's archive."""
    if form == "archive":
        return archive({"archive/data.pkl": pickle.dumps(armed(marker)[thing], 2), "archive/version": b"3\n"})
    return pickle.dumps(armed(marker)[thing], int(form.removeprefix("protocol ")))


_SOUND = pickle.dumps(OrderedDict(), 2)

ARCHIVES: Mapping[str, Callable[[Path], bytes]] = {
    "paths that climb": lambda marker: archive({f"archive/../../{marker.name}": b"x", "archive/data.pkl": _SOUND}),
    "absolute paths": lambda marker: archive({str(marker): b"x", "archive/data.pkl": _SOUND}),
    "3 GB of zeros as the pickle": lambda marker: archive({"archive/data.pkl": bytes(64 << 20)}, times=48),
    "3 GB of zeros as data": lambda marker: archive(
        {"archive/data/0": bytes(64 << 20), "archive/data.pkl": _SOUND}, times=48
    ),
    "10,000 entries": lambda marker: archive({f"archive/{i}": b"" for i in range(10_000)}),
    "no entries": lambda marker: archive({}),
    "two pickles": lambda marker: archive(
        {"archive/data.pkl": _SOUND, "other/data.pkl": pickle.dumps(armed(marker)["system"], 2)}
    ),
    "a pickle that ends early": lambda marker: _of_pickle(_SOUND[:-1]),
    "a pickle of depth 100,000": lambda marker: _of_pickle(b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b"."),
    "a memo of 2^31": lambda marker: _of_pickle(b"\x80\x02]r\xff\xff\xff\x7f."),
    "a text of 2^31 bytes": lambda marker: _of_pickle(b"\x80\x02X\xff\xff\xff\x7fabc."),
    "a script": lambda marker: archive({"archive/code/x.py": b"raise SystemExit", "archive/constants.pkl": _SOUND}),
}
"""ZIP archives that torch might take for its own, by name; made for a marker."""


def _of_pickle(content: bytes) -> bytes:
    return archive({"archive/data.pkl": content, "archive/version": b"3\n"})


def archive(entries: Mapping[str, bytes], times: int = 1) -> bytes:
    """A ZIP archive; with ``times`` it is compressed and its first entry goes on so many times."""
    file = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if times > 1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", kind) as target:
        for number, (name, content) in enumerate(entries.items()):
            with target.open(name, "w", force_zip64=True) as entry:
                for _ in range(times if number == 0 else 1):
                    entry.write(content)
    return file.getvalue()
