"""Images as an index of footprints lists them: their outlines, and their paths in a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas

from geohp.errors import SourceError
from geohp.raster.sources.paths import resolve_href
from geohp.raster.sources.stac_assets import asset_href, images_of_stac, is_stac, load_json
from geohp.raster.sources.vector_files import layers_with_geometry, read_vectors

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
        return list(images_of_stac(path, area, asset, document))
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
