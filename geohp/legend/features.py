"""Polygons and points as references: the attribute that holds the class, and geometries on a map's pixel grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.warp import transform_bounds

from geohp.classes import one_spelling
from geohp.errors import DataError, VectorError
from geohp.files.reading import failure_reason
from geohp.raster.grid import Grid, parse_crs
from geohp.raster.sources.vector_files import (
    VECTOR_FAILURES,
    has_usable_coordinates,
    is_parquet,
    layer_info,
    layers_with_geometry,
    read_layer,
)
from geohp.raster.turns import continued, turn_of

# Numbers of rows that programs add by themselves, never classes.
_ROW_NUMBERS = ("id", "fid", "gid", "objectid", "ogc_fid")

_POINT, _LINES, _COLLECTION = 0, (1, 2), 7  # shapely's types

_OTHER_FILE = "mend it or give another file"
_OTHER_REFERENCE = "give polygons, points or a raster"


_PARTS = 20
"""Bits of an object's number that count the parts of one feature."""


class OnGrid(Protocol):
    """What a reference is compared with: a map, or a scene that is to be mapped."""

    @property
    def name(self) -> str:
        """In messages."""

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""


@dataclass(frozen=True)
class Features:
    """Geometries with a class.

    Attributes:
        geometries: (n,) single points or single polygons, x the column and y the row of a map's pixel grid.
        keys: (n,) places in ``names``.
        objects: (n,) int64, a number of each, the same whatever it is compared with; see :func:`feature_number`.
        names: of the classes; numbers in their order, then texts in the alphabet's.
        points: whether they are points.
        notes: what was left out, in sentences.
    """

    geometries: NDArray[Any]
    keys: NDArray[np.int64]
    objects: NDArray[np.int64]
    names: tuple[str, ...]
    points: bool
    notes: tuple[str, ...]


def read_features(
    source: str | Path | geopandas.GeoDataFrame, labels: OnGrid, *, field: str | None, layer: str | None
) -> Features:
    """Read polygons or points, on the pixel grid of a map.

    Args:
        source: a vector file or a frame.
        labels: the map; it has a transform.
        field: the attribute that holds the class.
        layer: of a file with several.

    Raises:
        DataError: there is no such layer or field, or several to choose from; lines, or points and polygons mixed;
            nothing with a class; no CRS where the map has one, or the other way round.
        VectorError: a CRS that is not understood.
    """
    name = "the reference" if isinstance(source, geopandas.GeoDataFrame) else str(source)
    frame, field = _read(source, name, labels, field, layer)
    texts = _texts(frame[field])
    geometries = shapely.force_2d(np.asarray(frame.geometry.array, object))
    absent = shapely.is_missing(geometries) | shapely.is_empty(geometries)
    strange = ~absent & ~has_usable_coordinates(geometries)
    unnamed = texts.isna().to_numpy(bool)
    notes = _left_out(unnamed & ~absent, f"have no value in the field {field!r}")
    notes += _left_out(absent, "have no geometry")
    notes += _left_out(strange & ~unnamed, "have coordinates that are no numbers")
    usable = ~(absent | strange | unnamed)
    if len(frame) and not usable.any():
        problem = f"{name} has no features with a geometry and a value in the field {field!r}"
        raise DataError(problem, "fill it in first")
    parts, origin = shapely.get_parts(geometries[usable], return_index=True)
    texts = texts[usable].reset_index(drop=True)
    points = _are_points(parts, name)
    names = tuple(sorted(texts.unique(), key=natural))
    keys = pd.Categorical(texts, categories=list(names)).codes.astype(np.int64)[origin]
    placed = on_grid(parts, known_crs(frame.crs), labels.grid)
    finite = ~shapely.is_missing(placed)
    notes += _left_out(~finite, f"lie where {labels.name}'s coordinate reference system does not reach")
    objects = (np.asarray(frame.index, np.int64)[usable][origin] << _PARTS) + _places(origin)
    return Features(placed[finite], keys[finite], objects[finite], names, points, notes)


def feature_number(objects: NDArray[np.int64]) -> NDArray[np.int64]:
    """The features that objects are parts of: their numbers in the file, or rows of the frame, counted from 0."""
    return objects >> _PARTS


def _places(origin: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of parts, sorted by the feature they come from, the place of each among those of its feature."""
    firsts = np.searchsorted(origin, origin)
    return np.arange(len(origin)) - firsts


def check_crs(crs: Any, name: str, labels: OnGrid) -> None:
    """Refuse a reference and a map of which only one says where on Earth it lies.

    Args:
        crs: of the reference; ``None`` where it has none.
        name: the reference in messages.
        labels: the map.

    Raises:
        DataError: with the remedy.
    """
    if (crs is None) == (labels.grid.crs is None):
        return
    without, beside = (name, labels.name) if crs is None else (labels.name, name)
    problem = f"{without} has no coordinate reference system, but {beside} has one"
    raise DataError(problem, f"assign it to {without} first, for the two cannot be compared otherwise")


def known_crs(crs: Any) -> Any:
    """A CRS, but ``None`` for what GeoPackages write where there is none."""
    return None if crs is None or parse_crs(crs).name.lower().startswith("undefined ") else crs


def _read(
    source: str | Path | geopandas.GeoDataFrame, name: str, labels: OnGrid, field: str | None, layer: str | None
) -> tuple[geopandas.GeoDataFrame, str]:
    """The features, and the field with their class."""
    if isinstance(source, geopandas.GeoDataFrame):
        frame = source
    elif is_parquet(source):
        try:
            frame = geopandas.read_parquet(source)
        except VECTOR_FAILURES as error:
            raise DataError(f"{name} cannot be read as GeoParquet ({error})", _OTHER_FILE) from error
    else:
        return _read_layer(source, labels, field, layer)
    if layer is not None:
        raise DataError(f"{name} has no layers to choose from", f"leave the layer {layer!r} out")
    if frame.active_geometry_name is None:
        raise DataError(f"{name} has no geometries", _OTHER_REFERENCE)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{name} has several fields {twice!r}", "rename all but one")
    check_crs(known_crs(frame.crs), name, labels)
    frame = frame.rename(columns=str).reset_index(drop=True)
    dtypes = {str(column): frame[column].dtype for column in frame.columns if column != frame.geometry.name}
    return frame, _choose_field(dtypes, field, name)


def _read_layer(
    path: str | Path, labels: OnGrid, field: str | None, layer: str | None
) -> tuple[geopandas.GeoDataFrame, str]:
    layer = choose_layer(path, layer)
    try:
        info = layer_info(path, layer)
        crs = known_crs(info["crs"])
        check_crs(crs, str(path), labels)
        dtypes = dict(zip(map(str, info["fields"]), info["dtypes"], strict=True))
        field = _choose_field(dtypes, field, str(path))
        # All points are read, for those outside are reported. Polygons may be a whole country's.
        extent = extent_in(labels.grid, crs) if "Polygon" in str(info["geometry_type"]) else None
        return read_layer(path, layer, columns=[field], bbox=extent, fid_as_index=True), field
    except DataError:
        raise
    except VECTOR_FAILURES as error:
        raise DataError(f"{path} cannot be read ({failure_reason(error)})", _OTHER_FILE) from error


def choose_layer(path: str | Path, layer: str | None) -> str:
    """The layer asked for, or the only one."""
    layers = layers_with_geometry(path) or []
    if not layers:
        raise DataError(f"{path} has no layer with geometries", _OTHER_REFERENCE)
    if layer is None and len(layers) > 1:
        problem = f"{path} has several layers ({', '.join(layers)})"
        raise DataError(problem, "say which one with {option}", option="layer")
    if layer is not None and layer not in layers:
        raise DataError(f"{path} has no layer {layer!r} of geometries", f"choose one of {', '.join(layers)}")
    return layer or layers[0]


def _choose_field(dtypes: Mapping[str, Any], field: str | None, name: str) -> str:
    """The field asked for, or the only one of texts or whole numbers that is no row number."""
    fields = ", ".join(dtypes) or "none"
    if field is not None:
        field = str(field)
        if field in dtypes:
            return field
        close = get_close_matches(field, dtypes, n=1, cutoff=0.5)
        remedy = f"did you mean {close[0]!r}?" if close else "choose one of these"
        raise DataError(f"{name} has no field {field!r} (its fields: {fields})", remedy)
    candidates = [text for text, dtype in dtypes.items() if _may_be_classes(dtype) and text.lower() not in _ROW_NUMBERS]
    if len(candidates) != 1:
        problem = f"{name} does not tell which field holds the class (its fields: {fields})"
        raise DataError(problem, "name it with {option}", option="field")
    return candidates[0]


def _may_be_classes(dtype: Any) -> bool:
    kind = pd.api.types
    dtype = np.dtype(dtype) if isinstance(dtype, str) and dtype in np.sctypeDict else dtype
    texts = kind.is_object_dtype(dtype) or kind.is_string_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype)
    return bool(texts or kind.is_integer_dtype(dtype) or kind.is_bool_dtype(dtype))


def _texts(values: Any) -> Any:
    """Attributes as names: 7 and 7.0 become "7"; missing where there is nothing but blanks."""

    def text(value: Any) -> str | None:
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
            return None
        if isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        return one_spelling(" ".join(str(value).split())) or None

    return pd.Series([text(value) for value in values], dtype=object)


def natural(text: str) -> tuple[int, float, str]:
    """Sorts numbers by their value, before texts."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text.casefold()


def _are_points(parts: NDArray[Any], name: str) -> bool:
    kinds = set(shapely.get_type_id(parts).tolist())
    if kinds & {*_LINES}:
        problem = f"{name} holds lines, which cover no pixels"
        raise DataError(problem, "buffer them to polygons, or take points along them")
    if _COLLECTION in kinds:
        raise DataError(f"{name} holds collections within collections of geometries", "take them apart first")
    if len(kinds) > 1:
        raise DataError(f"{name} holds both points and polygons", "give only one kind as the reference")
    return kinds == {_POINT}


def on_grid(parts: NDArray[Any], crs: Any, grid: Grid) -> NDArray[Any]:
    """Geometries with x the column and y the row; ``None`` for those that reach beyond the grid's projection.

    Raises:
        VectorError: there is no way from their CRS to the grid's.
    """
    corners, part = shapely.get_coordinates(parts, return_index=True)
    x, y = corners.T
    if crs is not None:
        here, there = parse_crs(crs), parse_crs(grid.crs)
        try:
            x, y = Transformer.from_crs(here, there, always_xy=True).transform(x, y)
            x = _nearest_turn(x, part, turn_of(there), grid)
        except ProjError as error:
            raise VectorError(
                f"there is no way from {here.name} to {there.name} ({error})", "warp one first"
            ) from error
    a, b, c, d, e, f = (~grid.affine)[:6]
    reached = np.isfinite(x) & np.isfinite(y)
    placed = np.ones(len(parts), bool)
    placed[part[~reached]] = False
    x, y = x[placed[part]], y[placed[part]]
    on_pixels = np.column_stack([a * x + b * y + c, d * x + e * y + f])
    result = np.full(len(parts), None, object)
    result[placed] = shapely.set_coordinates(parts[placed].copy(), on_pixels)
    return result


def _nearest_turn(
    x: NDArray[np.float64], part: NDArray[np.int64], turn: float | None, grid: Grid
) -> NDArray[np.float64]:
    """(n,) coordinates of parts, each by as many turns around the Earth as bring it nearest to a map's middle."""
    if turn is None or not len(x):
        return x
    x = continued(x, part, turn)
    middle = (grid.affine * (grid.width / 2, grid.height / 2))[0]
    firsts = np.flatnonzero(np.diff(part, prepend=-1))
    centres = (np.minimum.reduceat(x, firsts) + np.maximum.reduceat(x, firsts)) / 2
    turns = np.round(np.where(np.isfinite(centres), middle - centres, 0) / turn)
    return x + turn * np.repeat(turns, np.diff(firsts, append=len(x)))


def extent_in(grid: Grid, crs: Any) -> tuple[float, float, float, float] | None:
    """What of the reference can lie on the map, in the reference's CRS; ``None`` where that cannot be told."""
    xs, ys = zip(*(grid.affine * corner for corner in zip(*grid.edges(1), strict=True)), strict=True)
    box = (min(xs), min(ys), max(xs), max(ys))
    if crs is not None:
        try:
            box = transform_bounds(grid.crs, parse_crs(crs).to_wkt(), *box, densify_pts=41)
        except Exception:  # whatever the projection objects to: then all of the reference is read
            return None
    left, bottom, right, top = box
    turn = None if crs is None else turn_of(parse_crs(crs))
    if turn is not None and (left < -turn / 2 or right > turn / 2):  # beyond which the reference does not go on
        return None
    if not (np.isfinite(box).all() and left < right and bottom < top):  # across the antimeridian, at a pole
        return None
    # The map's sides bend in the other CRS, a little more than at the points looked at.
    across, along = 0.01 * (right - left), 0.01 * (top - bottom)
    return left - across, bottom - along, right + across, top + along


def _left_out(rows: NDArray[np.bool_], why: str) -> tuple[str, ...]:
    count = int(rows.sum())
    return (f"{count} of {len(rows)} features {why} and were left out.",) if count else ()
