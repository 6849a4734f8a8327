"""What lies in a folder, and what a list says should: looked up once, before anything is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from geohp.errors import DataError


def listing(folder: Path) -> frozenset[str]:
    """Names of what lies in a folder, read in one go; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check the access rights") from error


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first of many names, for messages."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def read_list(path: Path) -> list[str]:
    """Ids of a list, one a line, in order.

    Raises:
        DataError: it is not there, empty, no text, or names something twice.
    """
    try:
        ids = path.read_text(encoding="utf-8").split()
    except FileNotFoundError as error:
        lists = sorted(name for name in listing(path.parent) if name.endswith(".txt"))
        there = f"lists there are {some(lists, 8)}" if lists else "there are no lists"
        raise DataError(f"{path}: there is no such list; {there}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of ids ({error}); fetch it again") from error
    if not ids:
        raise DataError(f"{path}: is empty; fetch it again")
    twice, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: names {twice} more than once; fetch it again")
    return ids
