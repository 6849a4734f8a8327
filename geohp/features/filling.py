"""Where features are kept, and how they get there: from an earlier run, from another one at work, or computed now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from geohp.features.disk import FeatureCache, default_folder
from geohp.features.stores import InMemory, Layout, Mapped, Store, Tensors

Mode = Literal["auto", "memory", "disk", "off"]

_WORTH_KEEPING_S = 60.0
"""Features that take longer than this to compute are kept on disk for the next run."""
_WORTH_WRITING_S = 5.0
"""And those longer than this, where memory does not hold them for the next epoch."""
_GPU_SHARE = 0.5
"""Of a GPU's free memory; the rest is for training."""
_PATIENCE_S = 600.0
"""Another run that computes the same features is waited for as long as it gets on."""
_POLL_S = 0.5

Rows = Callable[[list[list[int]]], Iterable[Tensors]]
"""Given batches of numbers of images, computes what is kept of each batch."""


class Filling:
    """Fills a store with the features of a set of images.

    Args:
        images: how many.
        key: everything features depend on; asked for only where they may be on disk.
        layout: of an image.
        device: where training computes.
        limit_bytes: how much memory (not a GPU's) they may take.
        announce: told of sizes, places and obstacles, a sentence each.
        progress: told of images done, and of all.
    """

    def __init__(
        self,
        *,
        images: int,
        key: Callable[[], Mapping[str, Any]],
        layout: Layout,
        device: torch.device,
        limit_bytes: float,
        announce: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self.images, self.layout, self.device = images, layout, device
        self.announce, self.progress = announce, progress
        self._key = key
        self._bytes = images * layout.image_bytes
        self._fits = self._bytes <= limit_bytes
        self._size = f"features of {images:,} images need {_gib(self._bytes)}"

    def fill(
        self,
        mode: Mode,
        folder: str | Path | None,
        *,
        seconds: Callable[[], float],
        rows: Rows,
        batch_size: int,
    ) -> Store | None:
        """Load or compute all features.

        Args:
            mode: see :meth:`geohp.features.sampler.FeatureSampler.cache`.
            folder: of all caches.
            seconds: measures how long one image takes; asked for only where it matters.
            rows: computes batches of images.
            batch_size: images computed at once.

        Returns:
            The filled store; ``None`` where there is no room for it.
        """
        held = self._held()
        cache = self._cache(mode, folder, held is not None, seconds)
        if cache is None and held is None:
            self.announce(f"{self._size}, more than there is room for: computed anew every epoch")
            return None
        chunk_images = batch_size if cache is None else cache.chunk_images
        work = _Work(self, cache, held or Mapped(self.layout, chunk_images), rows, batch_size)
        if cache is None:
            self.announce(f"{self._size}: kept in {work.store.place}")
            work.compute()
        elif not work.from_disk():
            if held is None:
                self.announce(f"{self._size}, more than there is room for in memory: computed anew every epoch")
                return None
            work.compute()
        return work.store

    def _held(self) -> InMemory | None:
        """Memory for everything, the GPU's first; ``None`` where it does not suffice."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self._bytes <= _GPU_SHARE * free:
                return InMemory(self.layout, self.images, self.device)
        return InMemory(self.layout, self.images, torch.device("cpu")) if self._fits else None

    def _cache(
        self, mode: Mode, folder: str | Path | None, held: bool, seconds: Callable[[], float]
    ) -> FeatureCache | None:
        """The place on disk, where one is wanted and there is room."""
        if mode == "memory":
            return None
        # What is computed in moments is not even looked for: to know the key, images may have to be read.
        if mode == "auto" and seconds() * self.images < (_WORTH_KEEPING_S if held else _WORTH_WRITING_S):
            return None
        root = default_folder() if folder is None else Path(folder).expanduser()
        cache = FeatureCache(root, self._key(), self.layout, self.images, self.announce)
        try:
            missing = cache.chunks - len(cache.present())
            if not missing:
                self.announce(f"{self._size}: computed before, taken from {cache.folder}")
            else:
                room, free = cache.room_for(missing)
                if not room:
                    self.announce(f"{self._size}, but only {_gib(free)} are free in {root}: not kept on disk")
                    return None
                self.announce(f"{self._size}: computed once and kept in {cache.folder}")
        except OSError as error:
            self.not_kept(root, error)
            return None
        return cache

    def not_kept(self, place: Path, error: OSError) -> None:
        """Tell of a disk that failed."""
        self.announce(f"{place}: features cannot be kept there ({error.strerror or error})")


class _Work:
    """What is under way: a store of which some chunks are filled."""

    def __init__(self, filling: Filling, cache: FeatureCache | None, store: Store, rows: Rows, batch_size: int) -> None:
        self.filling, self.cache, self.store = filling, cache, store
        self._rows, self._batch_size = rows, batch_size
        step = batch_size if cache is None else cache.chunk_images
        self._missing = [range(i, min(i + step, filling.images)) for i in range(0, filling.images, step)]
        self._step = step

    def from_disk(self) -> bool:
        """Take what is there, wait for what another run computes, compute the rest; false where that cannot be done."""
        cache = self.cache
        assert cache is not None
        left, since, said = self._load(cache), time.monotonic(), False
        try:
            while left:
                if cache.lock():
                    self._load(cache)  # what another run wrote between the last look and its end
                    return self.compute()
                if not said:
                    self.filling.announce("another run computes the same features: waiting for them")
                    said = True
                time.sleep(_POLL_S)
                left, before = self._load(cache), left
                if left < before:
                    since = time.monotonic()
                elif time.monotonic() - since > _PATIENCE_S:
                    self.filling.announce("the other run does not get on with them: not waited for any longer")
                    self.cache = None
                    return False
        except OSError as error:
            self._give_up(cache, error)
            return False
        finally:
            cache.unlock()
        return True

    def compute(self) -> bool:
        """Compute what is missing; false where the disk fails on which alone it could have been kept.

        Raises:
            DataError: when more than one image in a hundred cannot be read.
        """
        parts = [
            span[i : i + self._batch_size] for span in self._missing for i in range(0, len(span), self._batch_size)
        ]
        computed: Iterator[Tensors] = iter(self._rows([list(part) for part in parts]))
        while self._missing:
            span = self._missing[0]
            rows = self._joined(span, computed)
            if self.cache is not None:
                try:
                    rows = self.cache.write(span.start // self._step, rows)
                except OSError as error:
                    self._give_up(self.cache, error)
                    if isinstance(self.store, Mapped):
                        return False
            self.store.put(span.start, rows)
            self._missing.pop(0)
        return True

    def _joined(self, span: range, computed: Iterator[Tensors]) -> Tensors:
        """The rows of a chunk, batch after batch."""
        joined, done = self.filling.layout.empty(len(span)), 0
        while done < len(span):
            batch = next(computed)
            stop = done + len(next(iter(batch.values())))
            for name, rows in batch.items():
                joined[name][done:stop] = rows
            done = stop
            self._tell(done)
        return joined

    def _load(self, cache: FeatureCache) -> int:
        """Take what is on disk and sound; gives how many chunks are still missing."""
        present = cache.present()
        for span in list(self._missing):
            number = span.start // self._step
            rows = cache.read(number, present[number]) if number in present else None
            if rows is not None:
                self.store.put(span.start, rows)
                self._missing.remove(span)
                self._tell()
        return len(self._missing)

    def _give_up(self, cache: FeatureCache, error: OSError) -> None:
        """Leave the disk: what this run wrote there goes, too."""
        self.filling.not_kept(cache.folder, error)
        cache.remove()
        self.cache = None

    def _tell(self, underway: int = 0) -> None:
        images = self.filling.images
        self.filling.progress(images - sum(map(len, self._missing)) + underway, images)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"
