"""Paths, patterns and addresses of images, and the files that folders and patterns mean."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Set
from pathlib import Path
from urllib.parse import unquote, urlparse

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jpg", ".jpeg", ".png", ".jp2", ".img"})
"""What is taken for imagery in a folder; files that are named outright may have any suffix."""


def is_remote(path: str) -> bool:
    """Whether a path is an address or one of GDAL's virtual files, which are passed on as they are."""
    return "://" in path or path.startswith("/vsi")


def list_files(place: Path, suffixes: Set[str], leave_out: Path | None = None) -> list[Path]:
    """The files of a folder, searched recursively, or of a pattern, sorted; hidden files and folders are passed over.

    Args:
        place: a folder, or a pattern such as ``tiles/*.tif`` (``**`` crosses folders).
        suffixes: of the files to list, in lower case; a pattern that names a suffix may mean any.
        leave_out: a folder whose files are not meant.
    """
    folder = place.is_dir()
    any_suffix = not folder and bool(place.suffix)
    matches = place.rglob("*") if folder else map(Path, glob.glob(str(place), recursive=True))  # noqa: PTH207 - absolute

    def meant() -> Iterator[Path]:
        for path in matches:
            inside = path.relative_to(place).parts if folder else (path.name,)
            if any(part.startswith(".") for part in inside) or not path.is_file():
                continue
            if not any_suffix and path.suffix.lower() not in suffixes:
                continue
            if leave_out is None or not path.resolve().is_relative_to(leave_out):
                yield path

    return sorted(meant())


def resolve_href(href: str, beside: Path) -> str:
    """A path as an index gives it: relative to the index, or else to the working folder."""
    if href.startswith("file://"):
        return unquote(urlparse(href).path)
    if is_remote(href) or Path(href).is_absolute():
        return href
    near = beside.parent / href
    if near.exists() or not Path(href).exists():
        return str(Path(*near.parts)) if ".." not in near.parts else str(near.resolve())
    return href


def scene_name(scene: str) -> str:
    """A file name, without suffix, for what is made of a scene: its own, or one made of its address."""
    address = scene.split("?")[0] if "://" in scene else scene
    last = address.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    if re.search(r'[:"<>|*?]', last):  # subdatasets have names such as NETCDF:"a.nc":band
        return re.sub(r"[^\w+-]+", "_", last).strip("_") or "scene"
    return Path(last).stem or "scene"
