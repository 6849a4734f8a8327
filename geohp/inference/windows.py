"""The one grid of windows over a scene, and the weights that blend them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Weights fall no lower than this at a window's rim: every pixel, also one that a single window covers, keeps a
# strictly positive weight, so that dividing by the sum of weights is always safe.
_LOWEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class WindowGrid:
    """Overlapping square windows that cover a scene to its last row and column.

    Window origins are multiples of ``window - overlap`` counted from the scene's first pixel; the last window of a
    row or column is pushed back so that it ends with the scene. The grid depends on nothing else, so neither does a
    label map.

    Attributes:
        height, width: the scene, in pixels.
        window: side of a window, in pixels; may exceed the scene.
        overlap: pixels that neighbouring windows share, from 0 to ``window - 1``.
    """

    height: int
    width: int
    window: int
    overlap: int

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap {self.overlap} px must lie between 0 and the window ({self.window} px) less one")

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

    def touching(self, row: int, col: int, height: int, width: int) -> Iterator[tuple[int, int]]:
        """Origins (row, col) of the windows that cover part of a block, in raster order."""
        for r in self.rows:
            if r < row + height and r + self.window > row:
                for c in self.cols:
                    if c < col + width and c + self.window > col:
                        yield r, c


def blocks(height: int, width: int, side: int) -> Iterator[tuple[int, int, int, int]]:
    """Blocks (row, col, height, width) of at most ``side`` pixels a side, in raster order."""
    for row in range(0, height, side):
        for col in range(0, width, side):
            yield row, col, min(side, height - row), min(side, width - col)


def blend_weights(window: int, overlap: int) -> NDArray[np.float32]:
    """Weight of each pixel of a window (window, window): 1 inside, falling smoothly to its rim, never to 0.

    The ramps are sin^2 and as wide as the overlap (half the window at most), so that the weights of two regular
    neighbours sum to 1 where they meet.
    """
    ramp = min(overlap, window // 2)
    profile = np.ones(window)
    if ramp:
        rise = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / ramp) ** 2
        profile[:ramp] = rise
        profile[-ramp:] = rise[::-1]
    profile = np.maximum(profile, _LOWEST_WEIGHT)
    weights: NDArray[np.float32] = np.outer(profile, profile).astype(np.float32)
    return weights


def _starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    if length <= window:
        return (0,)
    return (*range(0, length - window, stride), length - window)
