"""Where pixels lie: size, transform or ground control points, and coordinate reference system."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS


class Block(NamedTuple):
    """A rectangle of pixels, worked off at once: first row and column, and size."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a raster, exactly as the file declares it.

    Attributes:
        width, height: size in pixels.
        transform: pixel (column, row) to (x, y) in ``crs``; the identity where the raster has none.
        crs: coordinate reference system of ``transform`` or of ``gcps``; ``None`` where undeclared.
        gcps: ground control points, used where the raster has them instead of a transform.
    """

    width: int
    height: int
    transform: Affine
    crs: CRS | None = None
    gcps: tuple[GroundControlPoint, ...] = ()

    @classmethod
    def of(cls, dataset: Any) -> Grid:
        """The grid of an open rasterio dataset."""
        gcps, gcp_crs = dataset.gcps
        if gcps:
            return cls(dataset.width, dataset.height, dataset.transform, gcp_crs or dataset.crs, tuple(gcps))
        return cls(dataset.width, dataset.height, dataset.transform, dataset.crs)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width


def pixel_size_m(grid: Grid) -> float | None:
    """Ground sampling distance at the middle of a raster, in metres: the side of a square of a pixel's true area.

    Measured on the ellipsoid, so that degrees, feet and the inflated metres of Mercator maps all come out right.

    Returns:
        ``None`` where the raster has no CRS, or one that does not lie on the Earth.
    """
    if grid.crs is None:
        return None
    from pyproj import CRS as ProjCRS  # noqa: N811
    from pyproj import Transformer
    from pyproj.exceptions import ProjError
    from rasterio.transform import from_gcps

    transform = from_gcps(grid.gcps) if grid.gcps else grid.transform
    col, row = grid.width / 2, grid.height / 2
    corners = [transform * (col + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))]
    try:
        crs = ProjCRS.from_wkt(grid.crs.to_wkt())
        geod = crs.get_geod()
        if geod is None:
            return None
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        lon, lat = to_degrees.transform([x for x, _ in corners], [y for _, y in corners], errcheck=True)
    except ProjError:
        return None
    area, _ = geod.polygon_area_perimeter(lon, lat)
    return math.sqrt(abs(area)) if math.isfinite(area) else None
