"""Polygons into files, batch by batch, whatever their number: GeoPackage, FlatGeobuf, GeoJSON and GeoParquet."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely

from geohp.errors import VectorError
from geohp.files.plain_names import plain_name

logger = logging.getLogger(__name__)

_ROWS = 2**16  # in a row group of a Parquet file

_OPTIONS = {
    "GPKG": {},
    "FlatGeobuf": {},
    # Seven decimals, the driver's default, are a centimetre: too coarse for centimetre pixels.
    "GeoJSON": {"RFC7946": "YES", "COORDINATE_PRECISION": "9"},
}


class Batches:
    """Frames on their way into a file, all with the columns of the first.

    Attributes:
        crs: of the polygons.
        geometry_type: ``Polygon`` or ``MultiPolygon``, which all are made.
        rows: how many have been handed out.
    """

    def __init__(
        self, frames: Iterable[geopandas.GeoDataFrame], empty: geopandas.GeoDataFrame, *, several_parts: bool = False
    ) -> None:
        """Look at the first frame.

        Args:
            frames: there may be none.
            empty: one without rows, to tell the columns if there is none.
            several_parts: polygons of any frame may have several; otherwise the first one tells.
        """
        self.rows = 0
        frames = iter(frames)
        first = next(frames, empty)
        self.crs = first.crs
        several_parts |= bool((first.geom_type == "MultiPolygon").any())
        self.geometry_type = "MultiPolygon" if several_parts else "Polygon"
        self._geometry = str(first.geometry.name)
        self.schema = self._schema(first)
        self._frames = chain([first], frames)
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The rows as Arrow; what goes wrong in making them is kept in ``failure``, for GDAL would lose it."""
        try:
            for frame in self._frames:
                self.rows += len(frame)
                yield from self._table(frame).cast(self.schema).to_batches()
        except BaseException as error:
            self.failure = error
            raise

    def _table(self, frame: geopandas.GeoDataFrame) -> Any:
        geometry = frame.geometry.array
        if self.geometry_type == "MultiPolygon":
            geometry = [g if isinstance(g, shapely.MultiPolygon) else shapely.MultiPolygon([g]) for g in geometry]
        plain = pa.Table.from_pandas(frame.drop(columns=self._geometry), preserve_index=False)
        # As polygonize makes them, and GeoParquet's metadata say: what was cut at an edge may go round otherwise.
        oriented = shapely.orient_polygons(np.asarray(geometry, object))
        encoded = pa.array(shapely.to_wkb(oriented, output_dimension=2), pa.binary())
        return plain.append_column(self._geometry, encoded).replace_schema_metadata()

    def _schema(self, frame: geopandas.GeoDataFrame) -> Any:
        """Of a table without rows pandas cannot say that a column is one of texts."""
        schema = self._table(frame).schema
        return pa.schema([pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema])

    @property
    def geometry_name(self) -> str:
        """The geometry's column."""
        return self._geometry


def write_batches(batches: Batches, draft: Path, layer: str, driver: str) -> None:
    """Write polygons through GDAL.

    Args:
        batches: the polygons.
        draft: file to write, or a GeoPackage to write the layer into in the place of one of its name.
        layer: name of the layer.
        driver: of :data:`geohp.vector.targets.DRIVERS`. GeoJSON is reprojected to WGS 84, as its standard demands;
            polygons without a CRS keep their coordinates in it.
    """
    options: dict[str, str] = dict(_OPTIONS[driver])
    if driver == "GeoJSON" and batches.crs is None:
        del options["RFC7946"]  # by which all that lies beyond 180 degrees would be cut away
        logger.warning(
            "polygons without a coordinate reference system: programs take their coordinates in GeoJSON for degrees; "
            "GeoPackage, FlatGeobuf and Parquet say that there is none"
        )
    if driver == "GPKG" and batches.crs is None and pyogrio.__gdal_version__ < (3, 9):
        options["SRID"] = "-1"  # "undefined Cartesian"; later releases can say that there is none
    reader = pa.RecordBatchReader.from_batches(batches.schema, iter(batches))
    try:
        with _remembered_interrupts(batches), warnings.catch_warnings(), plain_name(draft) as name:
            warnings.filterwarnings("ignore", message=".*(crs|SRS).*")  # of polygons without one
            pyogrio.write_arrow(
                reader,
                name,
                layer=layer,
                driver=driver,
                geometry_name=batches.geometry_name,
                geometry_type=batches.geometry_type,
                crs=None if batches.crs is None else batches.crs.to_wkt(),
                **options,
            )
    except Exception as error:
        if batches.failure is not None:
            raise batches.failure from None
        if isinstance(error, pyogrio.errors.FieldError):  # such as durations, which Parquet has
            problem = f"a column of the polygons holds what {driver} cannot ({error})"
            raise VectorError(problem, "give it as numbers or texts, or write .parquet") from error
        raise
    if batches.failure is not None:
        raise batches.failure
    if driver != "GPKG":  # whose writes are transactions
        _check_end(draft, driver, batches.rows)


@contextmanager
def _remembered_interrupts(batches: Batches) -> Iterator[None]:
    """Keep in ``failure`` what a handler of signals raises, too: between two lines of ours GDAL and Arrow lose it."""

    def handle(handler: Callable[..., object], number: int, frame: object) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            batches.failure = error
            raise

    on_main = threading.current_thread() is threading.main_thread()  # others are never interrupted
    handlers: dict[int, Any] = {n: signal.getsignal(n) for n in signal.valid_signals()} if on_main else {}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number, handler in handlers.items():
            signal.signal(number, partial(handle, handler))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_end(draft: Path, driver: str, rows: int) -> None:
    """Make sure that the last polygon is there: where the last kilobytes find no room as it closes, GDAL is silent.

    Raises:
        OSError: it is not.
    """
    if driver == "GeoJSON":
        with draft.open("rb") as file:
            file.seek(max(0, draft.stat().st_size - 16))
            whole = file.read().rstrip().endswith(b"}")
    else:
        try:
            with plain_name(draft) as name:
                whole = not rows or len(pyogrio.raw.read(name, fids=[rows - 1], columns=[])[2]) == 1
        except (pyogrio.errors.DataSourceError, pyogrio.errors.FeatureError, ValueError):
            whole = False
    if not whole:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_parquet(batches: Batches, draft: Path) -> None:
    """Write a GeoParquet file (version 1.1, WKB)."""
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with pq.ParquetWriter(draft, batches.schema, compression="zstd") as writer:
        for group in _groups(batches):
            corners = shapely.bounds(shapely.from_wkb(group[batches.geometry_name].to_numpy()))
            if len(corners):
                bounds[:2] = np.fmin(bounds[:2], np.nanmin(corners[:, :2], axis=0))
                bounds[2:] = np.fmax(bounds[2:], np.nanmax(corners[:, 2:], axis=0))
            writer.write_table(group)
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": [batches.geometry_type],
            "orientation": "counterclockwise",
            "crs": None if batches.crs is None else batches.crs.to_json_dict(),
        }
        if np.isfinite(bounds).all():
            column["bbox"] = bounds.tolist()
        name = batches.geometry_name
        metadata = {"version": "1.1.0", "primary_column": name, "columns": {name: column}}
        writer.add_key_value_metadata({"geo": json.dumps(metadata)})


def _groups(batches: Batches) -> Iterator[Any]:
    """Batches joined until they make a row group."""
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    yield pa.Table.from_batches(waiting, batches.schema)
