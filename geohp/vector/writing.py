"""Writing polygons: to the format that the suffix names, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import pandas as pd

from geohp.classes import LandCoverClass, classes_from_json
from geohp.errors import VectorError
from geohp.files.atomic import atomic_write
from geohp.files.checks import check_output
from geohp.files.unfinished import may_replace
from geohp.options import keywords
from geohp.raster.area_of_interest import area_files
from geohp.raster.read.labels import complete_classes
from geohp.style import categorised_qml
from geohp.vector.formats import Batches, write_batches, write_parquet
from geohp.vector.geopackage import FAILURES, write_geopackage
from geohp.vector.polygonize import PolygonizeOptions, open_polygons
from geohp.vector.targets import DRIVERS, check_on_earth, check_target, refuse_taken

if TYPE_CHECKING:
    from xarray import DataArray


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
    Other layers of an existing GeoPackage are kept. ``.geojson`` is reprojected to WGS 84 as its standard demands
    (where polygons have no CRS, coordinates stay as they are, with a warning),
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
        VectorError: a frame of other things than polygons with a class, or with columns that no file can hold; GeoJSON
            of a CRS from which nothing leads to WGS 84.
    """
    path = check_target(path, layer=layer, overwrite=overwrite)
    _check_frame(polygons, path)
    try:
        batches = Batches([polygons], polygons)
    except (ValueError, TypeError, NotImplementedError) as error:  # as pyarrow has them
        problem = f"a column of the polygons holds what no file can ({' '.join(map(str, error.args))})"
        raise VectorError(problem, "give each texts or numbers of one kind") from error
    write_layer(batches, path, _legend(polygons, classes), layer, overwrite=overwrite)
    return path


def _check_frame(polygons: Any, path: Path) -> None:
    """Refuse a frame that is none of land-cover polygons, or whose columns a file cannot tell apart.

    Raises:
        VectorError: with the remedy.
    """
    if not isinstance(polygons, geopandas.GeoDataFrame) or polygons.active_geometry_name is None:
        raise VectorError("what is to be written is no GeoDataFrame", "give what geohp.polygonize returns")
    names = [str(name).lower() for name in polygons.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise VectorError(f"two columns are called {twice!r}, if only but for capitals", "rename one")
    if path.suffix.lower() == ".gpkg":
        numbers = polygons.iloc[:, names.index("fid")] if "fid" in names else pd.Series(dtype=int)
        taken = "geom" if pd.api.types.is_integer_dtype(numbers) and numbers.is_unique else "fid"
        if taken in names and taken != polygons.active_geometry_name:
            raise VectorError(f"GeoPackages have a column {taken!r} of their own", "rename that of the polygons")
    numbered = "class_id" in polygons and pd.api.types.is_integer_dtype(polygons["class_id"])
    if not numbered or polygons["class_id"].hasnans:
        raise VectorError("the polygons have no column 'class_id' of whole numbers", "add the label of each")
    unlike = ~polygons.geom_type.isin(["Polygon", "MultiPolygon"])
    if unlike.any():
        kind = next((kind for kind in polygons.geom_type[unlike] if isinstance(kind, str)), "nothing")
        raise VectorError(f"{int(unlike.sum())} of {len(polygons)} rows hold no polygon but {kind}", "leave them out")


@dataclass(frozen=True, kw_only=True)
class PolygonFileOptions(PolygonizeOptions):
    """All that :func:`polygonize_file` takes besides labels and path; described there."""

    layer: str = "landcover"
    qml: bool = False
    overwrite: bool = False


@keywords(PolygonFileOptions)
def polygonize_file(labels: str | Path | DataArray, path: str | Path, options: PolygonFileOptions) -> int:
    """Turn a label map of any size into a file of polygons, in memory that does not grow with the map.

    Memory does grow, slowly, with the number of regions, and with the outlines of those that are not complete yet.
    Polygons come in the order in which they are completed.

    Args:
        labels: as for :func:`geohp.polygonize`, as are all arguments that are not described here.
        path, layer, overwrite: as for :func:`write_polygons`.
        qml: also write QGIS's style beside the file; a GeoPackage carries it in any case.

    Returns:
        how many polygons there are.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: no label map (floats, several bands, see ``any_values``), or an impossible argument.
        SourceError: no area of interest, or one that lies beside the raster.
        ConfigError: no legend, that of another model, or one that names a label that the raster says it does not have.
        OutputError: see :func:`write_polygons`.
    """
    path = check_target(
        path,
        layer=options.layer,
        overwrite=may_replace(Path(path), overwrite=options.overwrite),
        inputs=area_files(options),
        input_layer=options.aoi_layer,
    )
    if options.qml and path.suffix.lower() != ".gpkg":
        style = path.with_suffix(".qml")
        check_output(style, overwrite=may_replace(path, style, overwrite=options.overwrite))
    with open_polygons(labels, options) as polygons:
        _check_frame(polygons.empty(), path)
        batches = Batches(polygons.batches(), polygons.empty(), several_parts=polygons.clip is not None)
        asked = options.overwrite
        write_layer(batches, path, polygons.classes, options.layer, qml=options.qml, overwrite=asked)
        return batches.rows


def write_layer(
    batches: Batches,
    path: Path,
    legend: Sequence[LandCoverClass],
    layer: str,
    *,
    qml: bool = False,
    overwrite: bool = True,
) -> None:
    """Write batches of polygons to a file, by its suffix, whole or not at all; see :func:`write_polygons`.

    Args:
        batches: the polygons, with a column ``class_id``.
        path: the file, which may be written, see :func:`geohp.vector.targets.check_target`.
        legend: what their classes are.
        layer: of a GeoPackage.
        qml: also write QGIS's style beside the file, unless that is a GeoPackage.
        overwrite: replace what is there. If not, what another process has completed since the caller looked is refused,
            unless it was stopped before all was in place.
    """
    suffix = path.suffix.lower()
    check_on_earth(path, batches.crs)
    also = [path.with_suffix(".qml")] if qml and suffix != ".gpkg" else []
    with atomic_write(path, *also, failures=FAILURES) as draft:
        if not may_replace(path, overwrite=overwrite):
            refuse_taken(path, layer)
        for style in also:
            draft.with_name(style.name).write_text(categorised_qml(legend), encoding="utf-8")
        if suffix == ".gpkg":
            write_geopackage(batches, path, draft, legend, layer)
        elif suffix == ".parquet":
            write_parquet(batches, draft)
        else:
            write_batches(batches, draft, layer, DRIVERS[suffix])


def _legend(polygons: geopandas.GeoDataFrame, classes: Sequence[LandCoverClass] | None) -> tuple[LandCoverClass, ...]:
    """The classes given, or those the polygons carry, completed by the names in the table."""
    known = tuple(classes) if classes is not None else ()
    if classes is None and (text := polygons.attrs.get("classes")):
        try:
            known = classes_from_json(text)
        except ValueError as error:
            raise VectorError(f"the polygons' attrs['classes'] is {error}", "mend it, or give the classes") from error
    completed = complete_classes(known, polygons["class_id"].unique())
    if "class_name" not in polygons:
        return completed
    names = dict(zip(polygons["class_id"], polygons["class_name"], strict=True))
    names |= {entry.id: entry.name for entry in known}
    return tuple(replace(entry, name=str(names.get(entry.id, entry.name))) for entry in completed)
