"""Around the Earth: rasters and shapes may go on beyond the antimeridian, where the same ground has two coordinates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rasterio.crs import CRS

    from geohp.raster.grid import Grid

_CYLINDERS = (
    "Popular Visualisation Pseudo Mercator",
    "Mercator (variant A)",
    "Mercator (variant B)",
    "Equidistant Cylindrical",
    "Lambert Cylindrical Equal Area",
)
"""Projections in which x grows evenly with the longitude."""


_HALF_TURN = 180.0
_ALONG_EDGE = 16  # points an edge of a grid, which bends in another projection
_TOUCH = 1e-9  # of a turn: what touches the seam, by rounding or not

SEAM_PX = 1e-6
"""By so many pixels to the left rasters around the Earth are taken to lie: of what lies on the seam itself, as middles
of other grids do, GDAL finds nothing."""


def all_around(crs: CRS | str | None, source: Grid, target: Grid) -> CRS | str | None:
    """The CRS that GDAL has to take a raster's for, so that it is found wherever around the Earth it is looked for.

    Args:
        crs: of the raster; what does not go around the Earth, such as the text of a local one, is handed back.
        source: of the raster, in which degrees may go on beyond 180.
        target: where it is wanted.

    Returns:
        one that is the same, or one whose seam is that of the raster, moved by :data:`SEAM_PX`.
    """
    from rasterio.crs import CRS

    if not isinstance(crs, CRS) or not _in_degrees(crs):
        return _centred(crs, source) if isinstance(crs, CRS) and crs.is_projected else crs
    beyond = [max(map(abs, _ends(grid))) > _HALF_TURN for grid in (source, target) if _in_degrees(grid.crs or crs)]
    text = crs.to_proj4()
    if not any(beyond) or "+proj=longlat" not in text:
        return crs
    return CRS.from_string(f"{text} +lon_wrap={sum(_ends(source)) / 2 - SEAM_PX * source.affine.a}")


def _centred(crs: CRS, source: Grid) -> CRS:
    """A projection whose x grows with the longitude, its middle moved to that of a raster that goes beyond its seam."""
    from rasterio.crs import CRS

    from geohp.raster.grid import parse_crs

    known = parse_crs(crs)
    turn, metres = turn_of(known), known.axis_info[0].unit_conversion_factor if known.axis_info else 0.0
    text = crs.to_proj4()
    parameters = {name: float(value) for name, value in re.findall(r"\+(lon_0|x_0)=(\S+)", text)}
    if turn is None or len(parameters) < 2 or not metres:
        return crs
    middle = parameters["x_0"] / metres
    if max(abs(end - middle) for end in _ends(source)) <= turn * (0.5 + _TOUCH):
        return crs
    by = sum(_ends(source)) / 2 - SEAM_PX * source.affine.a - middle
    moved = {"lon_0": parameters["lon_0"] + 2 * _HALF_TURN * by / turn, "x_0": parameters["x_0"] + by * metres}
    return CRS.from_string(re.sub(r"\+(lon_0|x_0)=\S+", lambda match: f"+{match[1]}={moved[match[1]]!r}", text))


def crosses_seam(source: Grid, target: Grid) -> bool:
    """Whether a grid lies across the seam at which GDAL goes from one end of the Earth to the other in a raster.

    Of a pixel there GDAL takes all that lies between its sides around the Earth: there is no mean to be had of it.
    """
    from geohp.raster.grid import parse_crs, transformer

    assert source.crs is not None
    turn = turn_of(parse_crs(source.crs))
    if turn is None:
        return False
    there: Any = target.edges(_ALONG_EDGE)
    x, _ = transformer(target.crs, source.crs).transform(*(target.affine * there))
    x = continued(np.asarray(x), np.zeros(len(x), np.int64), turn)
    x = x[np.isfinite(x)]
    beyond = all_around(source.crs, source, target) != source.crs
    seam = turn / 2 + (sum(_ends(source)) / 2 if beyond else 0)
    return bool(len(x)) and bool(seam + np.ceil((x.min() - seam) / turn - _TOUCH) * turn <= x.max() + _TOUCH * turn)


def _in_degrees(crs: CRS) -> bool:
    return bool(crs.is_geographic and crs.units_factor[0] == "degree")


def _ends(grid: Grid) -> tuple[float, float]:
    """The least and the largest x of a grid's corners."""
    places: Any = grid.edges(1)
    xs = (grid.affine * places)[0]
    return float(xs.min()), float(xs.max())


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
