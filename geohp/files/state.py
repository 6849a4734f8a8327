"""What tells a file from another of its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from geohp.files.plain_names import split_archive

_PIECES, _PIECE_BYTES = 16, 4096
_MOST_FILES = 64


def file_state(path: str | Path) -> list[int] | None:
    """What tells a file from another of its name, also after both were moved: its size and the time of its change.

    Args:
        path: the file; of one in an archive, by GDAL's name for it, the archive's state is told.

    Returns:
        ``None`` where there is no such file.
    """
    try:
        status = Path(path).stat()
    except OSError:
        parts = split_archive(str(path))
        return None if parts is None else file_state(parts[1])
    return [status.st_size, status.st_mtime_ns]


def content_digest(paths: Sequence[Path]) -> str:
    """Tells what files hold from what others do, wherever they lie: by their sizes and pieces from all over them.

    Args:
        paths: of so many that it would take long, some are looked at.
    """
    digest = hashlib.sha256()
    for path in paths[:: -(-len(paths) // _MOST_FILES) or 1]:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            digest.update(b"%d " % size)
            for number in range(_PIECES):
                file.seek(max(0, size - _PIECE_BYTES) * number // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()[:16]
