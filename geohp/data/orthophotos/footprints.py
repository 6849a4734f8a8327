"""Where images lie on the ground, which of them show the same ground, and a plane to measure it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from geohp.errors import DataError
from geohp.raster.grid import Grid
from geohp.raster.read.labels import opened_raster
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles

Float64 = NDArray[np.float64]

_ALONG_EDGE = 8  # points an edge: a side that is straight on the image bends in another projection


@dataclass(frozen=True)
class Footprint:
    """An image and its pixel grid.

    Attributes:
        path: the image.
        key: the same wherever the data lie: its path below the folder that all images share.
        grid: of its pixels.
        unchanged: its files as they were before it was opened.
    """

    path: str
    key: str
    grid: Grid
    unchanged: UnchangedFiles = field(default=NOTHING_TO_WATCH, repr=False, compare=False)

    @property
    def placed(self) -> bool:
        """Whether it says where on Earth it lies."""
        return self.grid.map_crs is not None

    @property
    def crs(self) -> str:
        """CRS of a placed image, as WKT."""
        assert self.grid.crs is not None
        return str(self.grid.crs.to_wkt())

    @property
    def folder(self) -> str:
        """The folder it lies in, below the one that all images share."""
        return self.key.rpartition("/")[0]

    @cached_property
    def pixel_size_m(self) -> float | None:
        """Ground sampling distance in metres."""
        return self.grid.pixel_size_m


@dataclass(frozen=True)
class PixelToPlane:
    """From the pixels of an image to the plane that blocks are laid out in; travels between processes.

    Attributes:
        affine: (a, b, c, d, e, f) from (column, row) to (x, y) in ``crs``.
        crs: of the image, as WKT; ``None`` where the plane is that of the image itself.
        plane: CRS of the plane, as WKT.
    """

    affine: tuple[float, ...]
    crs: str | None = None
    plane: str | None = None

    def points(self, cols: Any, rows: Any) -> tuple[Float64, Float64]:
        """(x, y) in the plane of places on the image, arrays of any equal shape."""
        a, b, c, d, e, f = self.affine
        cols, rows = np.asarray(cols, float), np.asarray(rows, float)
        x, y = a * cols + b * rows + c, d * cols + e * rows + f
        if self.crs is None or self.plane is None:
            return x, y
        x, y = _transformer(self.crs, self.plane).transform(x, y)
        return np.asarray(x), np.asarray(y)

    def boxes(self, rows: Any, cols: Any, side: int) -> Float64:
        """(n, 4) bounds (left, bottom, right, top) in the plane of squares of ``side`` pixels."""
        steps = np.linspace(0, side, 2 if self.crs is None else _ALONG_EDGE)
        low, high = np.zeros_like(steps), np.full_like(steps, side)
        dx, dy = np.concatenate([steps, steps, low, high]), np.concatenate([low, high, steps, steps])
        x, y = self.points(np.asarray(cols)[:, None] + dx, np.asarray(rows)[:, None] + dy)
        bounds = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], 1)
        if self.crs is not None:  # between these points, an edge may bulge a little further
            slack = 0.01 * (bounds[:, 2:] - bounds[:, :2])
            bounds += np.concatenate([-slack, slack], 1)
        return bounds


def read_footprints(paths: Sequence[str]) -> list[Footprint]:
    """Open images just to see where they lie."""
    shared = _shared_folder(paths)
    footprints = []
    for path in paths:
        unchanged = UnchangedFiles(path, [path])
        with opened_raster(path) as (dataset, _):
            key = Path(path).as_posix()[len(shared) :].lstrip("/")
            footprints.append(Footprint(path, key, Grid.of(dataset), unchanged))
    return footprints


def common_plane(footprints: Sequence[Footprint]) -> CRS | None:
    """A CRS whose unit is a metre on the ground, to about two per cent, and in which all placed images can be shown.

    The images' own where they share one that will do; else an equal-area map around their middle.

    Raises:
        DataError: images lie where no map reaches.
    """
    placed = [f for f in footprints if f.placed]
    if not placed:
        return None
    crs = {f.crs for f in placed}
    if len(crs) == 1:
        own = CRS.from_wkt(crs.pop())
        scales = [abs(f.grid.affine.determinant) ** 0.5 / (f.pixel_size_m or np.inf) for f in placed]
        if own.is_projected and all(0.98 < scale < 1.02 for scale in scales):
            return own
        if own.get_geod() is None:  # of no planet's: then its own plane is all there is
            return own
    middles = []
    for footprint in placed:
        x, y = footprint.grid.affine * (footprint.grid.width / 2, footprint.grid.height / 2)
        try:
            middles.append(_transformer(footprint.crs, "EPSG:4326").transform(x, y, errcheck=True))
        except ProjError as error:
            raise DataError(
                f"{footprint.path}: cannot be placed on Earth beside the others ({error})",
                "correct its coordinates or its coordinate reference system",
            ) from error
    lons, lats = np.array(middles).T
    # Seen from one of them, so that neighbours across the antimeridian have their middle between them.
    lon = (lons[0] + np.median((lons - lons[0] + 180) % 360 - 180) + 180) % 360 - 180
    lon, lat = round(float(lon), 2), round(float(np.median(lats)), 2)
    return CRS.from_proj4(f"+proj=laea +lon_0={lon} +lat_0={lat} +datum=WGS84 +units=m +no_defs")


def pixel_to_plane(footprint: Footprint, plane: CRS | None) -> PixelToPlane:
    """How an image lies in a plane; in its own of pixels, where it is not georeferenced."""
    if not footprint.placed or plane is None:
        return PixelToPlane((1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    affine = tuple(float(v) for v in footprint.grid.affine[:6])
    same = CRS.from_wkt(footprint.crs) == plane
    return PixelToPlane(affine) if same else PixelToPlane(affine, footprint.crs, plane.to_wkt())


def outline(footprint: Footprint, plane: CRS | None) -> Any:
    """An image's outline as a polygon in a plane."""
    places = pixel_to_plane(footprint, plane).points(*footprint.grid.edges(_ALONG_EDGE))
    return shapely.Polygon(np.column_stack(places))


def overlapping(footprints: Sequence[Footprint], plane: CRS | None) -> list[tuple[int, int]]:
    """Pairs of images that show the same ground; those that merely share an edge do not."""
    numbers = [i for i, f in enumerate(footprints) if f.placed]
    shapes = np.array([_shrunk(outline(footprints[i], plane), footprints[i]) for i in numbers], dtype=object)
    if len(shapes) < 2:
        return []
    pairs = shapely.STRtree(shapes).query(shapes, predicate="intersects").T
    return [(numbers[a], numbers[b]) for a, b in pairs if a < b]


def _shrunk(shape: Any, footprint: Footprint) -> Any:
    """Without half a pixel around: what rounding makes of edges that touch is no overlap."""
    pixel = (shape.area / (footprint.grid.width * footprint.grid.height)) ** 0.5
    smaller = shape.buffer(-pixel / 2, join_style="mitre")
    return shape.centroid if smaller.is_empty else smaller


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def _shared_folder(paths: Sequence[str]) -> str:
    folders = [Path(path).parent.as_posix().split("/") for path in paths]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
    return "/".join(names[0] for names in shared)
