"""A STAC Item beside a map: where it lies, what its values mean, and what it was made from.

STAC 1.1.0 with the extensions projection, raster, classification and processing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from geohp.classes import LandCoverClass, classes_from_json
from geohp.credentials import without_credentials
from geohp.files.atomic import write_text
from geohp.inference.acquisition import Acquisition, parse_moment
from geohp.raster.grid import Grid
from geohp.raster.read.opened import open_dataset
from geohp.vector.placement import Placement
from geohp.version import __version__

EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "classification/v2.0.0", "processing/v1.2.0")
)

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_MEDIA = {
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".jp2": "image/jp2",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".vrt": "application/x-gdal-vrt",
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
}
_TITLES = {
    "labels": "Land-cover classes",
    "confidence": "Confidence of the class",
    "entropy": "Entropy of the classes",
    "probabilities": "Share of each class",
    "polygons": "Land-cover polygons",
}

# Where files say when they were taken, the most telling first: (namespace, key), keys in capitals.
_DATES = (
    ("IMAGERY", "ACQUISITIONDATETIME"),
    (None, "EXIF_DATETIMEORIGINAL"),
    (None, "ACQUISITIONDATETIME"),
    (None, "ACQUISITION_DATETIME"),
    (None, "ACQUISITION_DATE"),
    (None, "EXIF_DATETIMEDIGITIZED"),
    (None, "EXIF_DATETIME"),
    (None, "DATETIME"),
    (None, "TIFFTAG_DATETIME"),
)

# STAC asks for both ends of a range where there is no date. This start is read everywhere as "unknown".
_UNKNOWN_START = "1970-01-01T00:00:00Z"

_EDGE_STEPS = 32
_GRAIN = 1e-9  # degrees, a tenth of a millimetre
_TOLERANCE = 1e-6  # of the footprint's extent: a hundredth of a pixel in a scene of ten thousand


def write_item(path: str | Path, assets: Mapping[str, Path], scene: str, taken: Acquisition | None = None) -> bool:
    """Write the Item of a map, whole or not at all; one that exists is replaced.

    Args:
        path: the ``.json`` to write.
        assets: the files by what they hold: ``labels``, which must be there, and any of ``confidence``, ``entropy``,
            ``probabilities`` and ``polygons``.
        scene: what the map was made from.
        taken: when; by default what the scene's own file says.

    Returns:
        whether it says when the scene was taken.

    Raises:
        SceneError: when a raster cannot be read.
        OutputError: when the Item cannot be written.
    """
    path = Path(path)
    item = describe(path, assets, scene, taken)
    write_text(path, json.dumps(item, ensure_ascii=False, indent=2) + "\n")
    return taken is not None or item["properties"]["datetime"] is not None


def describe(path: Path, assets: Mapping[str, Path], scene: str, taken: Acquisition | None = None) -> dict[str, Any]:
    """The Item as JSON's own types.

    The footprint is the raster's rectangle, reprojected along its edges; of a raster without CRS it is null, as STAC
    allows. Where it crosses the antimeridian it is cut there, and the box's west is larger than its east, as GeoJSON
    has it. When the scene was taken is what the caller says, else its file, in UTC where that names no zone. Where
    nobody says, ``datetime`` is null, and a range says no more than that it was before the file's last change.

    Args:
        path: where it will lie: links are relative to it.
        assets, scene, taken: see :func:`write_item`.
    """
    with open_dataset(str(assets["labels"])) as labels:
        grid = Grid.of(labels)
        tags = labels.tags()
        classes = classes_from_json(labels.tags(1).get("classes", "[]"))
    geometry, box = footprint(grid)
    size = grid.pixel_size_m
    now = _iso(datetime.now(UTC))
    properties: dict[str, object] = {
        **(_from_file(scene) if taken is None else _dated(taken)),
        "created": now,
        "updated": now,
        **({} if size is None else {"gsd": round(size, 6)}),
        **_projection(grid),
        "processing:software": {"geohp": tags.get("GEOHP_VERSION", __version__)},
        "processing:lineage": f"Classes found in {_name(scene)} by {tags.get('GEOHP_MODEL', 'geohp')}",
    }
    if "GEOHP_MODEL_SHA256" in tags:
        properties["geohp:model_sha256"] = tags["GEOHP_MODEL_SHA256"]
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": path.stem,
        "geometry": geometry,
        "properties": properties,
        "links": [_source_link(scene, path.parent)],
        "assets": {name: _asset(name, file, path.parent, classes) for name, file in assets.items()},
    }
    if box is not None:
        item["bbox"] = box
    return item


def footprint(grid: Grid) -> tuple[dict[str, object] | None, list[float] | None]:
    """The rectangle of a raster in longitude and latitude (WGS 84), and the box around it.

    Returns:
        A GeoJSON Polygon, or MultiPolygon where it crosses the antimeridian, and [west, south, east, north];
        ``None``, ``None`` where the raster has no CRS, or one that does not lie on the Earth.
    """
    if grid.map_crs is None:
        return None, None
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError
    from shapely import Polygon, make_valid

    edges: Any = tuple(np.append(places, places[0]) for places in grid.edges(_EDGE_STEPS))
    x, y = Placement(grid)(np.column_stack(edges)).T
    try:
        to_degrees = Transformer.from_crs(CRS.from_wkt(grid.map_crs.to_wkt()), "EPSG:4326", always_xy=True)
        lon, lat = to_degrees.transform(x, y, errcheck=True)
    except ProjError:
        return None, None
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None, None
    lon = np.unwrap(lon, period=360)  # a jump from 180 to -180 goes on to 181
    if abs(lon[-1] - lon[0]) > 180:  # the outline goes around a pole
        pole = np.copysign(90.0, lat.mean())
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    shape = make_valid(Polygon(np.column_stack([lon, lat])))
    extent = max(np.ptp(lon), np.ptp(lat))
    return _wrap_longitudes(shape.simplify(_TOLERANCE * extent))


def _wrap_longitudes(shape: Any) -> tuple[dict[str, object], list[float]]:
    """A shape whose longitudes may run past 180 degrees, cut there and brought back, and its box."""
    from shapely import MultiPolygon, box, union_all
    from shapely.affinity import translate
    from shapely.geometry import mapping
    from shapely.geometry.polygon import orient

    west, south, east, north = shape.bounds
    turn = 360 * np.floor((west + 180) / 360)
    shape = translate(shape, -turn)
    west, east = west - turn, east - turn
    pieces = [shape] if east <= 180 else [
        shape.intersection(box(-180, -90, 180, 90)),
        translate(shape.intersection(box(180, -90, 540, 90)), -360),
    ]  # fmt: skip
    # Around a pole, the pieces meet again where the outline began.
    joined = union_all(pieces, grid_size=_GRAIN)
    polygons = [orient(p) for p in getattr(joined, "geoms", [joined]) if p.geom_type == "Polygon"]
    whole = polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
    around = [-180.0, 180.0] if east - west >= 360 - _GRAIN else [west, east - 360 if east > 180 else east]
    corners = [around[0], south, around[1], north]
    shape = mapping(whole)
    return {"type": shape["type"], "coordinates": _rounded(shape["coordinates"])}, [round(float(v), 9) for v in corners]


def _rounded(coordinates: Any) -> Any:
    if isinstance(coordinates, (tuple, list)):
        return [_rounded(part) for part in coordinates]
    return round(float(coordinates), 9)


def _projection(grid: Grid) -> dict[str, object]:
    authority = None if grid.crs is None else grid.crs.to_authority()
    fields: dict[str, object] = {
        "proj:code": None if authority is None else ":".join(authority),
        "proj:shape": list(grid.shape),
    }
    if grid.crs is not None and authority is None:
        fields["proj:wkt2"] = grid.crs.to_wkt(version="WKT2_2019")
    if grid.is_georeferenced and not grid.gcps:
        fields["proj:transform"] = [float(value) for value in tuple(grid.transform)[:6]]
    return fields


def _asset(name: str, file: Path, folder: Path, classes: Sequence[LandCoverClass]) -> dict[str, object]:
    if name == "polygons":
        media = _MEDIA.get(file.suffix.lower(), "application/octet-stream")
        return {"href": _href(str(file), folder), "type": media, "title": _TITLES[name], "roles": ["data"]}
    bands = []
    with open_dataset(str(file)) as dataset:
        for number in range(1, dataset.count + 1):
            band: dict[str, object] = {
                "name": dataset.descriptions[number - 1] or f"band {number}",
                "data_type": dataset.dtypes[number - 1],
                "nodata": _integral(dataset.nodata),
                "raster:sampling": "area",
            }
            if dataset.scales[number - 1] != 1:
                band["raster:scale"] = dataset.scales[number - 1]
                band["raster:offset"] = dataset.offsets[number - 1]
            bands.append(band)
    if name == "labels" and classes:
        bands[0]["classification:classes"] = [_class(c) for c in classes]
    roles = ["data", "labels"] if name == "labels" else ["metadata"]
    return {"href": _href(str(file), folder), "type": _COG, "title": _TITLES[name], "roles": roles, "bands": bands}


def _integral(value: float | None) -> float | int | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _class(land_cover: LandCoverClass) -> dict[str, object]:
    # The name is for machines: letters, figures, "-" and "_". Numbers keep those of one spelling apart.
    name = re.sub(r"[^0-9A-Za-z_-]+", "-", land_cover.name).strip("-") or f"class-{land_cover.id}"
    return {
        "value": land_cover.id,
        "name": name,
        "title": land_cover.name,
        "description": land_cover.name,
        "color_hint": land_cover.colour.lstrip("#").upper(),
    }


def _source_link(scene: str, folder: Path) -> dict[str, object]:
    scene = without_credentials(scene)
    link: dict[str, object] = {"rel": "derived_from", "href": _href(scene, folder), "title": _name(scene)}
    media = _MEDIA.get(Path(_name(scene)).suffix.lower())
    return link if media is None else {**link, "type": media}


def _href(name: str, folder: Path) -> str:
    """Relative to the folder for what lies on this machine, else as it is, less GDAL's own prefixes."""
    if Path(name).exists():
        try:
            relative = Path(os.path.relpath(Path(name).resolve(), folder.resolve())).as_posix()
        except ValueError:  # another drive
            return Path(name).resolve().as_uri()
        return quote(relative if relative.startswith("../") else f"./{relative}")
    for prefix, scheme in (("/vsicurl/", ""), ("/vsis3/", "s3://"), ("/vsigs/", "gs://"), ("/vsiaz/", "az://")):
        if name.startswith(prefix):
            return scheme + name.removeprefix(prefix)
    return name


def _name(scene: str) -> str:
    scene = without_credentials(scene)
    return scene.split("?")[0].rstrip("/").rsplit("/", 1)[-1] if "://" in scene else Path(scene).name


def _dated(taken: Acquisition) -> dict[str, object]:
    if taken.end is None:
        return {"datetime": _iso(taken.start)}
    return {"datetime": None, "start_datetime": _iso(taken.start), "end_datetime": _iso(taken.end)}


def _from_file(scene: str) -> dict[str, object]:
    with open_dataset(scene) as dataset:
        tags = {
            space: {key.upper(): value for key, value in dataset.tags(ns=space).items()}
            for space in dict.fromkeys(space for space, _ in _DATES)
        }
    for space, key in _DATES:
        taken = parse_moment(tags[space].get(key, ""))
        if taken is not None:
            return {"datetime": _iso(taken), "geohp:datetime_source": key}
    file = Path(scene)
    end = datetime.fromtimestamp(file.stat().st_mtime, UTC) if file.is_file() else datetime.now(UTC)
    return {
        "datetime": None,
        "start_datetime": _UNKNOWN_START,
        "end_datetime": _iso(end),
        "description": "The scene does not say when it was taken: no later than end_datetime is all that is known.",
    }


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
