"""The outlines of a block in the shape asked for: along pixel edges, simplified, smoothed, or both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geohp.errors import VectorError
from geohp.raster.block import Block
from geohp.vector.measures import PixelAreas
from geohp.vector.outlines import Chains, Place, junctions, trace
from geohp.vector.placement import Placement
from geohp.vector.rings import Rings
from geohp.vector.simplify import Simplifier
from geohp.vector.smoothing import crossings, fixed_corners, smooth

MOST_ROUNDS = 5


class Shaper:
    """Draws the outlines of blocks.

    Args:
        areas: of the raster's pixels.
        placement: of the raster's pixels.
        raster_width: in pixels.
        simplify_m: see :class:`geohp.vector.simplify.Simplifier`; 0 for none.
        smooth: rounds of :func:`geohp.vector.smoothing.smooth`, after simplification; 0 for none.
        outer: whether outlines that have no data on the other side change their shape, too. The raster's own margin
            never does.

    Raises:
        VectorError: more rounds than anybody can see.
    """

    def __init__(
        self, areas: PixelAreas, placement: Placement, raster_width: int, *, simplify_m: float = 0, smooth: int = 0,
        outer: bool = False,
    ) -> None:  # fmt: skip
        if not 0 <= smooth <= MOST_ROUNDS:
            raise VectorError(f"smooth is {smooth}, but must be a number of rounds from 0 to {MOST_ROUNDS}.")
        self._simplifier = Simplifier(simplify_m, areas, outer=outer) if simplify_m > 0 else None
        self._placement, self._raster_width, self._outer, self._smooth = placement, raster_width, outer, smooth

    @property
    def exact(self) -> bool:
        """Whether outlines are those of the pixels."""
        return self._simplifier is None and not self._smooth

    def outlines(self, ids: NDArray[np.int32], block: Block) -> tuple[Rings, Chains]:
        """The outlines in a block.

        Args:
            ids: (rows + 2, cols + 2) regions of the block's pixels and of those around it.
            block: where it lies.
        """
        place = Place(block.row, block.col, self._raster_width)
        straight = self._placement.straight
        corners = junctions(ids) if straight else np.ones((block.height + 1, block.width + 1), bool)
        vertices = corners
        if self._simplifier is not None:
            vertices = self._simplifier.vertices(ids, corners, block, self._placement)
        if not self._smooth:
            return trace(ids, corners, vertices, place)
        rings, chains = trace(ids, corners, vertices | crossings(ids), place)
        return smooth(rings, chains, fixed_corners(ids, outer=self._outer), place, self._smooth)
