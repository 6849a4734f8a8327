"""Parts of an image that patches may be cut from: blocks of ground, areas of interest."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geohp.data.orthophotos.footprints import Footprint, PixelToPlane
from geohp.errors import DataError
from geohp.raster.area_of_interest import AreaOfInterest, PixelArea
from geohp.raster.block import Block

Bool = NDArray[np.bool_]

_MANY_BLOCKS = 4_000_000


class Region(Protocol):
    """A part of an image."""

    def contains(self, rows: NDArray[np.int64], cols: NDArray[np.int64], side: int) -> Bool:
        """Which of (n,) square patches lie wholly within it."""

    def pixels(self, block: Block) -> Bool:
        """Which pixels (rows, cols) of a block have their centre in it."""


class Blocks:
    """The blocks of one side of a split.

    Args:
        to_plane: the image in the plane of the blocks.
        side: of a block, in units of the plane.
        test: (column, row) of the blocks to test on.
        role: "test" is these blocks, "train" all others.
        gap: how far patches stay away from the other side, in units of the plane.
        shape: rows and columns of the image.

    Raises:
        DataError: blocks far too small for the image.
    """

    def __init__(
        self,
        to_plane: PixelToPlane,
        side: float,
        test: Set[tuple[int, int]],
        role: Literal["train", "test"],
        gap: float,
        shape: tuple[int, int],
    ) -> None:
        self.to_plane, self.side, self.gap = to_plane, side, gap
        self._first, self._own = self._nearby(test, role, shape)
        table = np.zeros(np.add(self._own.shape, 1), np.int64)
        table[1:, 1:] = (~self._own).cumsum(0).cumsum(1)
        self._others = table

    def _nearby(self, test: Set[tuple[int, int]], role: str, shape: tuple[int, int]) -> tuple[NDArray[np.int64], Bool]:
        """The blocks an image and what is as near as the gap lie in: the first one (2,), and which are of the side."""
        bounds = self.to_plane.boxes([0], [0], max(shape))[0]
        first = np.floor((bounds[:2] - self.gap) / self.side).astype(int)
        last = np.floor((bounds[2:] + self.gap) / self.side).astype(int)
        count = last - first + 1
        if count.prod() > _MANY_BLOCKS:
            raise DataError(f"data.block_m: makes {count.prod()} blocks of one image", "give larger ones")
        own = np.full(count, role == "train")
        blocks = np.array(sorted(test), np.int64).reshape(-1, 2) - first
        inside = ((blocks >= 0) & (blocks < count)).all(axis=1)
        own[tuple(blocks[inside].T)] = role == "test"
        return first, own

    def contains(self, rows: NDArray[np.int64], cols: NDArray[np.int64], side: int) -> Bool:
        """Which of (n,) square patches touch blocks of this side alone."""
        bounds = self.to_plane.boxes(rows, cols, side)
        # An edge on the border of two blocks is not in the farther one, whatever rounding makes of it.
        touch = 1e-9 * np.abs(bounds).max(initial=1.0) + 1e-6 * self.side
        others, _ = self._touched(bounds[:, :2] - self.gap + touch, bounds[:, 2:] + self.gap - touch)
        return np.asarray(others == 0, bool)

    def _touched(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[Any, Any]:
        """How many blocks of the other side (n,) boxes touch, and how many blocks at all."""
        (i0, j0), (i1, j1) = (self._index(edge, low.shape).T for edge in (low, high))
        table = self._others
        others = table[i1 + 1, j1 + 1] - table[i0, j1 + 1] - table[i1 + 1, j0] + table[i0, j0]
        return others, (i1 - i0 + 1) * (j1 - j0 + 1)

    def pixels(self, block: Block) -> Bool:
        """Which pixels (rows, cols) of a block have their centre in blocks of this side."""
        # Most blocks of pixels lie on one side, which is told without placing each pixel.
        bounds = self.to_plane.boxes([block.row], [block.col], max(block.shape))
        others, touched = self._touched(bounds[:, :2], bounds[:, 2:])
        if others[0] in (0, touched[0]):
            return np.full(block.shape, others[0] == 0)
        rows, cols = np.mgrid[block.row : block.bottom, block.col : block.right] + 0.5
        index = self._index(np.stack(self.to_plane.points(cols, rows), -1), (*rows.shape, 2))
        inside: Bool = self._own[index[..., 0], index[..., 1]]
        return inside

    def _index(self, places: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.int64]:
        index = np.floor(places / self.side).astype(np.int64) - self._first
        inside: NDArray[np.int64] = np.clip(index, 0, np.array(self._own.shape) - 1).reshape(shape)
        return inside


def area_on(area: AreaOfInterest, footprint: Footprint) -> PixelArea | None:
    """The part of an image in an area of interest; ``None`` where there is none.

    Raises:
        DataError: the image does not say where it lies.
    """
    return area.on(footprint.grid, footprint.path)


@dataclass(frozen=True)
class Intersection:
    """What lies in two regions."""

    first: Region
    second: Region

    def contains(self, rows: NDArray[np.int64], cols: NDArray[np.int64], side: int) -> Bool:
        """Which of (n,) square patches lie wholly within both."""
        return self.first.contains(rows, cols, side) & self.second.contains(rows, cols, side)

    def pixels(self, block: Block) -> Bool:
        """Which pixels (rows, cols) of a block have their centre in both."""
        return self.first.pixels(block) & self.second.pixels(block)


def intersect(*regions: Region | None) -> Region | None:
    """What lies in all regions; ``None`` is everywhere."""
    present = [region for region in regions if region is not None]
    return reduce(Intersection, present) if present else None
