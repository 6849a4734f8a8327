"""Which windows some regions of a scene need, in which order, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

from geohp.inference.engine.windows import Origin, WindowGrid
from geohp.raster.block import Block


class Plan:
    """Regions of a scene computed one after the other, and the windows that touch them.

    Args:
        grid: the windows.
        regions: in the order they are computed; they may overlap and need not cover the scene.

    Attributes:
        grid, regions: as given.
        touching: for each region the windows that touch it, in raster order.
        fresh: for each region those of them that none before it needed.
    """

    def __init__(self, grid: WindowGrid, regions: Sequence[Block]) -> None:
        self.grid, self.regions = grid, regions
        self.touching: list[list[Origin]] = []
        self.fresh: list[list[Origin]] = []
        self._uses: dict[Origin, list[int]] = {}
        for number, region in enumerate(regions):
            origins = list(grid.touching(region))
            self.touching.append(origins)
            self.fresh.append([origin for origin in origins if origin not in self._uses])
            for origin in origins:
                self._uses.setdefault(origin, []).append(number)

    @property
    def order(self) -> list[Origin]:
        """All windows that are needed, in the order of their first need."""
        return [origin for group in self.fresh for origin in group]

    def needed_from(self, origin: Origin, number: int) -> int | None:
        """The first row that any region after this one needs of a window; ``None`` where none needs it."""
        return min((self.regions[use].row for use in self._uses[origin] if use > number), default=None)
