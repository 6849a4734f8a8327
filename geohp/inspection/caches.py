"""What is kept on disk to be computed or fetched only once, and clearing what is geohp's own of it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geohp.errors import OutputError
from geohp.features.cache_folder import default_folder
from geohp.files.checks import expand_home
from geohp.files.locks import LOCK, FolderInUseError, FolderLock

_FEATURES = re.compile("[0-9a-f]{32}")
"""Name of a folder of features: a hash of all that they depend on."""


@dataclass(frozen=True)
class CacheInfo:
    """A place on disk.

    Attributes:
        name: what is kept there.
        folder: where; it need not exist.
        files, size_bytes: how many there are, and how much they hold.
        clearable: whether all of it is geohp's, which computes it again where it is missing.
    """

    name: str
    folder: Path
    files: int
    size_bytes: int
    clearable: bool


@dataclass(frozen=True)
class Cleared:
    """What has been removed.

    Attributes:
        folder: of the cache.
        removed: folders of features that are gone.
        freed_bytes: that they held.
        in_use: those that stayed, since a training writes to them.
    """

    folder: Path
    removed: int
    freed_bytes: int
    in_use: tuple[Path, ...]


def caches() -> tuple[CacheInfo, ...]:
    """All places, features first: those of other programs, too, where weights are fetched to."""
    return (
        _measured("features", default_folder(), clearable=True),
        _measured("weights fetched by torch", torch_hub_folder() / "checkpoints"),
        _measured("weights of the Hugging Face hub", hugging_face_folder()),
    )


def clear_features() -> Cleared:
    """Remove all features that trainings have kept in the usual place; what a training is writing stays.

    Nothing else in that folder is touched.

    Raises:
        OutputError: a folder cannot be removed.
    """
    root = default_folder()
    removed, freed, in_use = 0, 0, []
    for folder in _feature_folders(root):
        size = sum(length for _, length in _files(folder))
        try:
            lock = FolderLock(folder)
        except FolderInUseError:
            in_use.append(folder)
            continue
        try:
            _empty(folder)
        except OSError as error:
            raise OutputError(f"{folder} cannot be removed ({error.strerror})", "remove it by hand") from error
        finally:
            lock.release(remove=True)
        removed, freed = removed + 1, freed + size
    return Cleared(root, removed, freed, tuple(in_use))


def torch_hub_folder() -> Path:
    """Where torch keeps what it fetches, as ``torch.hub.get_dir`` tells it unless a program has set another."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return expand_home(Path(os.environ.get("TORCH_HOME") or usual) / "hub")


def hugging_face_folder() -> Path:
    """Where the Hugging Face hub's client keeps what it fetches."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _feature_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(
        folder
        for folder in root.iterdir()
        if _FEATURES.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
    )


def _empty(folder: Path) -> None:
    """Remove all but the lock, which whoever has it takes away last."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def _measured(name: str, folder: Path, *, clearable: bool = False) -> CacheInfo:
    sizes = [size for _, size in _files(folder)]
    return CacheInfo(name, folder, len(sizes), sum(sizes), clearable)


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Files below a folder with their sizes in bytes; links, of which the hub's cache is full, do not count."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            try:
                if not path.is_symlink():
                    yield path, path.stat().st_size
            except OSError:  # gone meanwhile
                continue
