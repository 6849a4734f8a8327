"""Polygons as outlines on a map's pixel grid, few and coarse enough for a page."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray

from geohp.errors import DataError, GeohpError
from geohp.files.plain_names import plain_name
from geohp.files.reading import failure_reason, json_value
from geohp.legend.features import check_crs, choose_layer, extent_in, known_crs, on_grid
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster
from geohp.raster.sources.vector_files import VECTOR_FAILURES, is_parquet, layer_info

MOST_CORNERS = 1_000_000

STEPS = 4
"""Corners are told to so many parts of a pixel of the map as it is shown."""

_FARTHEST = 2**29
"""So many steps away are corners that are left as they are."""

_BATCH = 4096
_NAME, _AREAS = "class_name", ("area_m2", "area", "area_px")
_POLYGON = 3  # shapely's type


@dataclass(frozen=True)
class Outlines:
    """Polygons for a page.

    Attributes:
        unit_px: pixels of the map in a unit of the corners.
        names: of classes.
        area_unit: "m2", "px" or "" where nobody knows.
        tolerance_px: by how many pixels of the map outlines may be off.
        polygons: (n, 2) float64: place of its name, -1 for none, and area, NaN where the file does not tell.
        ring_counts: (n,) rings of each polygon.
        corner_counts: corners of each ring.
        corners: (m, 2) columns and rows in units, each relative to the one before.
    """

    unit_px: float
    names: tuple[str, ...]
    area_unit: str
    tolerance_px: float
    polygons: NDArray[np.float64]
    ring_counts: NDArray[np.int32]
    corner_counts: NDArray[np.int32]
    corners: NDArray[np.int32]

    def document(self) -> dict[str, Any]:
        """For the page: numbers as zlib-compressed bytes in base64."""
        numbers = {
            "places": _packed(self.polygons[:, 0].astype(np.int32)),
            "areas": _packed(self.polygons[:, 1].astype(np.float32)),
            "rings": _packed(self.ring_counts),
            "counts": _packed(self.corner_counts),
            "corners": _packed(self.corners),
        }
        return {"unit": self.unit_px, "names": self.names, "area_unit": self.area_unit, **numbers}


def read_outlines(
    path: str | Path, labels: LabelRaster, factor: int, *, layer: str | None = None, most_corners: int = MOST_CORNERS
) -> Outlines:
    """Read polygons batch by batch, as coarse as need be.

    Args:
        path: a file of polygons, on the map or around it.
        labels: the map.
        factor: its pixels along a side of one that is shown.
        layer: of a file with several.
        most_corners: where there are more, outlines are simplified further and the smallest polygons left out.

    Raises:
        DataError: it cannot be read, has no polygons on the map, or none of it says where it lies.
        VectorError: a CRS that is not understood.
    """
    tolerance, outlines = factor / 2, None
    try:
        source = _Source.of(Path(path), labels, layer)
        while (outlines := _gather(source, labels, factor, tolerance, most_corners)) is None:
            tolerance *= 2
    except GeohpError:
        raise
    except VECTOR_FAILURES as error:
        raise DataError(
            f"{path} cannot be read as a file of polygons ({failure_reason(error)})", "mend it or give another"
        ) from error
    if not len(outlines.polygons):
        raise DataError(f"{path} has no polygons on {labels.name}", "give those that were made of it")
    return outlines


@dataclass(frozen=True)
class _Source:
    """Where polygons come from.

    Attributes:
        path: of the file.
        layer: in it; ``None`` of Parquet.
        crs: of the polygons; ``None`` where they have none.
        name, area: columns with these, where there are any.
    """

    path: Path
    layer: str | None
    crs: Any
    name: str | None
    area: str | None

    @classmethod
    def of(cls, path: Path, labels: LabelRaster, layer: str | None) -> _Source:
        """Look at a file of polygons for a map."""
        if is_parquet(path):
            file = pq.ParquetFile(path)
            fields, crs = file.schema_arrow.names, _geo(file)[1]
        else:
            layer = choose_layer(path, layer)
            info = layer_info(path, layer)
            fields, crs = list(map(str, info["fields"])), info["crs"]
        crs = known_crs(crs)
        check_crs(crs, str(path), labels)
        area = next((name for name in _AREAS if name in fields), None)
        return cls(path, layer, crs, _NAME if _NAME in fields else None, area)

    def batches(self, labels: LabelRaster) -> Iterator[tuple[NDArray[Any], list[str | None], NDArray[np.float64]]]:
        """Geometries with x the map's column and y its row, names and areas, all (n,)."""
        columns = [name for name in (self.name, self.area) if name is not None]
        with self._open(labels, columns) as (batches, geometry):
            for batch in batches:
                wkb = batch.column(geometry).to_numpy(zero_copy_only=False)
                names = batch.column(self.name).to_pylist() if self.name else [None] * len(wkb)
                areas = batch.column(self.area).to_pylist() if self.area else [None] * len(wkb)
                shapes = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
                yield on_grid(shapes, self.crs, labels.grid), names, np.array(areas, np.float64)

    @contextmanager
    def _open(self, labels: LabelRaster, columns: list[str]) -> Iterator[tuple[Any, str]]:
        if self.layer is None:
            with pq.ParquetFile(self.path) as file:
                geometry = _geo(file)[0]
                yield file.iter_batches(_BATCH, columns=[*columns, geometry]), geometry
            return
        extent = extent_in(labels.grid, self.crs)
        options = {"columns": columns, "bbox": extent, "batch_size": _BATCH, "use_pyarrow": True}
        with plain_name(self.path) as name, pyogrio.open_arrow(name, layer=self.layer, **options) as (info, reader):
            yield reader, info["geometry_name"] or "wkb_geometry"


def _geo(file: pq.ParquetFile) -> tuple[str, Any]:
    """Geometry column and CRS of a GeoParquet file, by its own metadata."""
    try:
        document = json_value((file.metadata.metadata or {})[b"geo"])
        name = document["primary_column"]
        column = dict(document["columns"][name])
        encoding = column["encoding"]
    except (KeyError, TypeError) as error:
        raise ValueError("a Parquet file without geometries") from error
    if encoding != "WKB":
        raise ValueError(f"geometries encoded as {encoding}, not WKB")
    return name, column.get("crs", "OGC:CRS84")


@dataclass
class _Gathered:
    """Outlines so far."""

    names: dict[str, int] = field(default_factory=dict)
    polygons: list[NDArray[np.float64]] = field(default_factory=list)
    rings: list[NDArray[np.int32]] = field(default_factory=list)
    counts: list[NDArray[np.int32]] = field(default_factory=list)
    corners: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, parts: NDArray[Any], names: list[str | None], areas: NDArray[np.float64], unit: float) -> int:
        """Take in polygons, each of one part; returns how many corners they have."""
        places = [-1 if name is None else self.names.setdefault(str(name), len(self.names)) for name in names]
        rings, owner = shapely.get_rings(parts, return_index=True)
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        steps = np.rint(xy / unit).astype(np.int32)
        self.polygons.append(np.column_stack([np.array(places, np.float64), areas]))
        self.rings.append(np.bincount(owner, minlength=len(parts)).astype(np.int32))
        self.counts.append(np.bincount(ring, minlength=len(rings)).astype(np.int32))
        self.corners.append(steps)
        return len(steps)


def _gather(
    source: _Source, labels: LabelRaster, factor: int, tolerance_px: float, most_corners: int
) -> Outlines | None:
    """All outlines; ``None`` where they have too many corners."""
    gathered, corners, unit = _Gathered(), 0, factor / STEPS
    frame = shapely.box(0, 0, labels.grid.width, labels.grid.height)
    for geometries, names, areas in source.batches(labels):
        far = (np.abs(shapely.bounds(geometries)) > _FARTHEST * unit).any(axis=1)  # corners are told in 32 bits
        geometries[far] = shapely.clip_by_rect(geometries[far], *_around(labels.grid))
        parts, origin = shapely.get_parts(geometries, return_index=True)
        wanted = (shapely.get_type_id(parts) == _POLYGON) & shapely.intersects(parts, frame)
        wanted &= shapely.area(parts) >= tolerance_px**2
        kept = shapely.simplify(parts[wanted], tolerance_px)
        origin = origin[wanted]
        corners += gathered.add(kept, [names[row] for row in origin], areas[origin], unit)
        if corners > most_corners:
            return None
    empty = np.empty((0, 2), np.int32)
    steps = np.concatenate([empty, *gathered.corners])
    return Outlines(
        unit_px=unit,
        names=tuple(gathered.names),
        area_unit=(source.area or "").removeprefix("area").removeprefix("_"),
        tolerance_px=tolerance_px,
        polygons=np.concatenate([empty.astype(np.float64), *gathered.polygons]),
        ring_counts=np.concatenate([empty[:, 0], *gathered.rings]),
        corner_counts=np.concatenate([empty[:, 0], *gathered.counts]),
        corners=np.diff(steps, axis=0, prepend=np.zeros((1, 2), np.int32)),
    )


def _around(grid: Grid) -> tuple[float, float, float, float]:
    """A frame around a map, as wide and high as that on every side."""
    return -float(grid.width), -float(grid.height), 2.0 * grid.width, 2.0 * grid.height


def _packed(values: NDArray[Any]) -> str:
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return b64encode(zlib.compress(little.tobytes(), 9)).decode("ascii")
