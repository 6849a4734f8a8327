"""Around the Earth: rasters and shapes may go on beyond the antimeridian, where the same ground has two coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_CYLINDERS = (
    "Popular Visualisation Pseudo Mercator",
    "Mercator (variant A)",
    "Mercator (variant B)",
    "Equidistant Cylindrical",
    "Lambert Cylindrical Equal Area",
)
"""Projections in which x grows evenly with the longitude."""


def turn_of(crs: Any) -> float | None:
    """How far x goes once around the Earth, in the unit of a CRS of pyproj's; ``None`` where it does not go around."""
    from pyproj import Transformer

    if crs.is_geographic:
        return float(2 * np.pi / crs.axis_info[0].unit_conversion_factor)
    operation = crs.coordinate_operation
    if operation is None or operation.method_name not in _CYLINDERS or crs.geodetic_crs is None:
        return None
    to_map = Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True).transform
    steps = np.abs(np.diff(to_map(np.arange(4.0), np.zeros(4))[0]))  # one of them may cross the edge of the map
    around = turn_of(crs.geodetic_crs)
    return None if around is None else float(np.median(steps)) * around


def continued(x: NDArray[np.float64], part: NDArray[np.int64], turn: float) -> NDArray[np.float64]:
    """(n,) coordinates that go on where they jump from one end of the Earth to the other within a part.

    Args:
        x: the coordinates; those of a part that are no numbers stay so.
        part: of which part each is, from 0 on and one after the other.
        turn: see :func:`turn_of`.
    """
    if not len(x):
        return x
    jumps = np.zeros(len(x))
    steps = np.diff(np.where(np.isfinite(x), x, 0))
    jumps[1:] = np.where(part[1:] == part[:-1], np.round(steps / turn), 0)
    turns = np.cumsum(jumps)
    first = np.searchsorted(part, part)
    result: NDArray[np.float64] = x - turn * (turns - turns[first])
    return result


def on_turns(shape: Any, turn: float | None, left: float, right: float) -> Any:
    """A shape, with it what of its copies one or two turns away reaches between two places along x."""
    if turn is None:
        return shape
    west, _, east, _ = shapely.bounds(shape)
    copies = [
        shapely.transform(shape, lambda x, y, by=by: (x + by, y), interleaved=False)
        for by in (-2 * turn, -turn, turn, 2 * turn)
        if west + by < right and left < east + by
    ]
    return shapely.union_all([shape, *copies]) if copies else shape
