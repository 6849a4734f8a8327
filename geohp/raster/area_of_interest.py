"""Areas of interest: polygons that say which part of an image is meant, and their place on its pixels."""

from __future__ import annotations

import hashlib
import logging
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from geohp.errors import SourceError
from geohp.files.checks import expand_home
from geohp.options import AreaOptions
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.turns import continued, on_turns, turn_of

logger = logging.getLogger(__name__)

Bool: TypeAlias = NDArray[np.bool_]

_POLYGON, _MULTIPOLYGON = 3, 6  # GEOS's numbers of these kinds
_ALONG_EDGE = 64  # points an edge of an image, which bends in another projection
_PIECES = (
    256  # that a line as long as the image is cut into before it is projected: it bends by centimetres a kilometre
)
_SEAM_DECIMALS = 13  # of a turn around the Earth: micrometres
_STRIP_PX = 256  # rows or columns that are looked through at once for the first with a pixel inside


@dataclass(frozen=True)
class AreaOfInterest:
    """One shape on Earth.

    Attributes:
        name: the area in messages.
        shape: a valid polygon or multipolygon of shapely's, x and y in the CRS.
        crs: as WKT.
        file: that it was read from, if any.
    """

    name: str
    shape: Any
    crs: str
    file: Path | None = None

    @classmethod
    def of(cls, area: Any, layer: str | None = None) -> AreaOfInterest:
        """The area that is meant; several polygons are one area.

        Args:
            area: see :class:`geohp.options.AreaOptions`; or an area, which is passed through.
            layer: of a file that has several.

        Raises:
            SourceError: no such file; no polygons; no CRS; several layers and none named.
        """
        if isinstance(area, AreaOfInterest):
            return area
        if isinstance(area, (str, Path)):
            from geohp.raster.sources.vector_files import read_vectors

            path = expand_home(area)
            if not path.is_file():
                raise SourceError(f"{area}: no such file", "give a file of polygons")
            frame = read_vectors(path, layer, option="aoi_layer")
            return cls(str(area), _joined(frame.geometry.to_numpy(), str(area)), _wkt(frame.crs, str(area)), path)
        if hasattr(area, "geometry") and hasattr(area, "crs"):
            name = "the area of interest"
            return cls(name, _joined(area.geometry.to_numpy(), name), _wkt(area.crs, name))
        return cls("the area of interest", _box(area), _wkt("EPSG:4326", "the area of interest"))

    @property
    def series(self) -> Any:
        """The same as a GeoSeries of one geometry."""
        import geopandas

        return geopandas.GeoSeries([self.shape], crs=self.crs)

    def in_crs_of(self, grid: Grid, name: str) -> Any:
        """As much of the shape as lies around a raster, in the raster's CRS.

        Edges are straight where the area was drawn: in another projection they are given as many points as that takes.

        Raises:
            SourceError: the raster does not say where on Earth it lies, ground control points bend it, or there is no
                way from one CRS to the other.
        """
        from pyproj import CRS, Transformer
        from pyproj.exceptions import ProjError

        if grid.map_crs is None:
            lacks, how = ("coordinate reference system", "srs") if grid.crs is None else ("transform", "ullr")
            raise SourceError(
                f"{name} has no {lacks}, so nobody knows where {self.name} lies on it",
                f"assign one first (gdal_edit.py -a_{how}), or leave the area out",
            )
        if grid.is_bent:
            raise SourceError(
                f"{name} is bent by its ground control points, and {self.name} cannot be placed on it exactly",
                "warp it first (gdalwarp), or leave the area out",
            )
        try:
            here, there = CRS.from_wkt(self.crs), CRS.from_wkt(grid.map_crs.to_wkt())
            shape, turn = self.shape, turn_of(there)
            if here != there:
                # Not as a whole: far away there may be places that the other projection does not have.
                own_turn = turn_of(here)
                nearby = self._around(grid, Transformer.from_crs(there, here, always_xy=True), own_turn)
                if turn is None and own_turn is not None:
                    nearby = _seam_on_one_side(nearby, own_turn)
                shape = _polygonal(_projected(nearby, Transformer.from_crs(here, there, always_xy=True), turn))
            edges: Any = grid.edges(1)
            xs, _ = grid.affine * edges
            return _polygonal(on_turns(shape, turn, float(np.min(xs)), float(np.max(xs))))
        except ProjError as error:
            raise SourceError(f"{self.name} cannot be brought to the projection of {name} ({error})") from error

    def _around(self, grid: Grid, to_area: Any, turn: float | None) -> Any:
        """What of the shape lies around a raster, its long edges cut into pieces."""
        edges: Any = grid.edges(_ALONG_EDGE)
        xs, ys = to_area.transform(*(grid.affine * edges))
        finite = np.isfinite(xs) & np.isfinite(ys)
        if not finite.all():
            return shapely.segmentize(self.shape, _diagonal(*shapely.bounds(self.shape)) / _PIECES)
        bounds = float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
        diagonal = _diagonal(*bounds)
        frame = shapely.buffer(shapely.box(*bounds), diagonal / 4)
        left, bottom, right, top = shapely.bounds(frame)
        if turn is not None and right - left >= turn:  # all around the Earth, wherever the shape begins
            left, _, right, _ = shapely.bounds(self.shape)
            near = shapely.intersection(self.shape, shapely.box(left, bottom, right, top))
        else:
            near = shapely.intersection(on_turns(self.shape, turn, left, right), frame)
        return shapely.segmentize(near, diagonal / _PIECES)

    def on(self, grid: Grid, name: str) -> PixelArea | None:
        """The part of a raster that lies in the area; ``None`` where no pixel's centre does.

        Args:
            grid: the raster's.
            name: the raster in messages.

        Raises:
            SourceError: see :meth:`in_crs_of`.
        """
        area = self.placed(self.in_crs_of(grid, name), grid)
        return None if area.hull is None else area

    def placed(self, shape: Any, grid: Grid) -> PixelArea:
        """A shape in a raster's CRS on the raster's pixels; what lies beyond is cut off."""
        a, b, c, d, e, f = (~grid.affine)[:6]
        placed = shapely.transform(shape, lambda x, y: (a * x + b * y + c, d * x + e * y + f), interleaved=False)
        whole = shapely.box(0, 0, grid.width, grid.height)
        return PixelArea(_polygonal(shapely.intersection(_polygonal(placed), whole)))

    def within(self, grid: Grid, name: str) -> PixelArea:
        """The same where there has to be such a part.

        Raises:
            SourceError: there is none.
        """
        area = self.on(grid, name)
        if area is None:
            raise self.beside(name)
        return area

    def beside(self, name: str) -> SourceError:
        """What to say where the area shares nothing with a raster."""
        return SourceError(f"{self.name} lies beside {name}: they share no pixel", "check its coordinates and CRS")


def asked_area(options: AreaOptions) -> AreaOfInterest | None:
    """The area asked for; ``None`` where everything is meant.

    Raises:
        SourceError: see :meth:`AreaOfInterest.of`.
    """
    return None if options.aoi is None else AreaOfInterest.of(options.aoi, options.aoi_layer)


def area_files(options: AreaOptions) -> list[Path]:
    """The file that the area asked for is read from, where it is one."""
    area = options.aoi
    if isinstance(area, AreaOfInterest):
        return [] if area.file is None else [area.file]
    return [expand_home(area)] if isinstance(area, (str, Path)) else []


@dataclass(frozen=True)
class PixelArea:
    """The part of a raster that lies in an area of interest.

    Attributes:
        shape: on the raster's pixels, x the column and y the row from the corner of the first one.
    """

    shape: Any

    def __post_init__(self) -> None:
        shapely.prepare(self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return PixelArea, (self.shape,)  # prepared anew

    @property
    def digest(self) -> str:
        """Tells it from others."""
        return hashlib.sha256(shapely.to_wkb(shapely.normalize(self.shape))).hexdigest()

    @cached_property
    def hull(self) -> Block | None:
        """The smallest block that holds all pixels whose centre lies inside; ``None`` without any."""
        left, top, right, bottom = shapely.bounds(self.shape)
        if not np.isfinite(left):
            return None
        rows, cols = _centres(top, bottom), _centres(left, right)
        block = Block.between(rows[0], cols[0], rows[1], cols[1])
        for turned in (False, True):  # a thin tip may reach beyond the last centre inside
            if block.height <= 0 or block.width <= 0:
                return None
            first, last = self._first(block, turned=turned), self._last(block, turned=turned)
            if first is None or last is None:
                return None
            block = (
                Block.between(block.row, first, block.bottom, last + 1)
                if turned
                else Block.between(first, block.col, last + 1, block.right)
            )
        return block

    def contains(self, rows: NDArray[np.int64], cols: NDArray[np.int64], side: int) -> Bool:
        """Which of (n,) square patches the area covers."""
        return np.asarray(shapely.covers(self.shape, shapely.box(cols, rows, cols + side, rows + side)), bool)

    def touches(self, block: Block) -> bool:
        """Whether any of a block lies inside."""
        return bool(shapely.intersects(self.shape, _box_of(block)))

    def pixels(self, block: Block) -> Bool:
        """Which pixels (rows, cols) of a block have their centre inside."""
        from rasterio.features import rasterize

        box = _box_of(block)
        if shapely.covers(self.shape, box):
            return np.ones(block.shape, bool)
        inside = np.zeros(block.shape, np.uint8)
        here = _polygonal(shapely.intersection(self.shape, box))
        if not shapely.is_empty(here):
            rasterize([here], out=inside, transform=Affine.translation(block.col, block.row))
        return inside > 0

    def decimated(self, block: Block, shape: tuple[int, int]) -> Bool:
        """Which pixels of a decimated look at a block, of ``shape`` (rows, cols), lie inside, if only with a part."""
        from rasterio.features import rasterize

        to_scene = Affine.translation(block.col, block.row) * Affine.scale(
            block.width / shape[1], block.height / shape[0]
        )
        return rasterize([self.shape], out_shape=shape, transform=to_scene, all_touched=True) > 0  # type: ignore[no-any-return]

    def _first(self, block: Block, *, turned: bool) -> int | None:
        """The first row of a block, or column, with a pixel inside."""
        return next((start + int(filled[0]) for start, filled in self._strips(block, turned) if len(filled)), None)

    def _last(self, block: Block, *, turned: bool) -> int | None:
        strips = self._strips(block, turned, backwards=True)
        return next((start + int(filled[-1]) for start, filled in strips if len(filled)), None)

    def _strips(self, block: Block, turned: bool, backwards: bool = False) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Strips of a block: where each begins, and which of its rows, or columns, have a pixel inside."""
        start, stop = (block.col, block.right) if turned else (block.row, block.bottom)
        begins = range(start, stop, _STRIP_PX)
        for first in reversed(begins) if backwards else begins:
            last = min(stop, first + _STRIP_PX)
            strip = (
                Block.between(block.row, first, block.bottom, last)
                if turned
                else Block.between(first, block.col, last, block.right)
            )
            yield first, np.flatnonzero(self.pixels(strip).any(axis=0 if turned else 1))


def _box_of(block: Block) -> Any:
    return shapely.box(block.col, block.row, block.right, block.bottom)


def _centres(low: float, high: float) -> tuple[int, int]:
    """The first pixel whose centre lies between two places, and the one after the last."""
    return int(np.ceil(low - 0.5)), int(np.floor(high - 0.5)) + 1


def _diagonal(left: float, bottom: float, right: float, top: float) -> float:
    return float(np.hypot(right - left, top - bottom))


def _projected(shape: Any, transformer: Any, turn: float | None) -> Any:
    """A shape in another CRS; each part of it goes on where the antimeridian is crossed."""
    parts = shapely.get_parts(shape)
    corners, part = shapely.get_coordinates(parts, return_index=True)
    x, y = transformer.transform(*corners.T)
    x = x if turn is None else continued(x, part, turn)
    parts = shapely.set_coordinates(parts.copy(), np.column_stack([x, y]))
    return parts[0] if len(parts) == 1 else shapely.geometrycollections(parts)


def _seam_on_one_side(shape: Any, turn: float) -> Any:
    """A shape whose antimeridian is the eastern one alone, to the last bit: else its halves would part by a hair."""

    def eastern(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any]:
        on_seam = np.abs(x) == turn / 2
        return np.where(on_seam, turn / 2, x), np.where(on_seam, np.round(y / turn, _SEAM_DECIMALS) * turn, y)

    return shapely.transform(shape, eastern, interleaved=False)


def _polygonal(shape: Any) -> Any:
    """What of a shape has an area, made valid."""
    valid = shapely.make_valid(shape) if not shapely.is_valid(shape) else shape
    if shapely.get_type_id(valid) in (_POLYGON, _MULTIPOLYGON):
        return valid
    parts = shapely.get_parts(valid)
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), (_POLYGON, _MULTIPOLYGON))])


def _parts(shapes: NDArray[Any]) -> NDArray[Any]:
    """Single shapes of shapes and collections of any depth; parts of one that overlap are each meant as a whole."""
    parts: NDArray[Any] = np.asarray(shapes, object)
    while (shapely.get_type_id(parts) > _POLYGON).any():
        parts = shapely.get_parts(parts)
    present: NDArray[np.bool_] = ~(shapely.is_missing(parts) | shapely.is_empty(parts))
    return np.asarray(parts[present], object)


def _joined(shapes: NDArray[Any], name: str) -> Any:
    """All polygons among shapes as one."""
    from geohp.raster.sources.vector_files import has_usable_coordinates

    present = _parts(shapes)
    if not len(present):
        raise SourceError(f"{name} holds no shapes", "draw the area as polygons")
    polygons = present[shapely.get_type_id(present) == _POLYGON]
    finite = has_usable_coordinates(polygons)
    broken = int((~shapely.is_valid(polygons[finite])).sum())
    joined = _polygonal(shapely.union_all([_polygonal(shape) for shape in shapely.force_2d(polygons[finite])]))
    if not finite.all():
        logger.warning("%s: %d polygons with coordinates that are no numbers are left out", name, int((~finite).sum()))
    if shapely.is_empty(joined) and len(polygons):
        raise SourceError(f"{name} holds no polygon that covers any ground", "check its coordinates")
    if shapely.is_empty(joined):
        kinds = ", ".join(sorted({shape.geom_type for shape in present}))
        raise SourceError(f"{name} holds no polygons but {kinds}", "draw the area as polygons, or buffer these")
    if len(polygons) < len(present):
        logger.info("%s: %d shapes that are no polygons are left out", name, len(present) - len(polygons))
    if broken:
        logger.info("%s: %d polygons cross themselves and were repaired", name, broken)
    return joined


def _wkt(crs: Any, name: str) -> str:
    from pyproj import CRS

    known = None if crs is None else CRS.from_user_input(crs)
    if known is None or known.name.lower().startswith("undefined "):  # what GeoPackages write for none
        raise SourceError(
            f"{name} has no coordinate reference system", "give polygons that say where on Earth they lie"
        )
    return str(known.to_wkt())


def _box(bounds: Sequence[float]) -> Any:
    try:
        west, south, east, north = map(float, bounds)
    except (TypeError, ValueError):
        west = east = south = north = 0.0
    # Across the antimeridian, as GeoJSON has it; not around the Earth, where somebody has mixed them up.
    crosses = 180 >= west > east >= -180 and west - east > 180
    if not ((west < east or crosses) and south < north):
        problem = f"{reprlib.repr(bounds)} is no area"
        if hasattr(bounds, "geom_type"):
            problem = f"a bare {bounds.geom_type} does not say in which coordinate reference system it lies"
        remedy = "give a file of polygons, a GeoDataFrame with its CRS, or west, south, east and north in degrees"
        raise SourceError(problem, remedy)
    if crosses:
        return shapely.multipolygons([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])
    return shapely.box(west, south, east, north)
