"""Where features are kept, and how they get there: from an earlier run's files, or computed now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from geohp.errors import SceneError
from geohp.features.cache_folder import default_folder
from geohp.features.disk import FeatureCache, spans
from geohp.features.store import FeatureLayout, FeatureStore, MappedStore, MemoryStore, Tensors
from geohp.files.checks import expand_home
from geohp.progress import Progress

logger = logging.getLogger(__name__)

_WORTH_KEEPING_S = 60.0
"""Features that take longer than this to compute are kept on disk for the next run."""
_WORTH_WRITING_S = 5.0
"""And those longer than this, where memory does not hold them for the next epoch."""
_GPU_SHARE = 0.5
"""Of a GPU's free memory; the rest is for training."""


@dataclass(frozen=True)
class CacheOptions:
    """Where features may be kept.

    Attributes:
        mode: ``memory``, ``disk`` (held in memory, too, where they fit), ``auto`` (on disk only where computing them
            takes long) or ``off``.
        limit_bytes: how much memory (not a GPU's) they may take.
        folder: of all caches on disk; ``None`` for :func:`geohp.features.cache_folder.default_folder`.
        dtype: ``float32``, or ``float16``, which takes half the room.
        one_pass: images are gone through once, so that features are worth keeping on disk alone.
    """

    mode: Literal["auto", "memory", "disk", "off"] = "auto"
    limit_bytes: float = 4 * 2**30
    folder: str | Path | None = None
    dtype: str = "float32"
    one_pass: bool = False


@dataclass(frozen=True)
class FeatureJob:
    """Features that are to be computed, of all images of a set.

    Attributes:
        images: how many.
        batch_size: images computed at once.
        layout: of an image.
        device: where training computes.
        key: everything features depend on; asked for only where they may be on disk.
        seconds: measures how long one image takes; asked for only where it matters.
        rows: given batches of numbers of images, computes what is kept of each batch.
        check: raises ChangedError where some images, or all, are no longer what they were when they were surveyed.
    """

    images: int
    batch_size: int
    layout: FeatureLayout
    device: torch.device
    key: Callable[[], Mapping[str, object]]
    seconds: Callable[[], float]
    rows: Callable[[list[list[int]]], Iterable[Tensors]]
    check: Callable[[range], None] = lambda images: None

    @property
    def size_bytes(self) -> int:
        """Of all features."""
        return self.images * self.layout.image_bytes

    def describe(self) -> str:
        """How much there is."""
        return f"features of {self.images:,} images need {_gib(self.size_bytes)}"

    def chunks(
        self, missing: Sequence[range], progress: Progress, device: torch.device | str = "cpu"
    ) -> Iterator[Tensors]:
        """Compute parts of the images, one after another, to be on some device; all others count as done."""
        batches = [
            list(span[i : i + self.batch_size]) for span in missing for i in range(0, len(span), self.batch_size)
        ]
        computed = iter(self.rows(batches))
        done = self.images - sum(map(len, missing))
        progress("computing features", done, self.images)
        for span in missing:
            chunk, filled = self.layout.empty(len(span), device), 0
            while filled < len(span):
                batch = next(computed)
                stop = filled + len(next(iter(batch.values())))
                for name, rows in batch.items():
                    # To a GPU without waiting, where later batches are being computed.
                    chunk[name][filled:stop].copy_(rows, non_blocking=chunk[name].is_cuda)
                filled = stop
                progress("computing features", done + filled, self.images)
            done += len(span)
            yield chunk


def fill_store(job: FeatureJob, options: CacheOptions, progress: Progress) -> FeatureStore | None:
    """Load or compute all features.

    Returns:
        The filled store; ``None`` where there is no room for it.

    Raises:
        DataError: when more than one image in a hundred cannot be read.
        ChangedError: images have changed meanwhile; what is on the disk is of before.
    """
    memory = None if options.one_pass else _memory(job, options.limit_bytes)
    cache = _cache(job, options, again=memory is None and not options.one_pass)
    if cache is not None:
        store = memory or MappedStore(job.layout, cache.chunk_images)
        try:
            _fill_with_disk(job, store, cache, progress)
            return store
        except SceneError:  # an OSError, too, but not the disk's
            raise
        except OSError as error:
            _disk_failed(cache.folder, error)
            cache.remove()
    if options.one_pass:
        return None
    if memory is None:
        logger.warning("%s, more than there is room for in memory: computed anew every epoch", job.describe())
        return None
    logger.info("%s: kept in %s", job.describe(), memory.place)
    missing = spans(job.images, job.batch_size)
    for span, rows in zip(missing, job.chunks(missing, progress, memory.device), strict=True):
        memory.put(span.start, rows)
    job.check(range(job.images))
    return memory


def _fill_with_disk(job: FeatureJob, store: FeatureStore, cache: FeatureCache, progress: Progress) -> None:
    """Load what is on disk, compute and write the rest.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    missing = _load(store, cache, cache.chunks)
    if not missing:
        return
    with cache.locked():
        missing = _load(store, cache, missing)  # another run may have written some before it let go
        for chunk in missing:
            if cache.path(chunk).exists():
                logger.warning("%s: damaged; the features of its images are computed anew", cache.path(chunk))
        for chunk, rows in zip(missing, job.chunks(missing, progress), strict=True):
            job.check(chunk)  # not all images every time: their files may be tens of thousands
            store.put(chunk.start, cache.write(chunk, rows))
    job.check(range(job.images))


def _load(store: FeatureStore, cache: FeatureCache, chunks: Sequence[range]) -> list[range]:
    """Take chunks that are on disk and sound; gives the others."""
    missing = []
    for chunk in chunks:
        rows = cache.read(chunk)
        if rows is None:
            missing.append(chunk)
        else:
            store.put(chunk.start, rows)
    return missing


def _memory(job: FeatureJob, limit_bytes: float) -> MemoryStore | None:
    """Memory for everything, the GPU's first; ``None`` where it does not suffice."""
    if job.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(job.device)
        if job.size_bytes <= _GPU_SHARE * free:
            return MemoryStore(job.layout, job.images, job.device)
    return MemoryStore(job.layout, job.images, torch.device("cpu")) if job.size_bytes <= limit_bytes else None


def _cache(job: FeatureJob, options: CacheOptions, *, again: bool) -> FeatureCache | None:
    """The place on disk, where one is asked for and there is room; without it features are computed ``again``."""
    if options.mode == "memory":
        return None
    # What is computed in moments is not even looked for: to know the key, images may have to be read.
    worth = _WORTH_WRITING_S if again else _WORTH_KEEPING_S
    if options.mode == "auto" and job.seconds() * job.images < worth:
        return None
    root = default_folder() if options.folder is None else expand_home(options.folder)
    cache = FeatureCache(root, job.key(), job.layout, job.images)
    try:
        missing = len(cache.missing())
        room, free = cache.room_for(missing)
    except OSError as error:
        _disk_failed(root, error)
        return None
    if not missing:
        logger.info("%s: computed before, taken from %s", job.describe(), cache.folder)
    elif room:
        logger.info("%s: computed once and kept in %s", job.describe(), cache.folder)
    else:
        logger.warning("%s, but only %s are free in %s: not kept on disk", job.describe(), _gib(free), root)
        return None
    return cache


def _disk_failed(place: Path, error: OSError) -> None:
    logger.warning("%s: features cannot be kept there (%s)", place, error.strerror or error)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"
