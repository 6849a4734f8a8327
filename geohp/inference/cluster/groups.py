"""Blocks in groups of neighbours, each a task of a cluster."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from geohp.inference.engine.settings import EngineSettings
from geohp.inference.engine.windows import WindowGrid
from geohp.raster.block import Block

_GROUP_STRIDES = 16
"""Side of the largest group of blocks, in steps of the window grid: 13 % of its windows are scored elsewhere too."""

_PLENTY = 64
"""Blocks a worker beyond which any size of group keeps all workers busy until nearly the end."""


def group_blocks(
    blocks: Sequence[Block], layout: Sequence[Block], grid: WindowGrid, settings: EngineSettings, slots: int
) -> list[list[Block]]:
    """Blocks in square groups of neighbours, each a task.

    A window that reaches into blocks of several groups is scored once in each: larger groups score fewer windows, but
    smaller ones are shared out more evenly. Of all sizes that with which the last worker is done first is taken.

    Args:
        blocks: to do.
        layout: all blocks of the scene.
        grid: its windows.
        settings: what the layout was made with.
        slots: how many tasks run at once.
    """
    stride = settings.window_px - settings.overlap_px
    side = max(1, round(max(max(block.height, block.width) for block in layout) / stride))
    sizes = range(1, max(1, _GROUP_STRIDES // side) + 1)
    if len(blocks) > _PLENTY * slots:
        sizes = sizes[-1:]
    cuts = [_squares(blocks, layout, size) for size in sizes]
    return min(cuts, key=lambda cut: _duration(cut, grid, slots)) if len(cuts) > 1 else cuts[0]


def windows_of(group: Iterable[Block], grid: WindowGrid) -> int:
    """How many windows some blocks need together."""
    return len({origin for block in group for origin in grid.touching(block)})


def _squares(blocks: Sequence[Block], layout: Sequence[Block], size: int) -> list[list[Block]]:
    """Blocks by squares of ``size`` x ``size`` blocks of the layout, in raster order within and without."""
    rows, cols = (
        {start: number // size for number, start in enumerate(sorted({block[axis] for block in layout}))}
        for axis in (0, 1)
    )
    squares: dict[tuple[int, int], list[Block]] = {}
    for block in blocks:
        squares.setdefault((rows[block.row], cols[block.col]), []).append(block)
    return [squares[key] for key in sorted(squares)]


def _duration(cut: Sequence[Sequence[Block]], grid: WindowGrid, slots: int) -> int:
    """Windows that the busiest worker scores, where each takes the next group as soon as it is free."""
    busy = [0] * slots
    for group in cut:
        heapq.heapreplace(busy, busy[0] + windows_of(group, grid))
    return max(busy)
