"""Features on disk: chunks that appear whole, in a folder named by a hash of everything they depend on.

A chunk is a safetensors file, ``00003.safetensors``, moved to its place when complete: a killed run leaves nothing but
whole chunks, and a draft that the next one removes. ``manifest.json`` says what a folder holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from geohp.features.store import FeatureLayout, MappedFile, Tensors
from geohp.files.atomic import store
from geohp.files.locks import FolderInUseError, FolderLock
from geohp.files.unfinished import remove_drafts

logger = logging.getLogger(__name__)

FORMAT = 2
_CHECKSUM = "crc32"
_CHUNK_BYTES = 1 << 27
_CHUNK_IMAGES = 256
_SPARE_BYTES = 1 << 28  # left free on the disk: others write there, too


class FeatureCache:
    """The features of one set of images, seen by one backbone.

    Args:
        root: folder of all caches.
        key: everything features depend on, in JSON's types.
        layout: of an image.
        images: how many.

    Attributes:
        folder: of this cache.
        chunk_images: images of every chunk but the last.
        chunks: the images of each.
    """

    def __init__(self, root: Path, key: Mapping[str, object], layout: FeatureLayout, images: int) -> None:
        self.layout = layout
        self.chunk_images = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // layout.image_bytes, images))
        self.chunks = spans(images, self.chunk_images)
        self._manifest = {
            "format": FORMAT,
            "key": dict(key),
            "image": layout.describe(),
            "images": images,
            "images of a chunk": self.chunk_images,
        }
        text = json.dumps(self._manifest, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]

    def missing(self) -> list[range]:
        """Chunks that nobody has written yet."""
        return [chunk for chunk in self.chunks if not self.path(chunk).exists()]

    def room_for(self, chunks: int) -> tuple[bool, int]:
        """Whether so many chunks fit on the disk, and the bytes free there.

        Raises:
            OSError: the place cannot be looked at.
        """
        existing = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        free = shutil.disk_usage(existing).free
        return free >= chunks * self.chunk_images * self.layout.image_bytes + _SPARE_BYTES, free

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one who writes; while another process is, wait. The system forgets the lock with the process.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        try:
            lock = FolderLock(self.folder)
        except FolderInUseError:
            logger.info("another run computes the same features: waiting for them")
            lock = FolderLock(self.folder, wait=True)
        try:
            remove_drafts(self.folder)
            manifest = json.dumps(self._manifest, indent=1, default=str).encode()
            store(self.folder / "manifest.json", manifest)
            yield
        finally:
            lock.release()

    def read(self, chunk: range) -> Tensors | None:
        """A chunk mapped into memory; ``None`` where there is none, or its file is damaged."""
        with suppress(OSError, ValueError, SafetensorError):
            tensors = MappedFile(self.path(chunk))
            fits = FeatureLayout.of(tensors) == self.layout and all(len(t) == len(chunk) for t in tensors.values())
            # Chunks of before have no checksum.
            if fits and tensors.metadata.get(_CHECKSUM, checksum := _checksum(tensors)) == checksum:
                return tensors
        return None

    def write(self, chunk: range, tensors: Tensors) -> Tensors:
        """Store a chunk; gives it back as it lies on disk, mapped into memory.

        Raises:
            OSError: the disk is full, or the like; nothing is left of the chunk.
        """
        plain = {name: rows.contiguous() for name, rows in tensors.items()}
        content = save(plain, {_CHECKSUM: _checksum(plain)})
        # A power cut must not leave the name without what it stands for.
        return MappedFile(store(self.path(chunk), content))

    def remove(self) -> None:
        """Take everything away again, the folder included. What is mapped stays readable."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, chunk: range) -> Path:
        """The file of a chunk."""
        return self.folder / f"{chunk.start // self.chunk_images:05d}.safetensors"


def _checksum(tensors: Tensors) -> str:
    """CRC-32 of all values, the only sign of bytes that a disk gives back otherwise than they were written."""
    checksum = 0
    for _, rows in sorted(tensors.items()):
        checksum = zlib.crc32(rows.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def spans(images: int, length: int) -> list[range]:
    """The numbers of images in parts of a length, the last of what is left."""
    return [range(start, min(start + length, images)) for start in range(0, images, length)]
