"""Blocks: the pieces in which a raster of any size is gone through."""

from __future__ import annotations

from geohp.raster.block import Block

BLOCK_PX = 2048
"""Side of a block, unless asked otherwise."""


class BlockGrid:
    """A raster cut into blocks of equal size, those at the right and lower margin apart, in raster order.

    Args:
        height, width: the raster's size in pixels.
        side_px: a block's size.
    """

    def __init__(self, height: int, width: int, side_px: int = BLOCK_PX) -> None:
        self.height, self.width, self.side_px = height, width, side_px
        self.columns = -(-width // side_px)
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
