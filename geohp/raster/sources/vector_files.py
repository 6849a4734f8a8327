"""Vector files: which layers they have, and reading a whole one."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pyogrio

from geohp.errors import SourceError

VECTOR_FAILURES = (OSError, RuntimeError, ValueError)  # pyogrio's and pyarrow's derive from these


def is_parquet(path: str | Path) -> bool:
    """Whether a file is Parquet, whatever it is called."""
    try:
        with Path(path).open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def layers_with_geometry(path: str | Path) -> list[str] | None:
    """Names of the layers that hold geometries; ``None`` where the file is none of vectors."""
    if is_parquet(path):
        return [Path(path).stem]
    try:
        return [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    except VECTOR_FAILURES:
        return None


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
        return geopandas.read_file(path, layer=layer or (layers[0] if layers else None))
    except VECTOR_FAILURES as error:
        remedy = "mend it or name the images" if option is None else "give a file of polygons that GDAL reads"
        raise SourceError(f"{path} cannot be read as a vector file ({error})", remedy) from error
