"""Five crops of an image, its corners and its middle: small objects become large enough for patch features."""

from __future__ import annotations

from typing import NamedTuple

CROPS = 5


class Box(NamedTuple):
    """A window of an image, in pixels."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)


def five_boxes(height: int, width: int, ratio: float) -> tuple[Box, ...]:
    """Where the five crops lie: top left, top right, bottom left, bottom right, middle.

    Args:
        height, width: of the image.
        ratio: of a crop's sides to the image's, in (0, 1]; cut off to whole pixels.
    """
    tall, wide = max(1, int(height * ratio)), max(1, int(width * ratio))
    low, right = height - tall, width - wide
    corners = [Box(row, col, tall, wide) for row in (0, low) for col in (0, right)]
    return (*corners, Box(round(low / 2), round(right / 2), tall, wide))
