"""Images as others list them: footprints with paths in a column, STAC items, item collections and catalogues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import geopandas
import shapely

from geohp.errors import GeohpError, SourceError
from geohp.files.reading import failure_reason, json_value, read_text
from geohp.raster.sources.paths import IMAGE_SUFFIXES, is_remote, resolve_href
from geohp.raster.sources.vector_files import layers_with_geometry, read_vectors

_IMAGE_TYPES = ("image/tiff", "image/jp2", "image/jpeg", "image/png", "image/vnd.stac.geotiff")
_NO_DATA_ROLES = frozenset({"thumbnail", "overview", "metadata", "labels", "label"})


_COLUMNS = ("location", "path", "filepath", "filename", "file", "href", "url", "uri")
"""Columns of an index that hold the images' paths, the first there is; gdaltindex writes ``location``."""


def read_index(path: Path, area: geopandas.GeoSeries | None, asset: str | None) -> Sequence[str]:
    """What a vector file of footprints or a STAC file lists; the file itself where it is a raster.

    Args:
        path: the file.
        area: one geometry; what lies elsewhere is left out.
        asset: key of the asset of STAC items that holds the image.

    Raises:
        SourceError: it cannot be read, or does not tell where the images are.
    """
    if path.suffix.lower() in (".json", ".geojson") and is_stac(document := load_json(path), collections=True):
        return images_of_stac(path, area, asset, document)
    with _legible(path):
        return _images_of_footprints(path, area, asset)


def _images_of_footprints(path: Path, area: geopandas.GeoSeries | None, asset: str | None) -> Sequence[str]:
    if path.suffix.lower() == ".gpkg" and not layers_with_geometry(path):
        return [str(path)]  # a GeoPackage of raster tiles
    frame = read_vectors(path)
    if area is not None and frame.crs is not None:
        frame = frame[frame.intersects(area.to_crs(frame.crs).iloc[0])]
    if "assets" in frame.columns:  # STAC as GeoParquet
        items = zip(frame.get("id", frame.index), frame["assets"], strict=True)
        return [resolve_href(asset_href({"id": i, "assets": assets}, path, asset), path) for i, assets in items]
    columns = {str(column).lower(): column for column in frame.columns}
    column = next((columns[name] for name in _COLUMNS if name in columns), None)
    if column is None:
        raise SourceError(
            f"{path} has no column with the images' paths (its columns: {', '.join(map(str, frame.columns))})",
            f"name one of them {_COLUMNS[0]!r}",
        )
    return [resolve_href(str(value), path) for value in frame[column].dropna()]


@contextmanager
def _legible(path: Path) -> Iterator[None]:
    """Say of a file that is not built as an index is, or names what no file is called, that it is none."""
    try:
        yield
    except GeohpError:
        raise
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError, shapely.GEOSException) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise SourceError(
            f"{path} is no list of images that can be understood ({reason})", "export it again"
        ) from error


def load_json(path: Path) -> Any:
    """A JSON document."""
    try:
        return json_value(read_text(path))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is no readable JSON ({failure_reason(error)})", "export it again") from error


def is_stac(document: Any, *, collections: bool = False) -> bool:
    """Whether a JSON document is STAC; ``collections`` also those of items that do not say so themselves."""
    if not isinstance(document, dict):
        return False
    if "stac_version" in document:
        return True
    features = document.get("features") if collections else None
    first = features[0] if isinstance(features, list) and features else None
    return isinstance(first, dict) and "assets" in first


def images_of_stac(
    path: Path,
    area: geopandas.GeoSeries | None,
    asset: str | None,
    document: Any = None,
) -> list[str]:
    """Images of an item, an item collection, or a catalogue and all below it.

    Args:
        path: of the document.
        area: one geometry; items that lie elsewhere are left out.
        asset: key of the asset that holds the image.
        document: what the file holds, where it is read already.

    Raises:
        SourceError: a document that cannot be read or understood, or does not tell where the images are.
    """
    with _legible(path):
        return list(_images_below(path, area, asset, document, set()))


def _images_below(
    path: Path, area: geopandas.GeoSeries | None, asset: str | None, document: Any, visited: set[Path]
) -> Iterator[str]:
    """Images of a document, where it is not visited yet, and of all below it; ``None`` is read from its path."""
    if path.resolve() in visited:
        return
    visited.add(path.resolve())
    document = load_json(path) if document is None else document
    match document.get("type"):
        case "Feature":
            items = [document]
        case "FeatureCollection":
            items = document["features"]
        case _:
            for href in _linked(document, path):
                yield from _images_below(Path(href), area, asset, None, visited)
            return
    outline = None if area is None else area.to_crs("EPSG:4326").iloc[0]
    for item in items:
        shape = item.get("geometry")
        if outline is None or not shape or outline.intersects(shapely.from_geojson(json.dumps(shape))):
            yield resolve_href(asset_href(item, path, asset), path)


def _linked(document: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Paths of the items and catalogues that a catalogue links to."""
    for link in document.get("links", ()):
        if link.get("rel") in ("item", "child"):
            href = resolve_href(str(link["href"]), path)
            if is_remote(href):
                raise SourceError(f"{path} links to {href}", "download the catalogue, its images may stay away")
            yield href


def asset_href(item: Mapping[str, Any], path: Path, asset: str | None) -> str:
    """Where the image of a STAC item lies, as the item says; a SourceError where none or several may be it."""
    assets: Mapping[str, Any] = {k: v for k, v in (item.get("assets") or {}).items() if v}
    name, keys = f"{path}: the item {item.get('id')!r}", ", ".join(assets) or "none"
    if asset is not None:
        if asset not in assets:
            raise SourceError(f"{name} has no asset {asset!r}", f"data.asset can be one of {keys}")
        return str(assets[asset]["href"])
    images = [k for k, v in assets.items() if _may_be_image(v)]
    data = [k for k in images if "data" in _roles(assets[k])] or images
    if len(data) != 1:
        what = f"several assets that may be the image ({', '.join(data)})" if data else "no asset that is an image"
        raise SourceError(
            f"{name} has {what}", f"name one with data.asset (it has {keys}), or give the images themselves"
        )
    return str(assets[data[0]]["href"])


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")  # from GeoParquet it comes as an array
    return set() if roles is None else {str(role) for role in roles}


def _may_be_image(asset: Mapping[str, Any]) -> bool:
    if _roles(asset) & _NO_DATA_ROLES:
        return False
    media_type = str(asset.get("type") or "").lower()
    if media_type:
        return media_type.startswith(_IMAGE_TYPES)
    return Path(urlparse(str(asset.get("href"))).path).suffix.lower() in IMAGE_SUFFIXES
