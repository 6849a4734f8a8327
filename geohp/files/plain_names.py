"""Names for libraries that take the names of files for addresses, with queries, parameters and archives in them."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MISREAD = re.compile(r"[!?;\t\r\n]|^[\0- ]")
"""What pyogrio (as of 0.12) takes for an archive, a query or a parameter, or leaves out."""

_IN_ARCHIVE = re.compile(r"((?:/vsi(?:zip|tar|gzip|7z|rar)/)+\{?)(.+)")
"""What GDAL calls a file in an archive."""


def split_archive(name: str) -> tuple[str, Path, str] | None:
    """What GDAL calls a file in a local archive, such as ``/vsizip/a.zip/scene.tif``, cut before the archive and after.

    Returns:
        ``None`` of any other name.
    """
    match = _IN_ARCHIVE.fullmatch(name)
    if match is None:
        return None
    begin, rest = match.groups()
    for end in re.finditer(r"[/}]|$", rest):
        archive = Path(rest[: end.start()])
        if archive.is_file():
            return begin, archive, rest[end.start() :]
    return None


@contextmanager
def plain_name(path: str | Path) -> Iterator[str | Path]:
    """A name that pyogrio takes for this file, for as long as the ``with`` block lasts; mostly the file's own.

    Files in folders such as ``Maps!`` are found by symbolic links. Windows needs none: what begins with a drive is no
    address to pyogrio.

    Args:
        path: of a file that is there, or is to be written; addresses, and files in archives, come back as they are.
    """
    local = Path(path)
    in_archive = Path(str(path).partition("!")[0]).is_file() and not local.exists()
    if sys.platform == "win32" or not _MISREAD.search(str(path)) or not local.parent.is_dir() or in_archive:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="geohp-", ignore_cleanup_errors=True) as folder:
        link = Path(folder) / "folder"
        link.symlink_to(local.parent.absolute(), target_is_directory=True)
        if not _MISREAD.search(local.name):
            yield link / local.name
            return
        # What belongs to it, as to a shapefile, too; it itself also where it is not there yet.
        others = {file for file in local.parent.iterdir() if file.name.startswith(local.stem)}
        for file in {*others, local}:
            (Path(folder) / f"file{file.name.removeprefix(local.stem)}").symlink_to(file.absolute())
        yield Path(folder) / f"file{local.suffix}"
