"""Vector files: which layers they have, and reading a whole one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError

from geohp.errors import SourceError
from geohp.files.plain_names import plain_name
from geohp.files.reading import check_ends, failure_reason

VECTOR_FAILURES = (OSError, RuntimeError, ValueError, ShapelyError)  # pyogrio's and pyarrow's derive from the first
_LARGEST = 1e15  # coordinates: millimetres to Neptune; geometry overflows with much larger ones


def is_parquet(path: str | Path) -> bool:
    """Whether a file is Parquet, whatever it is called."""
    try:
        check_ends(path)
        with Path(path).open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def vector_parts(path: str | Path) -> list[str]:
    """The files that polygons lie in: their own, and that of the attributes beside a shapefile."""
    path = Path(path)
    suffixes = (".dbf", ".DBF") if path.suffix.lower() == ".shp" else ()
    return [str(path), *(str(part) for suffix in suffixes if (part := path.with_suffix(suffix)).is_file())]


def layers_with_geometry(path: str | Path) -> list[str] | None:
    """Names of the layers that hold geometries; ``None`` where the file is none of vectors."""
    if is_parquet(path):
        return [Path(path).stem]
    try:
        check_ends(path)
        # Warnings are of servers that do not answer, which opening it as a raster tells.
        with warnings.catch_warnings(record=True), plain_name(path) as name:
            return [str(layer) for layer, kind in pyogrio.list_layers(name) if kind is not None]
    except VECTOR_FAILURES:
        return None


def read_layer(path: str | Path, layer: str | None, **options: Any) -> geopandas.GeoDataFrame:
    """The features of a layer; geometries that cannot be represented (surfaces of triangles, rings left open) are none.

    Args:
        path: a file that GDAL reads.
        layer: its name; ``None`` where there is but one.
        options: pyogrio's, such as ``columns`` and ``bbox``.

    Raises:
        one of :data:`VECTOR_FAILURES`: it cannot be read.
    """
    check_ends(path)
    with warnings.catch_warnings(record=True), plain_name(path) as name:  # a warning a geometry
        try:
            frame = pyogrio.read_dataframe(name, layer=layer, on_invalid="warn", **options)
        except IndexError as error:  # pyogrio's, of a file without any layer
            raise ValueError("no layers") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise ValueError("no geometries")
    return frame


def layer_info(path: str | Path, layer: str | None) -> dict[str, Any]:
    """What there is to know of a layer before it is read, as pyogrio tells it.

    Raises:
        one of :data:`VECTOR_FAILURES`: it cannot be read.
    """
    with plain_name(path) as name:
        return dict(pyogrio.read_info(name, layer=layer))


def has_usable_coordinates(geometries: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of (n,) geometries have coordinates that are numbers, and not too large to compute with."""
    corners, number = shapely.get_coordinates(geometries, return_index=True)
    usable = np.ones(len(geometries), bool)
    usable[number[~(np.abs(corners) < _LARGEST).all(axis=1)]] = False  # NaN is not smaller than anything
    return usable


def read_vectors(path: Path, layer: str | None = None, *, option: str | None = None) -> geopandas.GeoDataFrame:
    """All features of a layer of geometries.

    Args:
        path: the file.
        layer: its name; needed where there are several.
        option: that names it, for messages; ``None`` where there is no such choice.

    Raises:
        SourceError: it cannot be read, has no such layer, or several and none is named.
    """
    layers = layers_with_geometry(path) or []
    if layer is not None and layers and layer not in layers:
        raise SourceError(f"{path} has no layer {layer!r}", f"it has {', '.join(layers)}")
    if layer is None and len(layers) > 1:
        remedy = "keep one of them in a file of its own" if option is None else "name one of them with {option}"
        raise SourceError(f"{path} has several layers ({', '.join(layers)})", remedy, option=option)
    try:
        if is_parquet(path):
            return geopandas.read_parquet(path)
        return read_layer(path, layer or (layers[0] if layers else None))
    except VECTOR_FAILURES as error:
        remedy = "mend it or name the images" if option is None else "give a file of polygons that GDAL reads"
        raise SourceError(f"{path} cannot be read as a vector file ({failure_reason(error)})", remedy) from error
