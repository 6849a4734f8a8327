"""Where pixels lie: size, transform or ground control points, and coordinate reference system."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geohp.errors import VectorError
from geohp.raster.block import Block

if TYPE_CHECKING:
    from affine import Affine
    from pyproj import CRS as PyprojCRS  # noqa: N811
    from pyproj import Transformer
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS

logger = logging.getLogger(__name__)

_SAME_PLACE_PX = 0.01
"""What places may differ by where they are written with fewer digits, or in systems that are the same but for their
names, or for what nobody measures."""

_BENT_PX = 0.1
"""What pixels may lie beside where a transform puts them."""

_UPRIGHT = 1e-6
"""Share of a pixel that a row may sink by, and a column lean, from pixel to pixel: rounding, and no rotation."""


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
        """The grid of an open rasterio dataset.

        A transform that is not finite or gives pixels no area, and ground control points that no transform fits, place
        nothing: such a raster counts as one without georeference.
        """
        transform = dataset.transform
        # Where there are both, the transform counts, as for GDAL.
        gcps, gcp_crs = ([], None) if _is_invertible(transform) and not transform.is_identity else dataset.gcps
        crs = (gcp_crs if gcps else None) or dataset.crs
        grid = cls(dataset.width, dataset.height, transform, crs, tuple(gcps))
        if _fits(grid.gcps) if gcps else _is_invertible(grid.transform):
            return grid
        logger.warning("%s: its georeference places nothing, so it is taken for an image without one", dataset.name)
        return replace(grid, transform=type(grid.transform).identity(), gcps=())

    def __eq__(self, other: object) -> bool:
        """The same numbers and system; control points have no equality of their own."""
        return isinstance(other, Grid) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(self._numbers)

    @property
    def _numbers(self) -> tuple[Any, ...]:
        points = tuple((p.row, p.col, p.x, p.y, p.z) for p in self.gcps)
        return self.width, self.height, self.transform, self.crs, points

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def block(self) -> Block:
        """All pixels."""
        return Block(0, 0, self.height, self.width)

    @property
    def is_georeferenced(self) -> bool:
        """Whether anything says where the pixels lie; a coordinate reference system alone does not."""
        return bool(self.gcps) or not self.transform.is_identity

    @property
    def affine(self) -> Affine:
        """Pixel (column, row) to (x, y) in ``crs``: the transform, or what fits the ground control points best.

        Of an image without either, such as most JPEGs, x is the column and y the row with a minus, so that it lies
        below the x axis, upright: there QGIS places it.
        """
        from affine import Affine
        from rasterio.transform import from_gcps

        if not self.is_georeferenced:
            return Affine.scale(1, -1)
        return from_gcps(self.gcps) if self.gcps else self.transform

    @property
    def is_bent(self) -> bool:
        """Whether ground control points put pixels elsewhere than :attr:`affine` does.

        The polynomial through them is that of GDAL: of second degree from six points on, else an affine one.
        """
        if not self.gcps:
            return False
        from rasterio.transform import GCPTransformer

        rows, cols = (np.ravel(places) for places in np.mgrid[0 : self.height : 9j, 0 : self.width : 9j])
        with GCPTransformer(list(self.gcps)) as fitted:
            places: Any = tuple(map(np.asarray, fitted.xy(rows, cols, offset="ul")))
        to_pixels: Any = ~self.affine
        return bool(np.abs(np.subtract(to_pixels * places, (cols, rows))).max() > _BENT_PX)

    @property
    def map_crs(self) -> CRS | None:
        """CRS of the coordinates that :attr:`affine` gives; ``None`` for those of mere pixels."""
        return self.crs if self.is_georeferenced else None

    def crop(self, block: Block) -> Grid:
        """The grid of a block of the raster."""
        from affine import Affine
        from rasterio.control import GroundControlPoint

        placed = self.is_georeferenced and not self.gcps  # by the transform, that is
        transform = self.transform * Affine.translation(block.col, block.row) if placed else self.transform
        points = tuple(
            GroundControlPoint(p.row - block.row, p.col - block.col, p.x, p.y, p.z, p.id, p.info) for p in self.gcps
        )
        return Grid(block.width, block.height, transform, self.crs, points)

    def coincides_with(self, other: Grid) -> bool:
        """Whether two rasters' pixels are the same places, as far as both tell."""
        if self.shape != other.shape or len(self.gcps) != len(other.gcps):
            return False
        elsewhere = self.map_crs is not None and other.map_crs is not None and self.crs != other.crs
        if self.gcps and not elsewhere:
            points, others = (np.array([(p.row, p.col, p.x, p.y) for p in grid.gcps]).T for grid in (self, other))
            to_pixels: Any = ~other.affine
            apart = points[:2] - others[:2], np.subtract(to_pixels * points[2:], to_pixels * others[2:])
            return bool(np.abs(apart).max() < _SAME_PLACE_PX)
        return self._lands_on(other, elsewhere=elsewhere)

    def _lands_on(self, other: Grid, *, elsewhere: bool) -> bool:
        """Whether the edges of a raster are those of another, in its own coordinate reference system or elsewhere."""
        here: Any = self.affine
        there: Any = ~other.affine
        edges = self.edges(4)
        places = here * edges
        try:
            if elsewhere:
                places = transformer(self.crs, other.crs).transform(*places)
        except VectorError:
            return False
        return bool(np.isfinite(places).all() and np.abs(np.subtract(there * places, edges)).max() < _SAME_PLACE_PX)

    def edges(self, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows of points along the four edges, from the first pixel's corner on and clockwise.

        Args:
            points: an edge, its first corner among them.
        """
        along = np.linspace(0, 1, points, endpoint=False)
        low, high = np.zeros_like(along), np.ones_like(along)
        cols = np.concatenate([along, high, 1 - along, low]) * self.width
        rows = np.concatenate([low, along, high, 1 - along]) * self.height
        return cols, rows

    @property
    def pixel_size_m(self) -> float | None:
        """Ground sampling distance at the middle, in metres: the side of a square of a pixel's true area.

        Measured on the ellipsoid, so that degrees, feet and the inflated metres of Mercator maps all come out right;
        ``None`` where the raster has no CRS, or nothing but one, where that does not lie on the Earth, and of pixels so
        small that their corners coincide in numbers.
        """
        if self.map_crs is None:
            return None
        from pyproj import CRS as ProjCRS  # noqa: N811
        from pyproj import Transformer
        from pyproj.exceptions import ProjError

        col, row = self.width / 2, self.height / 2
        affine = self.affine
        corners = [affine * (col + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))]
        try:
            crs = ProjCRS.from_wkt(self.map_crs.to_wkt())
            geod = crs.get_geod()
            if geod is None:
                return None
            to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
            lon, lat = to_degrees.transform([x for x, _ in corners], [y for _, y in corners], errcheck=True)
        except ProjError:
            return None
        area, _ = geod.polygon_area_perimeter(lon, lat)
        return math.sqrt(abs(area)) if math.isfinite(area) and area else None


def is_upright(transform: Affine) -> bool:
    """Whether rows are parallels of the x axis, and columns of the y axis: each has coordinates of its own.

    ``Affine.is_rectilinear`` says so of quarter turns, too, and of all pixels of less than 1e-5 degrees.
    """
    return abs(transform.b) <= _UPRIGHT * abs(transform.a) and abs(transform.d) <= _UPRIGHT * abs(transform.e)


def _is_invertible(transform: Affine) -> bool:
    """Whether a transform gives every pixel an area."""
    return all(map(math.isfinite, transform)) and transform.determinant != 0


def _fits(gcps: Sequence[GroundControlPoint]) -> bool:
    """Whether GDAL finds a transform through ground control points."""
    from rasterio._err import CPLE_BaseError
    from rasterio.transform import GCPTransformer, from_gcps

    try:
        with GCPTransformer(list(gcps)) as transformer:
            x, y = transformer.xy([0, 1], [0, 1])
        return bool(np.isfinite([x, y]).all()) and _is_invertible(from_gcps(gcps))
    except CPLE_BaseError:
        return False


def parse_crs(crs: Any) -> PyprojCRS:
    """A pyproj CRS from whatever names one, rasterio's CRS included.

    Raises:
        VectorError: when pyproj does not understand it.
    """
    import pyproj

    try:
        return pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise VectorError(
            f"the coordinate reference system is not understood ({error})", "assign a known one"
        ) from error


def transformer(source: Any, target: Any) -> Transformer:
    """Takes (x, y) of one coordinate reference system to another, both named as for :func:`parse_crs`.

    Raises:
        VectorError: one is not understood, or nothing leads there, as from a building site to the Earth.
    """
    import pyproj

    here, there = parse_crs(source), parse_crs(target)
    try:
        return pyproj.Transformer.from_crs(here, there, always_xy=True)
    except pyproj.exceptions.ProjError as error:
        problem = f"nothing leads from the coordinate reference system {here.name!r} to {there.name!r}"
        raise VectorError(problem, "assign the right ones") from error
