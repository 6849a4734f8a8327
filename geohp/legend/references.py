"""References for naming, block by block on the pixel grid of a label map: polygons, points or a raster of classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import geopandas
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

from geohp.classes import is_colour
from geohp.errors import DataError, SceneError, UnreachableError
from geohp.legend.features import Features, OnGrid, check_crs, read_features
from geohp.raster.block import Block
from geohp.raster.read.labels import LabelRaster, open_labels
from geohp.raster.read.unchanged import UnchangedFiles
from geohp.raster.sources.vector_files import layers_with_geometry, vector_parts


class Sample(NamedTuple):
    """What is known in a block.

    Attributes:
        where: an index that takes (n,) values out of a block's (rows, cols).
        keys: (n,) of the classes.
        objects: (n,) int64, of which polygon or point, see :class:`.Features`; ``None`` of a raster.
    """

    where: Any
    keys: NDArray[Any]
    objects: NDArray[np.int64] | None


class Reference(Protocol):
    """Classes that are known at some pixels.

    Attributes:
        name: the reference in messages.
        unit: what is counted, "pixels" or "points".
        colours: of classes that have one, by name.
        notes: what was left out, in sentences.
        outside: points that do not lie on the map.
        unchanged: tells whether its file is still what it was when it was opened.
    """

    name: str
    unit: str
    unchanged: UnchangedFiles
    colours: dict[str, str]
    notes: tuple[str, ...]
    outside: int

    def sample(self, block: Block) -> Sample | None:
        """What is known in a block; ``None`` where nothing is."""

    def class_name(self, key: int) -> str:
        """What the class of a key is called."""


def check_reference(source: Any) -> Any:
    """A reference as it came, a local path as :class:`~pathlib.Path`.

    Raises:
        DataError: a local file that is not there.
    """
    if isinstance(source, str) and "://" not in source and not source.startswith("/vsi"):
        source = Path(source)
    if source is None:
        raise DataError("there is no reference", "give polygons, points or a raster of classes")
    if isinstance(source, Path) and not source.exists():
        raise DataError(f"{source}: no such file", "check the path of the reference")
    return source


@contextmanager
def open_reference(source: Any, labels: OnGrid, *, field: str | None, layer: str | None) -> Iterator[Reference]:
    """Open a reference for a label map, or for a scene; what kind it is tells its content.

    Args:
        source: a vector file that GDAL reads or GeoParquet, a GeoDataFrame, a raster of classes or an array of them.
        labels: the map.
        field, layer: see :func:`geohp.legend.features.read_features`.

    Raises:
        DataError: it cannot be used as a reference for this map.
        SceneError: it cannot be opened or read.
        VectorError: a raster that holds no classes, or a CRS that is not understood.
    """
    if labels.grid.gcps:
        problem = f"{labels.name} is placed by ground control points"
        raise DataError(problem, "warp it to a map projection first (gdalwarp)")
    is_path = isinstance(source, str | Path)
    name = str(source) if is_path else "the reference"
    source = check_reference(source)
    layers = layers_with_geometry(source) if is_path else None
    unchanged = UnchangedFiles(name, vector_parts(source) if is_path else [])
    if isinstance(source, geopandas.GeoDataFrame) or layers:
        features = read_features(source, labels, field=field, layer=layer)
        kind = _Points if features.points else _Polygons
        yield kind(features, name, labels, unchanged)
        return
    with ExitStack() as stack:
        try:
            raster = stack.enter_context(open_labels(source))
        except UnreachableError:
            raise
        except SceneError as error:
            lacks = "has no layer with geometries" if layers is not None else "cannot be opened as polygons or points"
            problem = f"{name} {lacks}, and is no raster that can be read"
            raise DataError(problem, "give a reference that is one") from error
        if field is not None or layer is not None:
            raise DataError(f"{name} is a raster", "leave the field and the layer out, which polygons and points have")
        check_crs(raster.grid.crs, name, labels)
        yield _Raster(raster, stack.enter_context(raster.warped(labels.grid)), name)


class _Polygons:
    """Polygons: a pixel has the class of the last polygon that covers its centre."""

    unit, outside = "pixels", 0

    def __init__(self, features: Features, name: str, labels: OnGrid, unchanged: UnchangedFiles) -> None:
        self.name, self.colours, self.notes, self.unchanged = name, dict[str, str](), features.notes, unchanged
        self._features = features
        # Of all rings: a hole outside of its polygon is filled, as QGIS shows it.
        self._tree = shapely.STRtree(shapely.envelope(shapely.boundary(features.geometries)))

    def sample(self, block: Block) -> Sample | None:
        frame = shapely.box(block.col, block.row, block.right, block.bottom)
        here = np.sort(self._tree.query(frame))  # in the order of the file, later ones on top
        if not len(here):
            return None
        places = rasterio.features.rasterize(
            zip(self._features.geometries[here], range(1, len(here) + 1), strict=True),
            out_shape=block.shape,
            transform=Affine.translation(block.col, block.row),
            dtype="int32",
        )
        covered = places > 0
        features = here[places[covered] - 1]
        return Sample(covered, self._features.keys[features], self._features.objects[features])

    def class_name(self, key: int) -> str:
        return self._features.names[key]


class _Points:
    """Points: each counts once, at the pixel that it lies on."""

    unit = "points"

    def __init__(self, features: Features, name: str, labels: OnGrid, unchanged: UnchangedFiles) -> None:
        self.name, self.colours, self.notes, self.unchanged = name, dict[str, str](), features.notes, unchanged
        self._names = features.names
        col, row = np.floor(shapely.get_coordinates(features.geometries)).T
        inside = (row >= 0) & (row < labels.grid.height) & (col >= 0) & (col < labels.grid.width)
        self.outside = int((~inside).sum())
        rows = row[inside].astype(np.intp)
        down = np.argsort(rows, kind="stable")
        self._rows, self._cols = rows[down], col[inside].astype(np.intp)[down]
        self._keys, self._objects = features.keys[inside][down], features.objects[inside][down]

    def sample(self, block: Block) -> Sample | None:
        first, last = np.searchsorted(self._rows, [block.row, block.bottom])
        cols = self._cols[first:last] - block.col
        here = (cols >= 0) & (cols < block.width)
        if not here.any():
            return None
        where = (self._rows[first:last][here] - block.row, cols[here])
        return Sample(where, self._keys[first:last][here], self._objects[first:last][here])

    def class_name(self, key: int) -> str:
        return self._names[key]


class _Raster:
    """A raster of classes, brought to the map's grid by the nearest pixel; its numbers are the keys."""

    unit, outside = "pixels", 0
    notes: tuple[str, ...] = ()

    def __init__(self, raster: LabelRaster, warped: LabelRaster, name: str) -> None:
        self.name, self._warped, self.unchanged = name, warped, raster.unchanged
        # A colour table has no names: "class 7" would look like the name of a cluster.
        named = () if raster.labels is None else raster.classes
        self._names = {entry.id: text for entry in named if (text := " ".join(entry.name.split()))}
        coloured = [entry for entry in reversed(raster.classes) if is_colour(entry.colour)]
        self.colours = {self.class_name(entry.id): entry.colour for entry in coloured}

    def sample(self, block: Block) -> Sample | None:
        values, valid = self._warped.read(block)
        return Sample(valid, values[valid], None) if valid.any() else None

    def class_name(self, key: int) -> str:
        return self._names.get(key, str(key))
