"""Rings: closed outlines on the lattice of pixel corners, and the polygons they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

Placing = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Takes (n, 2) pixel-corner positions (column, row) to (n, 2) map coordinates (x, y)."""


class Rings(NamedTuple):
    """Closed outlines, one after another.

    Attributes:
        regions: (n,) whose outline each is.
        lengths: (n,) number of corners.
        corners: (sum of lengths, 2) column and row; a ring's last corner is not its first again. Regions lie to the
            right of their outlines, rows counted downwards.
    """

    regions: NDArray[np.int64]
    lengths: NDArray[np.int64]
    corners: NDArray[Any]

    @classmethod
    def none(cls) -> Rings:
        """No rings."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2), np.int64))

    @classmethod
    def joined(cls, several: Sequence[Rings]) -> Rings:
        """Several sets of rings as one."""
        if not several:
            return cls.none()
        return cls(*(np.concatenate(parts) for parts in zip(*several, strict=True)))

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(n + 1,) where each begins among the corners."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def split(self) -> list[tuple[int, Rings]]:
        """The rings of each region, in ascending order of the regions."""
        order = np.argsort(self.regions, kind="stable")
        regions, lengths = self.regions[order], self.lengths[order]
        new_starts = np.cumsum(lengths) - lengths
        source = np.arange(len(self.corners)) + np.repeat(self.offsets[:-1][order] - new_starts, lengths)
        corners = self.corners[source]
        at = np.flatnonzero(np.diff(regions, prepend=-1))
        parts = (np.split(regions, at[1:]), np.split(lengths, at[1:]), np.split(corners, new_starts[at[1:]]))
        return [(int(own[0]), Rings(own, *rest)) for own, *rest in zip(*parts, strict=True) if len(own)]

    def where(self, chosen: NDArray[np.bool_]) -> Rings:
        """Those of the rings."""
        return Rings(self.regions[chosen], self.lengths[chosen], self.corners[np.repeat(chosen, self.lengths)])

    def batches(self, most: int) -> Iterator[Rings]:
        """The rings of so many regions at a time, in ascending order of the regions."""
        regions = np.unique(self.regions)
        for first in range(0, len(regions), most):
            batch = regions[first : first + most]
            yield self.where((self.regions >= batch[0]) & (self.regions <= batch[-1]))

    def sorted(self) -> Rings:
        """Region by region, the shell first, then holes by their topmost, leftmost corner, with which all begin.

        The same outlines look the same after this, however they were pieced together.
        """
        offsets = self.offsets
        starts = offsets[:-1]
        ring = np.repeat(np.arange(len(self.lengths)), self.lengths)
        # Corners of a ring differ, for no ring touches itself: one is the leftmost of the topmost.
        x, y = self.corners.T.astype(np.float64)
        top = np.minimum.reduceat(y, starts) if len(starts) else y
        topmost = y == top[ring]
        left = np.minimum.reduceat(np.where(topmost, x, np.inf), starts) if len(starts) else x
        begin = np.flatnonzero(topmost & (x == left[ring])) - starts
        order = np.lexsort((left, top, ~self._are_shells(), self.regions))
        lengths = self.lengths[order]
        new_starts = np.cumsum(lengths) - lengths
        within = np.arange(len(ring)) - np.repeat(new_starts, lengths)
        source = (within + np.repeat(begin[order], lengths)) % np.repeat(lengths, lengths)
        source += np.repeat(starts[order], lengths)
        return Rings(self.regions[order], lengths, self.corners[source])

    def _are_shells(self) -> NDArray[np.bool_]:
        """Which rings go clockwise on screen: their area (twice, signed) is positive, rows counted downwards."""
        x, y = self.corners.T
        following = np.arange(1, len(x) + 1)
        offsets = self.offsets
        following[offsets[1:] - 1] = offsets[:-1]
        doubled = x * y[following] - x[following] * y
        return np.asarray(np.add.reduceat(doubled, offsets[:-1]) > 0) if len(self.lengths) else np.empty(0, bool)

    def polygons(self, placing: Placing) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """One polygon a region, of its shell and its holes.

        Args:
            placing: where pixel corners lie on the map.

        Returns:
            (n,) regions in ascending order, and (n,) shapely polygons with counter-clockwise shells.
        """
        rings = self.sorted()
        regions, first = np.unique(rings.regions, return_index=True)
        if not len(regions):
            return regions, np.empty(0, object)
        offsets = rings.offsets
        # Each ring's first corner once more at its end.
        source = np.arange(len(rings.corners) + len(rings.lengths))
        source -= np.repeat(np.arange(len(rings.lengths)), rings.lengths + 1)
        closed = offsets + np.arange(len(offsets))
        source[closed[1:] - 1] = offsets[:-1]
        placed = placing(rings.corners[source].astype(np.float64))
        polygons = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, placed, (closed, np.append(first, len(rings.lengths)))
        )  # fmt: skip
        return regions, np.asarray(shapely.orient_polygons(polygons))
