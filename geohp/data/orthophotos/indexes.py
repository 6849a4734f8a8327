"""The images that are meant by files, folders, patterns, footprint indices and STAC catalogues."""

from __future__ import annotations

import fnmatch
import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import geopandas
import pyogrio
import shapely

from geohp.errors import DataError
from geohp.legend.features import layers_with_geometry
from geohp.raster.sources import IMAGE_SUFFIXES

_INDEX_SUFFIXES = frozenset({".gpkg", ".geojson", ".json", ".parquet", ".geoparquet", ".shp", ".fgb"})
_COLUMNS = ("location", "path", "filepath", "filename", "file", "href", "url", "uri")
"""Columns of an index that hold the images' paths, the first there is; gdaltindex writes ``location``."""
_CATALOGUES = ("catalog.json", "collection.json")
_IMAGE_TYPES = ("image/tiff", "image/jp2", "image/jpeg", "image/png", "image/vnd.stac.geotiff")
_NO_DATA_ROLES = frozenset({"thumbnail", "overview", "metadata", "labels", "label"})


def find_images(
    patterns: Sequence[str],
    exclude: Sequence[str] = (),
    *,
    area: geopandas.GeoSeries | None = None,
    asset: str | None = None,
    key: str = "data.images",
) -> list[str]:
    """The images that are meant, sorted, each once.

    Args:
        patterns: files, folders (searched recursively, or through the STAC catalogue they hold), patterns such as
            ``tiles/*.tif`` (``**`` crosses folders), addresses, vector files of footprints with the images' paths in
            a column (as gdaltindex writes them), STAC items, item collections and catalogues.
        exclude: patterns of file names to leave out.
        area: one geometry; of indices and catalogues, what lies elsewhere is left out without opening it.
        asset: key of the asset of STAC items that holds the image.
        key: of the configuration, for messages.

    Raises:
        DataError: one of the patterns means no image at all, or an index that cannot be used.
    """
    found: set[str] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if is_remote(pattern):
            some = {pattern}
        elif path.is_dir() and (catalogue := _catalogue(path)) is not None:
            some = set(_of_stac(catalogue, area, asset))
        elif path.is_dir():
            some = {str(p) for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()}
        elif path.is_file():
            some = _of_index(path, area, asset) if path.suffix.lower() in _INDEX_SUFFIXES else {str(path)}
        else:
            some = {str(p) for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()}  # noqa: PTH207
        some = {p for p in some if not any(fnmatch.fnmatch(p.rsplit("/", 1)[-1], e) for e in exclude)}
        if not some:
            inside = " in data.area" if area is not None and path.exists() else ""
            raise DataError(
                f"{key} = {pattern}: no images there{inside}; give files, folders or patterns such as tiles/*.tif "
                f"(seen from {Path.cwd()})"
            )
        found |= some
    return sorted(found, key=Path)


def is_remote(path: str) -> bool:
    """Whether a path is an address or one of GDAL's virtual files, which are passed on as they are."""
    return "://" in path or path.startswith("/vsi")


def read_area(area: str | Sequence[float]) -> geopandas.GeoSeries:
    """An area of interest as one geometry with its CRS.

    Args:
        area: a file of polygons, or west, south, east and north in degrees.

    Raises:
        DataError: it cannot be read, holds no polygons or has no CRS.
    """
    if not isinstance(area, str):
        return geopandas.GeoSeries([shapely.box(*area)], crs="EPSG:4326")
    path = Path(area).expanduser()
    if not path.is_file():
        raise DataError(f"data.area = {area}: no such file; give polygons, or [west, south, east, north] in degrees")
    frame = _read_vectors(path)
    shapes = frame.geometry[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if not len(shapes) or frame.crs is None:
        lacks = "no polygons" if not len(shapes) else "no coordinate reference system"
        raise DataError(f"data.area = {area}: has {lacks}; give polygons that say where on Earth they lie")
    return geopandas.GeoSeries([shapely.make_valid(shapely.union_all(shapes.to_numpy()))], crs=frame.crs)


def _read_vectors(path: Path) -> geopandas.GeoDataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            return geopandas.read_parquet(path)
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) > 1:
            raise DataError(f"{path} has several layers ({', '.join(layers)}): keep one of them in a file of its own.")
        return geopandas.read_file(path, layer=layers[0] if layers else None)
    except DataError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a vector file ({error}): mend it or name the images.") from error


def _of_index(path: Path, area: geopandas.GeoSeries | None, asset: str | None) -> set[str]:
    """What a vector file of footprints or a STAC file lists; the file itself where it is a raster."""
    if path.suffix.lower() in (".json", ".geojson") and _is_stac(document := _load(path), anything=True):
        return set(_of_stac(path, area, asset, document))
    if path.suffix.lower() == ".gpkg" and not layers_with_geometry(path):
        return {str(path)}  # a GeoPackage of raster tiles
    frame = _read_vectors(path)
    if area is not None and frame.crs is not None:
        frame = frame[frame.intersects(area.to_crs(frame.crs).iloc[0])]
    if "assets" in frame.columns:  # STAC as GeoParquet
        items = zip(frame.get("id", frame.index), frame["assets"], strict=True)
        return {_resolve(_asset_href({"id": i, "assets": assets}, path, asset), path) for i, assets in items}
    columns = {str(column).lower(): column for column in frame.columns}
    column = next((columns[name] for name in _COLUMNS if name in columns), None)
    if column is None:
        raise DataError(
            f"{path} has no column with the images' paths (its columns: {', '.join(map(str, frame.columns))}): "
            f"name one of them {_COLUMNS[0]!r}."
        )
    return {_resolve(str(value), path) for value in frame[column].dropna()}


def _catalogue(folder: Path) -> Path | None:
    for name in _CATALOGUES:
        if (folder / name).is_file() and _is_stac(_load(folder / name)):
            return folder / name
    return None


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable JSON ({error}): export it again.") from error


def _is_stac(document: Any, *, anything: bool = False) -> bool:
    if not isinstance(document, dict):
        return False
    if "stac_version" in document:
        return True
    features = document.get("features") if anything else None
    return bool(isinstance(features, list) and features and "assets" in features[0])


def _of_stac(
    path: Path, area: geopandas.GeoSeries | None, asset: str | None, document: Any = None, seen: set[Path] | None = None
) -> Iterator[str]:
    """Images of an item, an item collection, or a catalogue and all below it."""
    seen = set() if seen is None else seen
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    document = _load(path) if document is None else document
    match document.get("type"):
        case "Feature":
            items = [document]
        case "FeatureCollection":
            items = document["features"]
        case _:
            for link in document.get("links", ()):
                if link.get("rel") in ("item", "child"):
                    href = _resolve(str(link["href"]), path)
                    if is_remote(href):
                        raise DataError(f"{path} links to {href}: download the catalogue, its images may stay away.")
                    yield from _of_stac(Path(href), area, asset, seen=seen)
            return
    where = None if area is None else area.to_crs("EPSG:4326").iloc[0]
    for item in items:
        shape = item.get("geometry")
        if where is None or not shape or where.intersects(shapely.from_geojson(json.dumps(shape))):
            yield _resolve(_asset_href(item, path, asset), path)


def _asset_href(item: Mapping[str, Any], path: Path, asset: str | None) -> str:
    """Where the image of a STAC item lies."""
    assets: Mapping[str, Any] = {k: v for k, v in (item.get("assets") or {}).items() if v}
    name = f"{path}: the item {item.get('id')!r}"
    if asset is not None:
        if asset not in assets:
            raise DataError(f"{name} has no asset {asset!r}; data.asset can be one of {', '.join(assets) or 'none'}")
        return str(assets[asset]["href"])
    images = [k for k, v in assets.items() if _may_be_image(v)]
    data = [k for k in images if "data" in _roles(assets[k])] or images
    if len(data) != 1:
        said = f"several assets that may be the image ({', '.join(data)})" if data else "no asset that is an image"
        raise DataError(f"{name} has {said}; name one with data.asset (it has {', '.join(assets) or 'none'})")
    return str(assets[data[0]]["href"])


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")  # from GeoParquet it comes as an array
    return set() if roles is None else {str(role) for role in roles}


def _may_be_image(asset: Mapping[str, Any]) -> bool:
    if _roles(asset) & _NO_DATA_ROLES:
        return False
    kind = str(asset.get("type") or "").lower()
    if kind:
        return kind.startswith(_IMAGE_TYPES)
    return Path(urlparse(str(asset.get("href"))).path).suffix.lower() in IMAGE_SUFFIXES


def _resolve(href: str, beside: Path) -> str:
    """A path as an index gives it: relative to the index, or else to the working folder."""
    if href.startswith("file://"):
        return unquote(urlparse(href).path)
    if is_remote(href) or Path(href).is_absolute():
        return href
    near = beside.parent / href
    if near.exists() or not Path(href).exists():
        return str(Path(*near.parts)) if ".." not in near.parts else str(near.resolve())
    return href
