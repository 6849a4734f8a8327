"""What tells a file from another of its name."""

from __future__ import annotations

from pathlib import Path


def file_state(path: Path) -> list[int] | None:
    """What tells a file from another of its name, also after both were moved: its size and the time of its change.

    Returns:
        ``None`` where there is no such file.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
