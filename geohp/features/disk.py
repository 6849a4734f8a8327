"""Features on disk: chunks written whole, under names that carry their checksums, in a folder named by a hash.

A chunk is a safetensors file ``00003-1f0c22ab.safetensors``: its number, and the CRC-32 of its bytes. It appears under
that name only when complete, so a killed run leaves nothing but whole chunks (and a draft that the next one removes),
and whoever opens it can tell whether it is still what was written. ``manifest.json`` says what a folder holds.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save

from geohp.features.stores import Layout, MappedFile, Tensors
from geohp.locking import FolderLock

FORMAT = 1
_CHUNK_BYTES = 1 << 27
_CHUNK_IMAGES = 256
_SPARE_BYTES = 1 << 28  # left free on the disk: others write there, too
_NAME = re.compile(r"(\d{5,})-([0-9a-f]{8})\.safetensors")


def default_folder() -> Path:
    """Where features are kept when nobody says where: ``geohp/features`` in the user's cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    if not named and sys.platform == "win32":
        named = os.environ.get("LOCALAPPDATA")
    if not named and sys.platform == "darwin":
        named = str(Path.home() / "Library" / "Caches")
    return (Path(named) if named else Path.home() / ".cache") / "geohp" / "features"


class FeatureCache:
    """The features of one set of images, seen by one backbone.

    Args:
        root: folder of all caches.
        key: everything features depend on, in JSON's types.
        layout: of an image.
        images: how many.
        announce: told in a sentence of what was found damaged.

    Attributes:
        folder: of this cache.
        chunk_images: images of every chunk but the last.
        chunks: how many there are when complete.
    """

    def __init__(
        self, root: Path, key: Mapping[str, Any], layout: Layout, images: int, announce: Callable[[str], None]
    ) -> None:
        self.layout, self.images, self._announce = layout, images, announce
        self.chunk_images = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // layout.image_bytes, images))
        self.chunks = -(-images // self.chunk_images)
        self._manifest = {
            "format": FORMAT,
            "key": dict(key),
            "image": layout.describe(),
            "images": images,
            "images of a chunk": self.chunk_images,
        }
        text = json.dumps(self._manifest, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._lock: FolderLock | None = None
        self._damaged: set[Path] = set()

    def span(self, number: int) -> range:
        """The images of a chunk."""
        first = number * self.chunk_images
        return range(first, min(first + self.chunk_images, self.images))

    def present(self) -> dict[int, Path]:
        """Files of complete chunks by number; whether they are sound, :meth:`read` tells."""
        found: dict[int, Path] = {}
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted(self.folder.iterdir()):
                match = _NAME.fullmatch(path.name)
                if match and path not in self._damaged:
                    found[int(match[1])] = path
        return found

    def room_for(self, chunks: int) -> tuple[bool, int]:
        """Whether so many chunks fit on the disk, and the bytes free there.

        Raises:
            OSError: the place cannot be looked at.
        """
        there = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        return free >= chunks * self.chunk_images * self.layout.image_bytes + _SPARE_BYTES, free

    def lock(self) -> bool:
        """Become the one who writes; false where another process is. The system forgets it with the process.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        if self._lock is not None:
            return True
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Where the file system knows no locks, two may write at once: drafts have names of their own.
            self._lock = FolderLock(self.folder)
        except BlockingIOError:
            return False
        for draft in self.folder.glob(".*.tmp"):
            draft.unlink(missing_ok=True)
        self._put("manifest.json", json.dumps(self._manifest, indent=1, default=str).encode())
        return True

    def unlock(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write(self, number: int, tensors: Tensors) -> Tensors:
        """Store a chunk; gives it back as it lies on disk, mapped into memory.

        Raises:
            OSError: the disk is full, or the like; nothing is left of the chunk.
        """
        data = save({name: rows.contiguous() for name, rows in tensors.items()})
        path = self._put(f"{number:05d}-{zlib.crc32(data):08x}.safetensors", data)
        for other in self.folder.glob(f"{number:05d}-*.safetensors"):
            if other != path:
                other.unlink(missing_ok=True)
        self._damaged.discard(path)
        return MappedFile(path)

    def read(self, number: int, path: Path) -> Tensors | None:
        """A chunk mapped into memory, its bytes compared with its checksum; ``None`` where it is damaged."""
        match = _NAME.fullmatch(path.name)
        assert match
        try:
            if _crc32(path) == int(match[2], 16):
                tensors = MappedFile(path)
                if {n: (t.dtype, tuple(t.shape[1:])) for n, t in tensors.items()} == dict(self.layout.entries) and all(
                    len(t) == len(self.span(number)) for t in tensors.values()
                ):
                    return tensors
        except FileNotFoundError:  # another run replaced it just now
            return None
        except (OSError, ValueError, SafetensorError):
            pass
        self._announce(f"{path}: damaged; the features of its {len(self.span(number))} images are computed anew")
        self._damaged.add(path)
        return None

    def remove(self) -> None:
        """Take everything away again, the folder included, if it is locked here. What is mapped stays readable."""
        if self._lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.unlock()

    def _put(self, name: str, data: bytes) -> Path:
        """Write a file beside its place, and move it there."""
        draft, path = self.folder / f".{name}.{os.getpid()}.tmp", self.folder / name
        try:
            # Not forced to the disk: what a power cut takes is found out by its checksum.
            draft.write_bytes(data)
            draft.replace(path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
        return path


def _crc32(path: Path) -> int:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return zlib.crc32(mapped)
