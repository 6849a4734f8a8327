"""Files of users, which may be pipes or devices that never end."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any


def check_ends(path: str | Path) -> None:
    """Refuse to open what may be waited for without end.

    Raises:
        OSError: it is a pipe, a socket or a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "a pipe or a device, no file")


def failure_reason(error: BaseException) -> str:
    """Why a file cannot be used, as a library says, or the system without its number and the file's name: in a line."""
    lines = (getattr(error, "strerror", None) or str(error)).splitlines()
    return " ".join(line.strip() for line in lines if line.strip())


def json_value(content: str | bytes) -> Any:
    """What a JSON document says.

    Raises:
        ValueError: it is none, or brackets in it are nested deeper than anybody means.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("brackets without end") from error


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        OSError: it cannot be read, or is a pipe or a device.
        UnicodeDecodeError: it is no text in UTF-8.
    """
    check_ends(path)
    return path.read_text(encoding="utf-8")
