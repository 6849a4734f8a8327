"""From an image of any size to the squares a model sees, as the published protocols make them: crops and framing.

Five crops of an image, its corners and its middle, make small objects large enough for patch features. Framing:
the shorter side is resized to the square's, pixel by nearest pixel, and the middle of the longer one is kept. Nearest
pixels are those of Pillow, which the published figures were made with, so that images agree to the last value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block

CROPS = 5
SMALLEST_PX = 8
"""Images with a shorter side are taken for broken ones."""


def five_boxes(height: int, width: int, ratio: float) -> tuple[Block, ...]:
    """Where the five crops lie: top left, top right, bottom left, bottom right, middle.

    Args:
        height, width: of the image.
        ratio: of a crop's sides to the image's, in (0, 1]; cut off to whole pixels.
    """
    tall, wide = max(1, int(height * ratio)), max(1, int(width * ratio))
    low, right = height - tall, width - wide
    corners = [Block(row, col, tall, wide) for row in (0, low) for col in (0, right)]
    return (*corners, Block(round(low / 2), round(right / 2), tall, wide))


def framed(image: NDArray[Any], side: int) -> NDArray[Any]:
    """The square of an image or of labels.

    Args:
        image: (..., H, W), of any dtype.
        side: of the square, in pixels.

    Returns:
        (..., side, side), values of the image's own; contiguous, and never a view of it.
    """
    height, width = image.shape[-2:]
    shorter = min(height, width)
    rows, cols = (_kept(length, int(side * length / shorter), side) for length in (height, width))
    return np.ascontiguousarray(image[..., rows[:, None], cols])


def _kept(length: int, resized: int, side: int) -> NDArray[np.intp]:
    """Which of ``length`` pixels the middle ``side`` ones of ``resized`` are."""
    first = round((resized - side) / 2)
    return _nearest(length, resized)[first : first + side]


def _nearest(length: int, resized: int) -> NDArray[np.intp]:
    """For each of ``resized`` pixels, the one of ``length`` that its centre lies in.

    Centres are summed up step by step, as Pillow does: where one falls on the border of two pixels, rounding errors
    decide between them.
    """
    steps = np.full(resized, length / resized)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps).astype(np.intp), length - 1)
