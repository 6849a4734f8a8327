"""Finished blocks on their way to the disk, in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from geohp.inference.areas import TALLY, pixel_areas, tally
from geohp.inference.engine.pipeline import FinishedBlock
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.extent import Extent
from geohp.raster.grid import Grid
from geohp.vector.measures import PixelAreas

_BEHIND = 2  # blocks that may wait


@dataclass(frozen=True, order=True)
class Skipped:
    """A part of the scene left out because it could not be read."""

    row: int
    col: int
    height: int
    width: int
    reason: str


class Store(Protocol):
    """Where blocks go: a :class:`.ResumableRasterWriter`, or what a worker elsewhere has in its place."""

    @property
    def notes(self) -> list[Mapping[str, Any]]:
        """What was noted with finished blocks."""

    def put(
        self, row: int, col: int, layers: Mapping[Path, NDArray[Any] | None], note: Mapping[str, Any] | None = None
    ) -> None:
        """Store a finished block; see :meth:`.ResumableRasterWriter.put`."""


def write_behind(
    work: Store, paths: Mapping[str, Path], blocks: Iterator[FinishedBlock], source: Any, grid: Grid, extent: Extent
) -> None:
    """Put every block where it belongs, while the next is computed.

    Args:
        work: where to.
        paths: the output of each layer.
        blocks: finished blocks, with their confidence, which goes into the tally of classes in their notes.
        source: the scene they are of; what a forgiving one skipped is noted.
        grid: the scene's.
        extent: what of it the map shows.
    """
    waiting: deque[Future[None]] = deque()
    areas = pixel_areas(grid.crop(extent.frame))
    noted: set[Skipped] = set(skipped_in(work))
    with ThreadPoolExecutor(1, thread_name_prefix="writing") as writer:
        for finished in blocks:
            skipped = dict(source.skipped) if isinstance(source, NodataOnErrorScene) else {}
            fresh = {Skipped(*cell, reason) for cell, reason in skipped.items()} - noted
            noted |= fresh
            placed = replace(finished, block=extent.place(finished.block))
            waiting.append(writer.submit(_put, work, paths, placed, areas, sorted(fresh)))
            if len(waiting) > _BEHIND:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()


def _put(
    work: Store,
    paths: Mapping[str, Path],
    finished: FinishedBlock,
    areas: PixelAreas | None,
    skipped: Sequence[Skipped],
) -> None:
    """Count a block's classes, which takes about as long as to blend it, and store it."""
    block, layers = finished.block, finished.layers
    note: dict[str, Any] = {TALLY: tally(block, layers, areas)}
    if skipped:
        note["skipped"] = [asdict(part) for part in skipped]
    work.put(block.row, block.col, {path: layers[name] for name, path in paths.items()}, note)


def skipped_in(work: Store) -> list[Skipped]:
    """What the finished blocks' notes say was left out."""
    return sorted({Skipped(**part) for note in work.notes for part in note.get("skipped", ())})
