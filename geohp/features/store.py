"""Features of many images by their number: in memory, on the GPU, or in files mapped into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

Tensors = dict[str, Tensor]
"""By name, all of one length: one row an image."""


@dataclass(frozen=True)
class FeatureLayout:
    """What is kept of every image.

    Attributes:
        entries: by name the type, and the shape for one image.
    """

    entries: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]

    @classmethod
    def of(cls, tensors: Tensors) -> FeatureLayout:
        """That of some images' tensors."""
        return cls({name: (t.dtype, tuple(t.shape[1:])) for name, t in tensors.items()})

    @property
    def image_bytes(self) -> int:
        """What one image takes."""
        return sum(dtype.itemsize * prod(shape) for dtype, shape in self.entries.values())

    def empty(self, images: int, device: torch.device | str = "cpu") -> Tensors:
        """Room for so many images."""
        return {
            name: torch.empty(images, *shape, dtype=dtype, device=device)
            for name, (dtype, shape) in self.entries.items()
        }

    def describe(self) -> dict[str, list[object]]:
        """In JSON's own types."""
        return {n: [str(dtype).removeprefix("torch."), *shape] for n, (dtype, shape) in self.entries.items()}


class FeatureStore(Protocol):
    """Where features are kept."""

    place: str
    """In words, for people."""

    def put(self, first: int, tensors: Tensors) -> None:
        """Keep those of the images from number ``first`` on."""

    def gather(self, indices: Tensor, names: Sequence[str]) -> Tensors:
        """Copies of those of some images (int64, on the CPU), in their order."""


class MemoryStore:
    """One tensor a name, on the CPU or on a GPU.

    Args:
        layout: of an image.
        images: how many.
        device: where they are kept.
    """

    def __init__(self, layout: FeatureLayout, images: int, device: torch.device) -> None:
        self.device = device
        self.place = "memory" if device.type == "cpu" else "the GPU's memory"
        self._tensors = layout.empty(images, device)

    def put(self, first: int, tensors: Tensors) -> None:
        """Copy rows."""
        for name, rows in tensors.items():
            self._tensors[name][first : first + len(rows)] = rows

    def gather(self, indices: Tensor, names: Sequence[str]) -> Tensors:
        """Copy rows, on their device."""
        return {
            n: self._tensors[n].index_select(0, indices.to(self._tensors[n].device, non_blocking=True)) for n in names
        }


class MappedFile(Tensors):
    """The tensors of a safetensors file, mapped into memory: nothing is read before it is used.

    To another process it travels as its path.

    Args:
        path: the file.

    Attributes:
        metadata: what its header says besides.

    Raises:
        OSError, SafetensorError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with safe_open(path, framework="pt") as file:
            self.metadata: dict[str, str] = file.metadata() or {}
            super().__init__({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # no mapping

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedFile, (self._path,)


class MappedStore:
    """Chunks of equally many images, mapped from files: the system keeps in memory what it has room for.

    Args:
        layout: of an image.
        chunk_images: images of every chunk but the last.
    """

    place = "files mapped into memory"

    def __init__(self, layout: FeatureLayout, chunk_images: int) -> None:
        self._layout, self._chunk_images = layout, chunk_images
        self._chunks: dict[int, Tensors] = {}

    def put(self, first: int, tensors: Tensors) -> None:
        """Take a chunk as it is, without copying."""
        self._chunks[first // self._chunk_images] = tensors

    def gather(self, indices: Tensor, names: Sequence[str]) -> Tensors:
        """Copy rows image by image: each is long, and wherever its chunk is."""
        places = [divmod(index, self._chunk_images) for index in indices.tolist()]
        gathered = FeatureLayout({n: self._layout.entries[n] for n in names}).empty(len(places))
        for name, rows in gathered.items():
            for row, (chunk, offset) in zip(rows, places, strict=True):
                row.copy_(self._chunks[chunk][name][offset])
        return gathered
