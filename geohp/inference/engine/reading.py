"""Windows of a scene, read ahead of the work in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geohp.errors import SceneError
from geohp.inference.engine.windows import Origin
from geohp.raster.block import Block
from geohp.raster.read.patches import Readable, complete_patch

T = TypeVar("T")


class _End:
    """There are no more items."""


_END = _End()
_CELL = 256  # px a side: what is given up at once where a file cannot be read


@dataclass(frozen=True)
class Patch:
    """A window of the scene.

    Attributes:
        origin: its first row and column.
        data: (bands, rows, cols) float32 in [0, 1], complete; ``None`` where nothing is valid.
        valid: (rows, cols) bool, False beyond the scene; ``None`` where nothing is valid.
    """

    origin: Origin
    data: NDArray[np.float32] | None
    valid: NDArray[np.bool_] | None


def read_ahead(
    scene: Readable, groups: Iterable[Sequence[Origin]], shape: tuple[int, int]
) -> Generator[tuple[Patch, ...]]:
    """The patches of each group of windows, the next group being read meanwhile.

    A group is read as one rectangle, so that what its windows share is decoded once.
    """
    return ahead((_read_group(scene, group, shape) for group in groups), 1, "reading")


def ahead(items: Generator[T], count: int, name: str) -> Generator[T]:
    """What a generator gives, computed in a thread of its own, up to so many before they are asked for.

    An error comes where its item would. Closed early, the thread ends with what it is at, and the generator is closed.

    Args:
        items: used by that thread alone.
        count: at least 1.
        name: of the thread.
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix=name) as thread:
        waiting = deque(thread.submit(next, items, _END) for _ in range(count))
        try:
            while not isinstance(item := waiting.popleft().result(), _End):
                waiting.append(thread.submit(next, items, _END))
                yield item
                del item  # not to be held while the next one is waited for
        finally:
            thread.shutdown(cancel_futures=True)


def _read_group(scene: Readable, group: Sequence[Origin], shape: tuple[int, int]) -> tuple[Patch, ...]:
    if not group:
        return ()
    frames = [Block(*origin, *shape) for origin in group]
    hull = Block.around(frames).clip((scene.height, scene.width))
    data, valid = scene.read(*hull)
    patches = []
    for frame in frames:
        part = frame.relative_to(hull).slices
        whole, own = complete_patch(data[:, *part], valid[part], shape)
        # Validity is held longer than the data: where nothing is missing, without memory, else apart from the group's.
        own = np.broadcast_to(np.True_, shape) if own.all() else own.copy()
        patches.append(Patch(frame.origin, whole, own) if own.any() else Patch(frame.origin, None, None))
    return tuple(patches)


class NodataOnErrorScene:
    """A scene whose unreadable parts count as no data, in cells of 256 x 256 px counted from its origin.

    A cell is tried once and as a whole, so what is given up does not depend on how the scene is cut into reads.

    Attributes:
        skipped: every cell given up, with the reason.
    """

    def __init__(self, scene: Readable) -> None:
        self._scene = scene
        self.height, self.width = scene.height, scene.width
        self.skipped: dict[Block, str] = {}

    def thumbnail(self, max_px: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The scene's own."""
        return self._scene.thumbnail(max_px)

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Data and validity of a window, as the scene's own, with unreadable cells invalid."""
        block = Block(row, col, height, width)
        # Whole cells are read: what is damaged in a cell is met by every window that touches it, or by none.
        cells = list(self._cells(block))
        hull = Block.around(cells)
        try:
            data, valid = self._scene.read(*hull)
        except SceneError:
            return self._in_cells(block, cells)
        part = block.relative_to(hull).slices
        return data[:, *part], valid[part]

    def _cells(self, block: Block) -> Iterator[Block]:
        """The cells that a block touches."""
        for top in range(block.row - block.row % _CELL, block.bottom, _CELL):
            for left in range(block.col - block.col % _CELL, block.right, _CELL):
                yield Block(top, left, _CELL, _CELL).clip((self.height, self.width))

    def _in_cells(self, block: Block, cells: Sequence[Block]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        data: NDArray[np.float32] | None = None
        valid = np.zeros(block.shape, dtype=bool)
        for cell in cells:
            content, shared = self._read_cell(cell), block.intersect(cell)
            if content is None or shared is None:
                continue
            here, there = shared.relative_to(block).slices, shared.relative_to(cell).slices
            if data is None:
                data = np.zeros((len(content[0]), *block.shape), dtype=np.float32)
            data[:, *here], valid[here] = content[0][:, *there], content[1][there]
        return (np.zeros((1, *block.shape), dtype=np.float32) if data is None else data), valid

    def _read_cell(self, cell: Block) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        if cell in self.skipped:
            return None
        try:
            return self._scene.read(*cell)
        except SceneError as error:
            self.skipped[cell] = error.problem
            return None
