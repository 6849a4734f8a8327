"""Blocks: rectangles of pixels that know where they lie, and the grid of them in which any raster is gone through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from geohp.errors import SceneError

if TYPE_CHECKING:
    from rasterio.windows import Window

BLOCK_PX = 2048
"""Side of a block, unless asked otherwise."""

MOST_BLOCKS = 2**18
"""Rasters of more blocks are refused: those of a million pixels a side, where headers that lie declare a thousand times
that."""

Slices = tuple[slice, slice]


class Block(NamedTuple):
    """A rectangle of pixels: first row and column, and size."""

    row: int
    col: int
    height: int
    width: int

    @classmethod
    def around(cls, blocks: Iterable[Block]) -> Block:
        """The smallest block that holds all of some."""
        rows, cols, bottoms, rights = zip(*((b.row, b.col, b.bottom, b.right) for b in blocks), strict=True)
        return cls.between(min(rows), min(cols), max(bottoms), max(rights))

    @classmethod
    def between(cls, row: int, col: int, bottom: int, right: int) -> Block:
        """From a first row and column to those after the last."""
        return cls(row, col, bottom - row, right - col)

    @property
    def origin(self) -> tuple[int, int]:
        """First row and column."""
        return self.row, self.col

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """The column after the last."""
        return self.col + self.width

    @property
    def slices(self) -> Slices:
        """Its place in an array of the whole raster: ``array[block.slices]``, ``array[:, *block.slices]``."""
        return slice(self.row, self.bottom), slice(self.col, self.right)

    @property
    def window(self) -> Window:
        """The same for rasterio."""
        from rasterio.windows import Window  # blocks of an array need no GDAL

        return Window(self.col, self.row, self.width, self.height)

    def relative_to(self, frame: Block) -> Block:
        """The same pixels, counted from the first pixel of another block."""
        return Block(self.row - frame.row, self.col - frame.col, self.height, self.width)

    def placed_in(self, frame: Block) -> Block:
        """The other way round: of pixels counted from the first of another block, where they lie."""
        return Block(self.row + frame.row, self.col + frame.col, self.height, self.width)

    def intersect(self, other: Block) -> Block | None:
        """The pixels that both share; ``None`` where they share none."""
        shared = Block.between(
            max(self.row, other.row),
            max(self.col, other.col),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
        return shared if shared.height > 0 and shared.width > 0 else None

    def clip(self, shape: tuple[int, int]) -> Block:
        """As much of it as lies in a raster of so many rows and columns, in which it begins."""
        return Block(self.row, self.col, min(self.height, shape[0] - self.row), min(self.width, shape[1] - self.col))


class BlockGrid:
    """A raster cut into blocks of equal size, those at the right and lower margin apart, in raster order.

    Args:
        height, width: the raster's size in pixels.
        side_px: a block's size.

    Raises:
        SceneError: a raster of an absurd size.
    """

    def __init__(self, height: int, width: int, side_px: int = BLOCK_PX) -> None:
        self.height, self.width, self.side_px = height, width, side_px
        self.columns = -(-width // side_px)
        check_size(height, width, side_px)
        self.blocks = [
            Block(row, col, side_px, side_px).clip((height, width))
            for row in range(0, height, side_px)
            for col in range(0, width, side_px)
        ]

    def neighbour(self, number: int, down: int, right: int) -> int | None:
        """Number of the block that many blocks further down and right; ``None`` beyond the raster."""
        row, col = divmod(number, self.columns)
        row, col = row + down, col + right
        inside = 0 <= row * self.side_px < self.height and 0 <= col < self.columns
        return row * self.columns + col if inside else None


def check_size(height: int, width: int, side_px: int = BLOCK_PX) -> None:
    """Refuse a raster so large that going through its blocks, even empty ones, would never end.

    Raises:
        SceneError: with the remedy.
    """
    if -(-height // side_px) * -(-width // side_px) > MOST_BLOCKS:
        problem = f"a raster of {width:,} x {height:,} px is too large to go through, or its header is damaged"
        raise SceneError(problem, "cut it into several, for instance with gdal_translate -srcwin")
