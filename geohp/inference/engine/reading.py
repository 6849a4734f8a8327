"""Windows of a scene, read a block ahead of the work in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohp.errors import SceneError
from geohp.inference.engine.windows import Origin
from geohp.raster.read.patches import Readable, complete_patch

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
) -> Iterator[tuple[Patch, ...]]:
    """The patches of each group of windows, the next group being read meanwhile.

    A group is read as one rectangle, so that what its windows share is decoded once.

    Raises:
        SceneError: when a window cannot be read.
    """
    waiting = None
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
        for group in groups:
            following = reader.submit(_read_group, scene, group, shape)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _read_group(scene: Readable, group: Sequence[Origin], shape: tuple[int, int]) -> tuple[Patch, ...]:
    if not group:
        return ()
    top, left = (min(origin[axis] for origin in group) for axis in (0, 1))
    bottom = min(scene.height, max(row for row, _ in group) + shape[0])
    right = min(scene.width, max(col for _, col in group) + shape[1])
    data, valid = scene.read(top, left, bottom - top, right - left)
    patches = []
    for row, col in group:
        part = np.s_[row - top : row - top + shape[0], col - left : col - left + shape[1]]
        whole, own = complete_patch(data[:, *part], valid[part], shape)
        # Validity is kept longer than the data: where nothing is missing, without memory, else apart from the group's.
        own = np.broadcast_to(np.True_, shape) if own.all() else own.copy()
        patches.append(Patch((row, col), whole, own) if own.any() else Patch((row, col), None, None))
    return tuple(patches)


class NodataOnErrorScene:
    """A scene whose unreadable parts count as no data, in cells of 256 x 256 px counted from its origin.

    A cell is tried once and as a whole, so what is given up does not depend on how the scene is cut into reads.

    Attributes:
        skipped: row, column, height and width of every cell given up, with the reason.
    """

    def __init__(self, scene: Readable) -> None:
        self._scene = scene
        self.height, self.width = scene.height, scene.width
        self.skipped: dict[tuple[int, int, int, int], str] = {}

    def thumbnail(self, max_px: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The scene's own."""
        return self._scene.thumbnail(max_px)

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Data and validity of a window, as the scene's own, with unreadable cells invalid."""
        # Whole cells are read: what is damaged in a cell is met by every window that touches it, or by none.
        top, left = row - row % _CELL, col - col % _CELL
        bottom = min(self.height, -(-(row + height) // _CELL) * _CELL)
        right = min(self.width, -(-(col + width) // _CELL) * _CELL)
        try:
            data, valid = self._scene.read(top, left, bottom - top, right - left)
        except SceneError:
            return self._in_cells(row, col, height, width)
        part = np.s_[row - top : row - top + height, col - left : col - left + width]
        return data[:, *part], valid[part]

    def _in_cells(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        data: NDArray[np.float32] | None = None
        valid = np.zeros((height, width), dtype=bool)
        for top in range(row - row % _CELL, row + height, _CELL):
            for left in range(col - col % _CELL, col + width, _CELL):
                cell = (top, left, min(_CELL, self.height - top), min(_CELL, self.width - left))
                found = self._cell(cell)
                if found is None:
                    continue
                rows = slice(max(top, row), min(top + cell[2], row + height))
                cols = slice(max(left, col), min(left + cell[3], col + width))
                here = np.s_[rows.start - row : rows.stop - row, cols.start - col : cols.stop - col]
                there = np.s_[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
                if data is None:
                    data = np.zeros((len(found[0]), height, width), dtype=np.float32)
                data[:, *here], valid[here] = found[0][:, *there], found[1][there]
        return (np.zeros((1, height, width), dtype=np.float32) if data is None else data), valid

    def _cell(self, cell: tuple[int, int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        if cell in self.skipped:
            return None
        try:
            return self._scene.read(*cell)
        except SceneError as error:
            self.skipped[cell] = error.problem
            return None
