"""Writing polygons: a GeoPackage with layer, classes and QGIS style, whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio

from geohp.classes import LandCoverClass, classes_from_json
from geohp.errors import OutputError
from geohp.outputs import check_output
from geohp.vector.labels import complete_classes
from geohp.vector.style import categorised_qml

_SUFFIXES = (".gpkg", ".geojson", ".fgb", ".parquet")
_FAILURES = (OSError, sqlite3.Error, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
_SIDECARS = ("-journal", "-wal", "-shm")

# As QGIS itself creates it when a style is saved into a GeoPackage.
_STYLE_TABLE = """
CREATE TABLE IF NOT EXISTS layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)"""


def write_polygons(
    polygons: geopandas.GeoDataFrame,
    path: str | Path,
    *,
    classes: Sequence[LandCoverClass] | None = None,
    layer: str = "landcover",
    overwrite: bool = False,
) -> Path:
    """Write land-cover polygons to a file, by its suffix.

    ``.gpkg`` gets the layer, an attribute table of the classes (id, name, colour) named ``classes``
    (``<layer>_classes`` beside a layer of another name), and the QGIS style that colours the layer by class.
    Other layers of an existing GeoPackage are kept. ``.geojson`` is reprojected to WGS 84 as its standard demands,
    ``.fgb`` and ``.parquet`` keep the CRS; these hold the one layer and are replaced as a whole.

    The file is made beside its place under a temporary name and moved there when complete; an existing file stays as it
    is if anything fails.

    Args:
        polygons: from :func:`geohp.vector.polygonize`.
        path: the file; its folder must exist.
        classes: names and colours; by default those that ``polygons`` carries.
        layer: name of the layer.
        overwrite: replace the layer (and its table of classes) if the GeoPackage has it already, or the whole file
            in the other formats.

    Returns:
        the path.

    Raises:
        OutputError: an unknown suffix, a folder that is missing or cannot be written to, something there already
            without ``overwrite``, a GeoPackage that another program is writing to.
    """
    path = check_target(path, layer=layer, overwrite=overwrite)
    legend = _legend(polygons, classes)
    with _beside(path) as draft:
        if path.suffix.lower() == ".gpkg":
            _write_geopackage(polygons, path, draft, legend, layer)
        else:
            _write_plain(polygons, path, draft, layer)
    return path


def check_target(path: str | Path, *, layer: str = "landcover", overwrite: bool = False) -> Path:
    """Refuse now what :func:`write_polygons` would refuse later, before hours of work.

    Args:
        path: the file to be written.
        layer: name of the layer.
        overwrite: the layer, or the whole file in formats of one layer, may be replaced.

    Raises:
        OutputError: see :func:`write_polygons`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise OutputError(
            f"{path} has the suffix {suffix or '(none)'!r}: polygons are written to {_listed(_SUFFIXES)}."
        )
    check_output(path, overwrite=overwrite or suffix == ".gpkg")
    if path.exists() and suffix == ".gpkg":
        present = {str(name).lower() for name in _layers(path)}
        taken = [name for name in (layer, _class_table(layer)) if name.lower() in present]
        if taken and not overwrite:
            raise OutputError(
                f"{path} has a layer {taken[0]!r} already: choose another file or layer, "
                "or use --overwrite to replace it."
            )
    return path


def _class_table(layer: str) -> str:
    return "classes" if layer == "landcover" else f"{layer}_classes"


def _write_geopackage(
    polygons: geopandas.GeoDataFrame,
    path: Path,
    draft: Path,
    legend: Sequence[LandCoverClass],
    layer: str,
) -> None:
    table = _class_table(layer)
    if path.exists():
        _snapshot(path, draft)
    columns = pd.DataFrame(
        {
            "id": np.array([c.id for c in legend], np.int64),
            "name": np.array([c.name for c in legend], object),
            "colour": np.array([c.colour for c in legend], object),
        }
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(crs|SRS).*")  # of polygons without one
        _write(polygons, draft, layer, driver="GPKG", **_undefined_srs(polygons))
        pyogrio.write_dataframe(columns, draft, layer=table, driver="GPKG", append=False)
    with closing(sqlite3.connect(draft)) as database, database:
        _store_style(database, layer, polygons.geometry.name, categorised_qml(legend))


def _write_plain(polygons: geopandas.GeoDataFrame, path: Path, draft: Path, layer: str) -> None:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            polygons.to_parquet(draft)
        except ImportError as error:
            raise OutputError(f"{path} needs the package pyarrow: pip install pyarrow, or write a .gpkg.") from error
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(crs|SRS).*")  # of polygons without one
        if suffix == ".fgb":
            # The index would reorder the rows.
            _write(polygons, draft, layer, driver="FlatGeobuf", SPATIAL_INDEX="NO")
        else:
            geographic = polygons if polygons.crs is None else polygons.to_crs(4326)
            # Seven decimals, the driver's default, are a centimetre: too coarse for centimetre pixels.
            _write(geographic, draft, layer, driver="GeoJSON", RFC7946="YES", COORDINATE_PRECISION="9")


def _write(polygons: geopandas.GeoDataFrame, draft: Path, layer: str, **options: Any) -> None:
    multi = bool((polygons.geom_type == "MultiPolygon").any())
    pyogrio.write_dataframe(
        polygons,
        draft,
        layer=layer,
        geometry_type="MultiPolygon" if multi else "Polygon",
        promote_to_multi=multi,
        **options,
    )


def _undefined_srs(polygons: geopandas.GeoDataFrame) -> dict[str, str]:
    """Without a CRS, the GeoPackage standard's "undefined Cartesian" system, number -1."""
    return {"SRID": "-1"} if polygons.crs is None else {}


def _store_style(database: sqlite3.Connection, layer: str, geometry_column: str, qml: str) -> None:
    """Add the layer's default style as QGIS would, and list the table of styles among the contents."""
    geometry_column = _geometry_column(database, layer) or geometry_column
    database.execute(_STYLE_TABLE)
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description) "
        "SELECT 'layer_styles', 'attributes', 'layer_styles', '' "
        "WHERE NOT EXISTS (SELECT 1 FROM gpkg_contents WHERE table_name = 'layer_styles')"
    )
    database.execute("DELETE FROM layer_styles WHERE f_table_name = ?", (layer,))
    database.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
        "styleQML, styleSLD, useAsDefault, description, owner, ui) VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', NULL)",
        (layer, geometry_column, layer[:30], qml, "Land cover by class"),
    )


def _geometry_column(database: sqlite3.Connection, layer: str) -> str | None:
    found = database.execute("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)).fetchone()
    return None if found is None else str(found[0])


def _layers(path: Path) -> list[str]:
    try:
        return [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except _FAILURES as error:
        raise OutputError(f"{path} exists but is no readable GeoPackage ({error}): choose another name.") from error


def _snapshot(path: Path, draft: Path) -> None:
    """Copy a GeoPackage, with what another program has committed but not yet moved into the main file."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(draft)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    pending = path.with_name(path.name + "-wal")
    if pending.exists() and pending.stat().st_size:
        # Left beside the new file, it would be taken for changes to that.
        raise OutputError(f"{path} is open for writing in another program: close it there (QGIS: remove its layers).")
    shutil.copymode(path, draft)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name in a temporary folder beside ``path``; what is written there takes the place of ``path`` at the end."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose a folder you may write to.") from error
    try:
        draft = folder / path.name
        yield draft
        draft.replace(path)
    except OutputError:
        raise
    except _FAILURES as error:
        raise OutputError(f"{path} cannot be written ({error}): what was there is unchanged.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _legend(polygons: geopandas.GeoDataFrame, classes: Sequence[LandCoverClass] | None) -> tuple[LandCoverClass, ...]:
    """The classes given, or those the polygons carry, completed by the names in the table."""
    known = tuple(classes) if classes is not None else ()
    if classes is None and (text := polygons.attrs.get("classes")):
        known = classes_from_json(text)
    present = {c.id for c in known}
    by_default = complete_classes(known, polygons["class_id"].unique())
    if "class_name" not in polygons:
        return by_default
    names = dict(zip(polygons["class_id"], polygons["class_name"], strict=True))
    return tuple(
        c if c.id in present or c.id not in names else LandCoverClass(c.id, str(names[c.id]), c.colour)
        for c in by_default
    )


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + f" or {items[-1]}"
