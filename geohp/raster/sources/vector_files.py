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


def read_vectors(path: Path) -> geopandas.GeoDataFrame:
    """All features of a file with one layer of geometries.

    Raises:
        SourceError: it cannot be read, or has several.
    """
    layers = layers_with_geometry(path) or []
    if len(layers) > 1:
        raise SourceError(f"{path} has several layers ({', '.join(layers)})", "keep one of them in a file of its own")
    try:
        if is_parquet(path):
            return geopandas.read_parquet(path)
        return geopandas.read_file(path, layer=layers[0] if layers else None)
    except VECTOR_FAILURES as error:
        raise SourceError(f"{path} cannot be read as a vector file ({error})", "mend it or name the images") from error
