"""The images that are meant: one answer for training, mapping and evaluation."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.errors import SourceError
from geohp.files.checks import expand_home
from geohp.raster.sources.paths import IMAGE_SUFFIXES, is_remote, list_files
from geohp.raster.sources.remote import is_remote_pattern, list_remote

if TYPE_CHECKING:
    import geopandas

_INDEX_SUFFIXES = frozenset({".gpkg", ".geojson", ".json", ".parquet", ".geoparquet", ".shp", ".fgb"})
_CATALOGUES = ("catalog.json", "collection.json")


def find_images(
    patterns: Iterable[str | Path],
    *,
    exclude: Sequence[str] = (),
    leave_out: str | Path | None = None,
    area: geopandas.GeoSeries | None = None,
    asset: str | None = None,
    key: str = "",
) -> list[str]:
    """The images that are meant, each once.

    The order is that in which they are given; what a folder or a pattern means is sorted. Hidden files and folders are
    passed over.

    Args:
        patterns: files, folders (searched recursively, or through the STAC catalogue they hold), patterns such as
            ``tiles/*.tif`` (``**`` crosses folders), URLs, also patterns and folders (ending in ``/``) of those,
            ``/vsi...`` and other names of GDAL's, vector files of footprints with the images' paths in a column (as
            gdaltindex writes them), STAC items, item collections and catalogues.
        exclude: patterns of file names to leave out.
        leave_out: a folder whose files folders and patterns do not mean, such as that of the results.
        area: one geometry; of indices and catalogues, what lies elsewhere is left out without opening it.
        asset: key of the asset of STAC items that holds the image.
        key: of the configuration that names the images, for messages.

    Raises:
        SourceError: a folder, pattern or index without any image, or an index that cannot be used.
    """
    outputs = None if leave_out is None else Path(leave_out).resolve()
    images: dict[str, str] = {}
    for pattern in map(str, patterns):
        meant = _images(pattern, outputs, area, asset)
        meant = [path for path in meant if not any(fnmatch.fnmatch(path.rsplit("/", 1)[-1], e) for e in exclude)]
        if not meant:
            name = f"{key} = {pattern}" if key else pattern
            inside = " in data.area" if area is not None and expand_home(pattern).exists() else ""
            raise SourceError(
                f"{name}: no images there{inside}",
                f"give files, folders or patterns such as 'tiles/*.tif' (seen from {Path.cwd()})",
            )
        for path in meant:
            images.setdefault(path if is_remote(path) else str(Path(path).absolute()), path)
    return list(images.values())


def _images(pattern: str, outputs: Path | None, area: geopandas.GeoSeries | None, asset: str | None) -> Sequence[str]:
    path = expand_home(pattern)
    if is_remote_pattern(pattern):
        return list_remote(pattern, IMAGE_SUFFIXES)
    if is_remote(pattern):
        if pattern.startswith("/vsi") and "*" in pattern:
            raise SourceError(f"{pattern}: GDAL's own names have no patterns", "write it as s3://, gs:// or https://")
        return [pattern]
    if path.is_file():
        return _of_file(path, area, asset)
    if path.is_dir():
        catalogue = next((path / name for name in _CATALOGUES if (path / name).is_file()), None)
        if catalogue is not None:
            from geohp.raster.sources.image_indices import images_of_stac, is_stac, load_json

            if is_stac(load_json(catalogue)):
                return images_of_stac(catalogue, area, asset)
        images = list_files(path, IMAGE_SUFFIXES, outputs)
        # Some rasters are folders, such as .zarr.
        return [str(image) for image in images] or ([str(path)] if path.suffix else [])
    if glob.has_magic(pattern):
        return [image for file in list_files(path, IMAGE_SUFFIXES, outputs) for image in _of_file(file, area, asset)]
    # A name of GDAL's own, or a missing file, which opening it tells; a name without either is a folder's.
    return [str(path)] if path.suffix or ":" in pattern else []


def _of_file(path: Path, area: geopandas.GeoSeries | None, asset: str | None) -> Sequence[str]:
    if path.suffix.lower() not in _INDEX_SUFFIXES:
        return [str(path)]
    from geohp.raster.sources.image_indices import read_index

    return read_index(path, area, asset)
