"""GeoPackages: layers, the table of classes, and styles that QGIS finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio

from geohp.classes import LandCoverClass
from geohp.errors import OutputError
from geohp.files.plain_names import plain_name
from geohp.style import categorised_qml
from geohp.vector.formats import Batches, write_batches
from geohp.vector.targets import class_table, layers_of

FAILURES = (OSError, sqlite3.Error, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)

# As QGIS itself creates it when a style is saved into a GeoPackage.
_STYLE_TABLE = """
CREATE TABLE IF NOT EXISTS layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)"""


def write_geopackage(batches: Batches, path: Path, draft: Path, legend: Sequence[LandCoverClass], layer: str) -> None:
    """Write a layer, its table of classes and its style into a copy of a GeoPackage.

    Args:
        batches: the polygons.
        path: the GeoPackage, which may not exist; its other layers are kept.
        draft: where to make the copy.
        legend: the classes.
        layer: name of the layer. One that is there by this name but for capitals, which are nothing to a GeoPackage,
            is replaced and keeps them.

    Raises:
        OutputError: another program is writing to the GeoPackage.
    """
    present: dict[str, str] = {}
    if path.exists():
        _snapshot(path, draft)
        present = {name.lower(): name for name in layers_of(path)}
    table = class_table(layer)
    layer, table = (present.get(name.lower(), name) for name in (layer, table))
    columns = pd.DataFrame(
        {
            "id": np.array([c.id for c in legend], np.int64),
            "name": np.array([c.name for c in legend], object),
            "colour": np.array([c.colour for c in legend], object),
        }
    )
    write_batches(batches, draft, layer, "GPKG")
    with plain_name(draft) as name:
        pyogrio.write_dataframe(columns, name, layer=table, driver="GPKG", append=False)
    with closing(sqlite3.connect(draft)) as database, database:
        _store_style(database, layer, categorised_qml(legend))


def _store_style(database: sqlite3.Connection, layer: str, qml: str) -> None:
    """Add the layer's default style as QGIS would, and list the table of styles among the contents."""
    geometry_column = _geometry_column(database, layer)
    database.execute(_STYLE_TABLE)
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description) "
        "SELECT 'layer_styles', 'attributes', 'layer_styles', '' "
        "WHERE NOT EXISTS (SELECT 1 FROM gpkg_contents WHERE table_name = 'layer_styles')"
    )
    database.execute("DELETE FROM layer_styles WHERE f_table_name = ?", (layer,))
    database.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
        # The default that QGIS gave the column is no time in the form that the standard wants.
        "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
        "VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', NULL, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
        (layer, geometry_column, layer[:30], qml, "Land cover by class"),
    )


def _geometry_column(database: sqlite3.Connection, layer: str) -> str:
    query = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
    return str(database.execute(query, (layer,)).fetchone()[0])


def _snapshot(path: Path, draft: Path) -> None:
    """Copy a GeoPackage, with what another program has committed but not yet moved into the main file."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(draft)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    pending = path.with_name(path.name + "-wal")
    if pending.exists() and pending.stat().st_size:
        # Left beside the new file, it would be taken for changes to that.
        raise OutputError(f"{path} is open for writing in another program", "close it there (QGIS: remove its layers)")
