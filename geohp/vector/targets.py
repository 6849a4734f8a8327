"""Files of polygons to be: which formats there are, and what may be written where, known before any work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geohp.classes import unprintable
from geohp.errors import OutputError, VectorError
from geohp.files.checks import check_output, check_suffix, refuse_existing
from geohp.files.plain_names import plain_name
from geohp.raster.grid import transformer

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".fgb": "FlatGeobuf", ".parquet": "Parquet"}
"""What GDAL calls the formats, by suffix."""

_NO_BEGINNING = "`~!@#$%^&*()+-={}|[]\\:\";'<>?,./"
"""What GDAL does not let names of layers begin with."""


def check_target(
    path: str | Path,
    *,
    layer: str = "landcover",
    overwrite: bool = False,
    inputs: Iterable[str | Path] = (),
    input_layer: str | None = None,
) -> Path:
    """Refuse now what :func:`geohp.vector.writing.write_polygons` would refuse later, before hours of work.

    Args:
        path: the file to be written.
        layer: name of the layer.
        overwrite: the layer, or the whole file in formats of one layer, may be replaced.
        inputs: files that are read; none of them is replaced, not even with ``overwrite``.
        input_layer: that is read of a file with several; the only one by default.

    Raises:
        OutputError: see :func:`geohp.vector.writing.write_polygons`.
    """
    path = check_suffix(path, tuple(DRIVERS), "polygons")
    suffix = path.suffix.lower()
    if suffix == ".gpkg" and not _can_be_layer(layer):
        raise OutputError(f"{layer!r} is no name of a layer that GeoPackages take", "choose another")
    inputs = list(inputs)
    check_output(path, overwrite=overwrite or suffix == ".gpkg", inputs=[] if suffix == ".gpkg" else inputs)
    if suffix == ".gpkg" and path.exists():
        present = {name.lower() for name in layers_of(path)}
        is_read = any(Path(source).exists() and path.samefile(source) for source in inputs)
        read = (input_layer or layer).lower()
        if is_read and read in present and read in (layer.lower(), class_table(layer).lower()):
            raise OutputError(
                f"{path}: its layer {input_layer or layer!r} is the input itself", "choose another layer or file"
            )
    if not overwrite:
        refuse_taken(path, layer)
    return path


def check_on_earth(path: str | Path, crs: Any) -> None:
    """Refuse GeoJSON, which is in degrees of WGS 84, of polygons from whose CRS nothing leads there.

    Args:
        path: the file to be written.
        crs: of the polygons, as :func:`geohp.raster.grid.parse_crs` takes it; ``None`` for none.

    Raises:
        VectorError: with the formats that will do.
    """
    if crs is None or Path(path).suffix.lower() != ".geojson":
        return
    try:
        transformer(crs, "EPSG:4326")
    except VectorError as error:
        raise VectorError(f"{path}: {error.problem}, which GeoJSON is in", "write .gpkg, .fgb or .parquet") from error


def _can_be_layer(name: str) -> bool:
    """Whether a layer may have a name: not those of a GeoPackage's own tables, nor what GDAL refuses or cuts."""
    own = name.lower().startswith(("gpkg", "sqlite_", "rtree_")) or name.lower() == "layer_styles"
    return bool(name.strip()) and not own and name[0] not in _NO_BEGINNING and not unprintable(name)


def refuse_taken(path: Path, layer: str) -> None:
    """Refuse a file that is there already, or has such a layer where it may have several.

    Raises:
        OutputError: with the remedy.
    """
    if path.suffix.lower() != ".gpkg":
        refuse_existing(path)
    elif path.exists():
        present = {name.lower() for name in layers_of(path)}
        taken = [name for name in (layer, class_table(layer)) if name.lower() in present]
        if taken:
            raise OutputError(
                f"{path} has a layer {taken[0]!r} already",
                "choose another file or layer, or replace it by {option}",
                option="overwrite",
                value=True,
            )


def class_table(layer: str) -> str:
    """Name of the table with a layer's classes."""
    return "classes" if layer == "landcover" else f"{layer}_classes"


def has_column(path: Path, column: str, layer: str = "landcover") -> bool:
    """Whether a layer of a file of polygons has a column."""
    import pyogrio

    with plain_name(path) as name:
        return column in pyogrio.read_info(name, layer=layer)["fields"]


def layers_of(path: Path) -> list[str]:
    """Names of the layers of a GeoPackage.

    Raises:
        OutputError: it is none.
    """
    import pyogrio  # and with it pandas, where there is a GeoPackage to look into

    try:
        with plain_name(path) as name:
            return [str(layer) for layer in pyogrio.list_layers(name)[:, 0]]
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise OutputError(f"{path} exists but is no readable GeoPackage ({error})", "choose another name") from error
