"""The one grid of windows over a scene, the blocks it is computed in, and the weights that blend the windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block

# Weights fall no lower than this at a window's rim: every pixel, also one that a single window covers, keeps a
# strictly positive weight, so that dividing by the sum of weights is always safe.
_LOWEST_WEIGHT = 1e-3

Origin = tuple[int, int]
"""First row and column of a window."""


@dataclass(frozen=True)
class WindowGrid:
    """Overlapping windows that cover a scene to its last row and column.

    Window origins are multiples of ``window - overlap`` counted from the scene's first pixel; the last window of a
    row or column is pushed back so that it ends with the scene. The grid depends on nothing else, so neither does a
    label map.

    Attributes:
        height, width: the scene, in pixels.
        window: side of a window, in pixels.
        overlap: pixels that neighbouring windows share, from 0 to ``window - 1``.
        multiple: along a side of the scene shorter than a window, windows are only as long as that side, rounded up
            to a multiple of this; ``None`` keeps them square, reaching beyond the scene.
    """

    height: int
    width: int
    window: int
    overlap: int
    multiple: int | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap {self.overlap} px must lie between 0 and the window ({self.window} px) less one")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of every window."""
        return self._side(self.height), self._side(self.width)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weight of each pixel of a window where windows are blended, see :func:`blend_weights`."""
        return blend_weights(self.shape, self.overlap)

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """First row of each row of windows."""
        return _starts(self.height, self.window, self.window - self.overlap)

    @cached_property
    def cols(self) -> tuple[int, ...]:
        """First column of each column of windows."""
        return _starts(self.width, self.window, self.window - self.overlap)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def touching(self, block: Block) -> Iterator[Origin]:
        """Origins (row, col) of the windows that cover part of a block, in raster order."""
        tall, wide = self.shape
        cols = [col for col in self.cols if col < block.right and col + wide > block.col]
        for row in self.rows:
            if row < block.bottom and row + tall > block.row:
                for col in cols:
                    yield row, col

    def blocks(self, side: int) -> list[Block]:
        """Blocks of about ``side`` pixels a side that tile the scene, in raster order.

        They begin where windows begin, so that few windows reach into another block.
        """
        step = max(1, round(side / (self.window - self.overlap)))
        rows, cols = [*self.rows[::step], self.height], [*self.cols[::step], self.width]
        return [
            Block.between(top, left, bottom, right)
            for top, bottom in itertools.pairwise(rows)
            for left, right in itertools.pairwise(cols)
        ]

    def _side(self, length: int) -> int:
        if self.multiple is None or length >= self.window:
            return self.window
        return min(self.window, math.ceil(length / self.multiple) * self.multiple)


class Plan:
    """Regions of a scene computed one after the other, and the windows that touch them.

    Args:
        grid: the windows.
        regions: in the order they are computed; they may overlap and need not cover the scene.
        meant: whether any of a block matters; all of it does by default. Asked of what a window shows of a
            region.

    Attributes:
        grid, regions: as given.
        touching: for each region the windows that touch what matters of it, in raster order.
        fresh: for each region those of them that none before it needed.
    """

    def __init__(
        self, grid: WindowGrid, regions: Sequence[Block], meant: Callable[[Block], bool] | None = None
    ) -> None:
        self.grid, self.regions = grid, regions
        self.touching: list[list[Origin]] = []
        self.fresh: list[list[Origin]] = []
        self._uses: dict[Origin, list[int]] = {}
        for number, region in enumerate(regions):
            origins = [
                origin for origin in grid.touching(region) if meant is None or meant(self._shown(origin, region))
            ]
            self.touching.append(origins)
            self.fresh.append([origin for origin in origins if origin not in self._uses])
            for origin in origins:
                self._uses.setdefault(origin, []).append(number)

    def _shown(self, origin: Origin, region: Block) -> Block:
        """What a window that touches a region shows of it."""
        shown = Block(*origin, *self.grid.shape).intersect(region)
        assert shown is not None
        return shown

    @property
    def order(self) -> list[Origin]:
        """All windows that are needed, in the order of their first need."""
        return [origin for group in self.fresh for origin in group]

    def needed_from(self, origin: Origin, number: int) -> int | None:
        """The first row that any region after this one needs of a window; ``None`` where none needs it."""
        return min((self.regions[use].row for use in self._uses[origin] if use > number), default=None)


def blend_weights(shape: tuple[int, int], overlap: int) -> NDArray[np.float32]:
    """Weight of each pixel of a window of that shape: 1 inside, falling smoothly to its rim, never to 0.

    The ramps are sin^2 and as wide as the overlap (half the window at most), so that the weights of two regular
    neighbours sum to 1 where they meet.
    """
    weights: NDArray[np.float32] = np.outer(_profile(shape[0], overlap), _profile(shape[1], overlap)).astype(np.float32)
    return weights


def _profile(side: int, overlap: int) -> NDArray[np.float64]:
    ramp = min(overlap, side // 2)
    profile = np.ones(side)
    if ramp:
        rise = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / ramp) ** 2
        profile[:ramp] = rise
        profile[-ramp:] = rise[::-1]
    return np.maximum(profile, _LOWEST_WEIGHT)


def _starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    if length <= window:
        return (0,)
    return (*range(0, length - window, stride), length - window)
