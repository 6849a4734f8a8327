"""The outlines of a block in the shape asked for: along pixel edges, simplified, smoothed, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohp.options import PolygonOptions
from geohp.raster.block import Block
from geohp.vector.measures import PixelAreas
from geohp.vector.outlines import Outlines, junctions, trace
from geohp.vector.placement import Placement
from geohp.vector.simplify import simplified_corners
from geohp.vector.smoothing import crossings, fixed_corners, smooth


@dataclass(frozen=True)
class Shaper:
    """Draws the outlines of blocks.

    Attributes:
        areas, placement: of the raster's pixels.
        options: the shape. The raster's own margin never changes.
    """

    areas: PixelAreas
    placement: Placement
    options: PolygonOptions

    @property
    def exact(self) -> bool:
        """Whether outlines are those of the pixels."""
        return not self.options.simplify_m and not self.options.smooth

    def outlines(self, ids: NDArray[np.int32], block: Block) -> Outlines:
        """The outlines in a block.

        Args:
            ids: (rows + 2, cols + 2) regions of the block's pixels and of those around it.
            block: where it lies.
        """
        options, straight = self.options, self.placement.straight
        corners = vertices = junctions(ids) if straight else np.ones((block.height + 1, block.width + 1), bool)
        if options.simplify_m:
            tolerance_px = options.simplify_m / np.sqrt(self.areas.mean_m2(block))
            vertices = simplified_corners(
                ids, corners, tolerance_px, straight=straight, simplify_boundary=options.simplify_boundary
            )
        if not options.smooth:
            return trace(ids, corners, vertices, block.origin)
        outlines = trace(ids, corners, vertices | crossings(ids), block.origin)
        fixed = fixed_corners(ids, simplify_boundary=options.simplify_boundary)
        return smooth(outlines, fixed, block.origin, options.smooth)
