"""The rasters that a user means by files, folders, patterns and addresses."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from geohp.errors import SceneError

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jpg", ".jpeg", ".png", ".jp2", ".img"})
"""What is taken for imagery in a folder; files that are named outright may have any suffix."""


def find_scenes(given: Iterable[str | Path], *, leave_out: str | Path | None = None) -> list[str]:
    """What files, folders (searched recursively), glob patterns and GDAL's own names mean, each once.

    The order is that in which they are given; what a folder or a pattern means is sorted. Hidden files and folders
    are passed over.

    Args:
        given: paths, patterns such as ``tiles/*.tif`` (``**`` crosses folders), URLs, ``/vsi...`` names.
        leave_out: a folder whose files folders and patterns do not mean, such as that of the results.

    Raises:
        SceneError: a folder or pattern without any image.
    """
    out = None if leave_out is None else Path(leave_out).resolve()
    found: dict[str, str] = {}
    for one in map(str, given):
        path = Path(one).expanduser()
        remote = "://" in one or one.startswith("/vsi")
        if path.is_dir():
            some = _images(path, path.rglob("*"), out)
            if not some and path.suffix:  # some rasters are folders, such as .zarr
                found.setdefault(str(path.absolute()), str(path))
                continue
        elif not remote and not path.exists() and glob.has_magic(one):
            matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 - also absolute patterns
            some = _images(path, matches, out, any_suffix=bool(path.suffix))
        else:
            found.setdefault(one if remote else str(path.absolute()), one if remote else str(path))
            continue
        if not some:
            raise SceneError(f"{one}: no images there; give files, folders or patterns such as 'tiles/*.tif'")
        found |= {str(image.absolute()): str(image) for image in some if str(image.absolute()) not in found}
    return list(found.values())


def scene_name(scene: str) -> str:
    """A file name, without suffix, for what is made of a scene: its own, or one made of its address."""
    address = scene.split("?")[0] if "://" in scene else scene
    last = address.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    if re.search(r'[:"<>|*?]', last):  # subdatasets have names such as NETCDF:"a.nc":band
        return re.sub(r"[^\w+-]+", "_", last).strip("_") or "scene"
    return Path(last).stem or "scene"


def _images(root: Path, paths: Iterable[Path], out: Path | None, *, any_suffix: bool = False) -> list[Path]:
    def meant() -> Iterator[Path]:
        for path in paths:
            inside = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
            hidden = any(part.startswith(".") for part in inside)
            image = any_suffix or path.suffix.lower() in IMAGE_SUFFIXES
            if image and not hidden and path.is_file() and not (out and path.resolve().is_relative_to(out)):
                yield path

    return sorted(meant())
