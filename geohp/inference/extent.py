"""What of a scene is mapped: an area of interest, or all of it; and where the map lies on the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geohp.errors import ConfigError
from geohp.options import ExtentOptions
from geohp.raster.area_of_interest import PixelArea, asked_area
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.scene import Scene

_LEAST_PX = 512  # windows that classes are found on see at least so much around a small area

Options = TypeVar("Options", bound=ExtentOptions)


@dataclass(frozen=True)
class Extent:
    """What of a scene is mapped.

    Attributes:
        frame: the part of the scene that the map shows.
        area: the part of that which is not left out as no data; ``None`` is all of it.
    """

    frame: Block
    area: PixelArea | None = None

    @classmethod
    def of(cls, grid: Grid, name: str, options: ExtentOptions) -> Extent:
        """What is asked for.

        Args:
            grid: the scene's.
            name: the scene in messages.
            options: with the area.

        Raises:
            ConfigError: a map is to be cropped to an area, and there is none.
            SourceError: no such area, or it lies beside the scene.
        """
        asked = asked_area(options)
        if asked is None:
            if options.crop:
                raise ConfigError("{option}: is for an area of interest", "name one, or leave it out", option="crop")
            return cls(grid.block)
        area = asked.within(grid, name)
        return cls(area.hull if options.crop and area.hull is not None else grid.block, area)

    def blocks(self, layout: Sequence[Block]) -> list[Block]:
        """What of the scene's blocks is to be computed."""
        if self.area is None or self.area.hull is None:
            return list(layout)
        shares = (block.intersect(self.area.hull) for block in layout)
        return [share for share in shares if share is not None and self.area.touches(share)]

    def place(self, block: Block) -> Block:
        """Where a block of the scene lies on the map."""
        return block.relative_to(self.frame)


def read_area(options: Options) -> Options:
    """Options with their area read, which then is read, and what is wrong with it said, but once."""
    return replace(options, aoi=asked_area(options))


class AreaScene:
    """The part of a scene around an area of interest, as if it were a scene of its own: outside, nothing is valid.

    Attributes:
        height, width: in pixels.
    """

    def __init__(self, scene: Scene, area: PixelArea) -> None:
        self._scene, self._area = scene, area
        self._block = _grown(area.hull or scene.grid.block, scene.grid.block)
        self.height, self.width = self._block.shape

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Data and validity of a window, see :meth:`.Scene.read`."""
        block = Block(row + self._block.row, col + self._block.col, height, width)
        data, valid = self._scene.read(*block)
        return data, valid & self._area.pixels(block)

    def thumbnail(self, max_px: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """All of it, see :meth:`.Scene.thumbnail`."""
        data, valid = self._scene.thumbnail(max_px, self._block)
        return data, valid & self._area.decimated(self._block, (valid.shape[0], valid.shape[1]))


def _grown(block: Block, bounds: Block) -> Block:
    """A block with as much around it as makes it some hundred pixels a side, where there is so much."""
    down, right = (max(0, -(-(_LEAST_PX - side) // 2)) for side in block.shape)
    around = Block.between(block.row - down, block.col - right, block.bottom + down, block.right + right)
    return around.intersect(bounds) or block
