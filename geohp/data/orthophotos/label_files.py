"""Which labels belong to which image: by name, by folder, or by the ground they lie on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely
from pyproj import CRS

from geohp.data.orthophotos.footprints import Footprint, outline, read_footprints
from geohp.errors import DataError, SceneError
from geohp.files.checks import expand_home
from geohp.files.plain_names import plain_name
from geohp.files.reading import failure_reason
from geohp.raster.read.labels import opened_raster
from geohp.raster.read.unchanged import UnchangedFiles
from geohp.raster.sources.paths import IMAGE_SUFFIXES, is_remote, list_files
from geohp.raster.sources.vector_files import (
    VECTOR_FAILURES,
    is_parquet,
    layer_info,
    layers_with_geometry,
    vector_parts,
)

_VECTORS = frozenset({".gpkg", ".geojson", ".json", ".parquet", ".geoparquet", ".shp", ".fgb", ".gml", ".kml"})


@dataclass(frozen=True)
class LabelFiles:
    """Labels and their images.

    Attributes:
        of_image: the label raster of an image, by the image's path.
        rasters: label rasters that lie over images, wherever these are.
        vectors: the same of polygons and points.
        images: how many images there are.
        unchanged: by the path of each of them, its files as they were when they were found.
    """

    of_image: dict[str, str]
    rasters: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    images: int = 1
    unchanged: Mapping[str, UnchangedFiles] = field(default_factory=dict, repr=False, compare=False)

    @property
    def files(self) -> set[str]:
        """All of them."""
        return {*self.of_image.values(), *self.rasters, *self.vectors}

    def over(self, images: Iterable[str]) -> Iterator[UnchangedFiles]:
        """The files of labels that may lie on images, given by their paths."""
        own = (self.of_image[image] for image in images if image in self.of_image)
        return (self.unchanged[label] for label in (*self.rasters, *self.vectors, *own))

    def covered(self, footprints: Sequence[Footprint], plane: CRS | None, layer: str | None = None) -> LabelCoverage:
        """What is labelled, in a common plane (``None`` where no image is georeferenced); ``layer`` is of polygons."""
        if plane is None:
            anywhere = bool(self.rasters or self.vectors)
            return LabelCoverage(frozenset(f.key for f in footprints if anywhere or f.path in self.of_image))
        shapes = [outline(raster, plane) for raster in read_footprints(self.rasters) if raster.placed]
        for vector in self.vectors:
            shapes += list(_bounds(vector, layer).to_crs(plane))
        return LabelCoverage(frozenset(f.key for f in footprints if f.path in self.of_image), tuple(shapes))


@dataclass(frozen=True)
class LabelCoverage:
    """What is labelled.

    Attributes:
        keys: of images that have labels of their own.
        shapes: of all other labels, in the common plane.
    """

    keys: frozenset[str]
    shapes: tuple[Any, ...] = ()

    def covers(self, footprint: Footprint, plane: CRS | None) -> bool:
        """Whether labels lie on an image."""
        return footprint.key in self.keys or (footprint.placed and self._meets(outline(footprint, plane)))

    def covers_box(self, footprint: Footprint, box: Any) -> bool:
        """Whether labels lie on a box of the plane, of an image that they lie on."""
        return footprint.key in self.keys or self._meets(box)

    def _meets(self, shape: Any) -> bool:
        return len(self._tree.query(shape, "intersects")) > 0

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.shapes)


def match_labels(patterns: Sequence[str], images: Sequence[str]) -> LabelFiles:
    """Find the labels of images.

    Args:
        patterns: with ``{stem}``, the image's name without suffix: one file an image, seen from the image's folder or
            else from the working folder; ``{folder}`` is the name of the folder it lies in. Or folders, files and
            glob patterns: rasters whose name without suffix is that of an image are its labels, all others and files
            of polygons lie over whatever image they meet.
        images: paths.

    Raises:
        DataError: a pattern without labels, or several labels for one image.
    """
    of_image: dict[str, str] = {}
    others: list[str] = []
    vectors: list[str] = []
    for pattern in patterns:
        if "{" in pattern:
            of_image = {**_by_pattern(pattern, images), **of_image}
            continue
        files = _files(pattern)
        vectors += [f for f in files if _is_vector(f)]
        rasters = [f for f in files if f not in vectors]
        named = _by_name(rasters, images)
        of_image = {**named, **of_image}
        used = set(named.values())
        # Of a folder in which labels are named after images, the rest belongs to images that are not there.
        others += [f for f in rasters if f not in used] if not named else []
    images = [image for image in images if image not in {*of_image.values(), *others}]
    unchanged = {label: UnchangedFiles(label, layer_files(label)) for label in (*of_image.values(), *others, *vectors)}
    return LabelFiles(of_image, tuple(dict.fromkeys(others)), tuple(dict.fromkeys(vectors)), len(images), unchanged)


def layer_files(path: str) -> list[str]:
    """A file of labels or polygons, and those that they also lie in."""
    if Path(path).suffix.lower() == ".vrt":
        with suppress(SceneError), opened_raster(path) as (dataset, _):  # else it is said where it is read
            return [path, *(str(name) for name in dataset.files)]
    return [path, *vector_parts(path)[1:]]


def _by_pattern(pattern: str, images: Sequence[str]) -> dict[str, str]:
    label_of: dict[str, str] = {}
    example = ""
    for image in images:
        path = Path(image)
        fields = {"stem": path.stem, "folder": path.parent.name, "name": path.name}
        if unknown := set(re.findall(r"\{([^}]*)\}?", pattern)) - set(fields):
            raise DataError(
                f"data.labels = {pattern}: may hold {{stem}}, {{name}} and {{folder}} in braces, not {{{min(unknown)}}}"
            )
        name = expand_home(_filled(pattern, fields))
        beside = path.parent / name  # the name itself where that is absolute
        example = example or str(beside)
        label = next((p for p in (beside, name) if p.is_file()), None)
        if label is not None and label.resolve() != path.resolve():
            label_of[image] = str(label)
    if not label_of:
        raise DataError(f"data.labels = {pattern}: no image has such labels (looked for {example} and others)")
    return label_of


def _filled(pattern: str, fields: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], pattern)


def _by_name(rasters: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Rasters called like an image; where names occur several times, folders of one name tell which belong together."""
    by_stem: dict[str, tuple[list[str], list[str]]] = {}
    for number, paths in enumerate((rasters, images)):
        for path in paths:
            by_stem.setdefault(Path(path).stem, ([], []))[number].append(path)
    label_of: dict[str, str] = {}
    for labels, same in by_stem.values():
        same = [i for i in same if i not in labels]
        if len(labels) == len(same) == 1:
            label_of[same[0]] = labels[0]
        elif labels and same:
            label_of |= _by_folder(labels, same)
    return label_of


def _by_folder(labels: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Pairs of one file name, by the folders that both lie in and not all of them do."""
    folders = {path: set(PurePosixPath(path).parts[:-1]) for path in (*labels, *images)}
    everywhere = set.intersection(*folders.values())
    pairs = {(i, r): len((folders[i] & folders[r]) - everywhere) for i in images for r in labels}
    label_of = {}
    for image in images:
        most = max(pairs[image, r] for r in labels)
        best = [r for r in labels if pairs[image, r] == most > 0]
        # Not those that are another image's rather.
        best = [r for r in best if all(pairs[i, r] < most for i in images if i != image)]
        if len(best) == 1:
            label_of[image] = best[0]
    if not label_of:
        raise DataError(
            f"{images[0]}: it cannot be told which of {len(labels)} files called like {labels[0]} are its labels",
            "name them by a pattern such as data.labels = ../labels/{folder}/{stem}.png",
        )
    return label_of


def _files(pattern: str) -> list[str]:
    path = expand_home(pattern)
    if is_remote(pattern) or path.is_file():
        return [str(pattern) if is_remote(pattern) else str(path)]
    files = list_files(path, IMAGE_SUFFIXES | _VECTORS)
    if not files:
        raise DataError(
            f"data.labels = {pattern}: no labels there",
            f"give files, folders or patterns such as {{stem}}_labels.png (seen from {Path.cwd()})",
        )
    return [str(file) for file in files]


def _is_vector(path: str) -> bool:
    return Path(path).suffix.lower() in _VECTORS and bool(layers_with_geometry(path))


def _bounds(vector: str, layer: str | None) -> geopandas.GeoSeries:
    """The bounding boxes of features."""
    try:
        if is_parquet(vector):
            shapes = geopandas.read_parquet(vector).geometry
            return geopandas.GeoSeries(shapely.box(*shapes.bounds.to_numpy().T), crs=shapes.crs)
        layer = layer or next(iter(layers_with_geometry(vector) or ()), None)
        with plain_name(vector) as name:
            _, bounds = pyogrio.read_bounds(name, layer=layer)
        crs = layer_info(vector, layer)["crs"]
    except VECTOR_FAILURES as error:
        raise DataError(f"{vector} cannot be read ({failure_reason(error)})", "mend it or give other labels") from error
    boxes = shapely.box(*bounds[:, np.isfinite(bounds).all(axis=0)])
    if crs is None:
        raise DataError(f"{vector} has no coordinate reference system, but the images have one", "assign it first")
    return geopandas.GeoSeries(boxes, crs=crs)
