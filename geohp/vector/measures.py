"""Areas in square metres and perimeters in metres, true on the ground whatever the map does to them.

Three kinds of coordinate reference systems are told apart:

- Projected ones: planar measures, converted from the map's unit (feet, yards, ...) to metres.
- Geographic ones: measured on the CRS's ellipsoid.
- Cylindrical maps that are not meant for measuring (Mercator and Web Mercator, equidistant cylindrical): they
  inflate areas with latitude, Web Mercator at 50 degrees north by a factor of 2.4, so they are measured on the
  ellipsoid, too.

Without a CRS, or with one that does not lie on the Earth, figures are in the map's units: pixels where nothing says
where the raster lies. Columns are named accordingly, see :func:`measure_columns`.

On the ellipsoid, areas are taken in its cylindrical equal-area map: exact for pixels along meridians and parallels, so
the areas of all regions add up to the raster's. Perimeters are lengths of geodesics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geohp.errors import VectorError
from geohp.raster.block import Block
from geohp.raster.grid import Grid, parse_crs
from geohp.vector.placement import Placement

_INFLATING = ("mercator", "equidistant cylindrical", "plate carr", "miller")
_FAITHFUL = ("transverse", "oblique")  # Mercators that are fit for measuring


def measure_columns(grid: Grid) -> tuple[str, str]:
    """What columns of areas and perimeters of a raster's regions are called, by what they hold.

    Returns:
        ``area_m2`` and ``perimeter_m``; with ``_px`` of an image that lies nowhere; and without a unit where there are
        coordinates but no CRS, so that nobody knows what they are.
    """
    if not grid.is_georeferenced:
        return "area_px", "perimeter_px"
    return ("area", "perimeter") if grid.crs is None else ("area_m2", "perimeter_m")


def areas_m2(polygons: NDArray[Any], crs: Any) -> NDArray[np.float64]:
    """(n,) areas of shapely polygons with coordinates in ``crs``, in square metres.

    Args:
        polygons: (n,) polygons or multipolygons.
        crs: anything pyproj takes, or ``None``: then in squares of the map's unit.

    Raises:
        VectorError: a CRS that pyproj does not understand.
    """
    surface = Surface.of(crs)
    if surface.ellipsoid is None:
        return np.asarray(shapely.area(polygons) * surface.unit_m**2)
    return np.asarray(shapely.area(shapely.transform(polygons, surface.to_equal_area)))


def perimeters_m(polygons: NDArray[Any], crs: Any) -> NDArray[np.float64]:
    """(n,) lengths of all rings, shells and holes, of polygons with coordinates in ``crs``, in metres.

    Args:
        polygons: (n,) polygons or multipolygons.
        crs: anything pyproj takes, or ``None``: then in the map's unit.

    Raises:
        VectorError: a CRS that pyproj does not understand.
    """
    surface = Surface.of(crs)
    if surface.ellipsoid is None:
        with np.errstate(over="ignore"):  # of coordinates that lie beyond everything
            return np.asarray(shapely.length(polygons) * surface.unit_m)
    parts, polygon_of_part = shapely.get_parts(polygons, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    lon, lat = surface.to_degrees(corners).T
    _, _, length = surface.ellipsoid.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
    within = ring[1:] == ring[:-1]
    owner = polygon_of_part[part_of_ring[ring[:-1]]]
    lengths: NDArray[Any] = np.bincount(owner[within], np.asarray(length)[within], minlength=len(polygons))
    return lengths


class PixelAreas:
    """True areas of a raster's pixels, as whole multiples of a unit: sums of them are exact in any order.

    Args:
        grid: the raster's.

    Attributes:
        uniform: whether all pixels have the same area.
        unit_m2: the unit: where all pixels have the same area, that, else about 2^-24 of a pixel.

    Raises:
        VectorError: a CRS that pyproj does not understand, or that does not reach so far.
    """

    def __init__(self, grid: Grid) -> None:
        self._surface, self._placement = Surface.of(grid.map_crs), Placement(grid)
        self.uniform = self._surface.ellipsoid is None and self._placement.straight and not grid.gcps
        if self.uniform:
            self.unit_m2 = abs(float(grid.transform.determinant)) * self._surface.unit_m**2
        else:
            middle = Block(grid.height // 2, grid.width // 2, 1, 1)
            self.unit_m2 = float(self._m2(middle).max()) * 2**-24
            if not self.unit_m2 > 0:
                problem = "the raster lies where its coordinate reference system does not reach"
                raise VectorError(problem, "assign the right one")

    def units(self, block: Block) -> NDArray[np.int64]:
        """Areas in units as (1, 1), (rows, 1) or (rows, cols), whichever tells them all."""
        if self.uniform:
            return np.ones((1, 1), np.int64)
        return np.rint(self._m2(block) / self.unit_m2).astype(np.int64)

    def mean_m2(self, block: Block) -> float:
        """Mean area of a block's pixels."""
        return float(self.units(block).mean()) * self.unit_m2

    def _m2(self, block: Block) -> NDArray[np.float64]:
        cols = 1 if self._placement.axis_aligned else block.width
        areas = np.empty((block.height, cols))
        strip = max(1, 2**20 // (cols + 1))  # rows at a time, to bound the memory of corner coordinates
        for top in range(0, block.height, strip):
            row, col = np.mgrid[top : min(top + strip, block.height) + 1, : cols + 1]
            corners = self._placement(np.column_stack([col.ravel() + block.col, row.ravel() + block.row]).astype(float))
            if self._surface.ellipsoid is None:
                flat = corners * self._surface.unit_m
            else:
                flat = self._surface.to_equal_area(corners)
            lattice = flat.reshape(*row.shape, 2)
            diagonal, other = lattice[1:, 1:] - lattice[:-1, :-1], lattice[:-1, 1:] - lattice[1:, :-1]
            with np.errstate(invalid="ignore"):
                areas[top : top + strip] = abs(diagonal[..., 0] * other[..., 1] - diagonal[..., 1] * other[..., 0]) / 2
        areas[~np.isfinite(areas)] = 0  # where the system does not reach there is no ground
        return areas


@dataclass(frozen=True)
class Surface:
    """What to measure on: a plane with a unit, or an ellipsoid.

    Attributes:
        unit_m: metres in a unit of the plane; 1 where unknown.
        ellipsoid: ``None`` to measure in the plane.
        to_lonlat: takes map coordinates to degrees; ``None`` where they are angles already.
        unit_rad: radians in a unit of a geographic CRS.
    """

    unit_m: float = 1.0
    ellipsoid: Any = None
    to_lonlat: Any = None
    unit_rad: float = np.pi / 180

    @classmethod
    def of(cls, crs: Any) -> Surface:
        """The surface for a CRS: anything pyproj or rasterio takes, or ``None``."""
        if crs is None:
            return cls()
        horizontal = _horizontal(parse_crs(crs))
        axes = horizontal.axis_info
        factor = float(axes[0].unit_conversion_factor) if axes else 1.0
        if horizontal.is_geographic:
            return cls(ellipsoid=horizontal.get_geod(), unit_rad=factor or np.pi / 180)
        if _inflates(horizontal):
            # The flag keeps longitudes beyond 180 degrees where the map is continued across the antimeridian.
            to_lonlat = pyproj.Transformer.from_crs(
                horizontal, horizontal.geodetic_crs, always_xy=True, force_over=True
            )  # fmt: skip
            geodetic: Any = horizontal.geodetic_crs
            angle = float(geodetic.axis_info[0].unit_conversion_factor)
            return cls(ellipsoid=horizontal.get_geod(), to_lonlat=to_lonlat, unit_rad=angle)
        return cls(unit_m=factor or 1.0)

    def to_degrees(self, corners: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) of map coordinates to (n, 2) of longitude and latitude in degrees."""
        if self.to_lonlat is not None:
            corners = np.column_stack(self.to_lonlat.transform(corners[:, 0], corners[:, 1]))
        return np.asarray(corners * np.rad2deg(self.unit_rad))

    def to_equal_area(self, corners: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) of map coordinates to (n, 2) of metres in the ellipsoid's cylindrical equal-area map."""
        lon, lat = np.deg2rad(self.to_degrees(corners)).T
        a, e2 = self.ellipsoid.a, self.ellipsoid.es
        sin = np.sin(np.clip(lat, -np.pi / 2, np.pi / 2))
        if e2 == 0:
            return np.column_stack([a * lon, a * sin])
        e = np.sqrt(e2)
        # Authalic latitude: q / 2 grows with the area between the equator and the parallel.
        q = (1 - e2) * (sin / (1 - e2 * sin**2) + np.arctanh(e * sin) / e)
        return np.column_stack([a * lon, a * q / 2])


def _horizontal(crs: Any) -> Any:
    """The part of a CRS that is about x and y."""
    if crs.is_bound:
        return _horizontal(crs.source_crs)
    if crs.is_compound:
        return _horizontal(crs.sub_crs_list[0])
    return crs


def _inflates(crs: Any) -> bool:
    operation = crs.coordinate_operation
    if not crs.is_projected or operation is None or crs.geodetic_crs is None:
        return False
    method = operation.method_name.lower()
    return any(word in method for word in _INFLATING) and not any(word in method for word in _FAITHFUL)
