"""From a label map to polygons: one row a region, every pixel with data covered exactly once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
from numpy.typing import NDArray

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import VectorError
from geohp.vector.cleaning import merge_small
from geohp.vector.labels import complete_classes, read_confidence, read_labels
from geohp.vector.measures import areas_m2, parse_crs, perimeters_m, pixel_areas_m2
from geohp.vector.outlines import outline
from geohp.vector.placement import Placement
from geohp.vector.regions import Regions, find_regions
from geohp.vector.simplify import simplify_coverage

if TYPE_CHECKING:
    from xarray import DataArray


def polygonize(
    labels: str | Path | DataArray,
    *,
    classes: Sequence[LandCoverClass] | None = None,
    min_area_m2: float = 0,
    simplify_m: float = 0,
    simplify_boundary: bool = True,
    confidence: str | Path | DataArray | None = None,
) -> geopandas.GeoDataFrame:
    """Turn a label map into polygons, one for every 4-connected region of equal label.

    Every pixel with data is covered exactly once and pixels without are not covered. Outlines run along pixel edges
    unless simplified; all polygons that meet in a point have a vertex there. Rotated, sheared and south-up
    rasters come out where they lie. A raster with ground control points is placed by the polynomial that GDAL
    fits to them. A raster without a CRS keeps its map units, and one without a transform has pixel coordinates,
    y counted downwards: "metres" then are those units.

    Args:
        labels: path of a label raster, or an array with dims (y, x) and rioxarray's CRS, transform and nodata:
            one band of integers. No data is what the raster declares, and 255 where it declares no value.
        classes: names of the labels; by default those the raster declares, and "class 0", ... for the others.
        min_area_m2: regions below it go to the neighbour with the longest shared border, see
            :func:`geohp.vector.cleaning.merge_small`.
        simplify_m: tolerance in metres, see :func:`geohp.vector.simplify.simplify_coverage`; 0 for exact outlines.
        simplify_boundary: whether the margins of the scene and of areas without data are simplified, too.
        confidence: a raster on the same grid; adds the column ``mean_confidence``.

    Returns:
        rows in the order of the regions' first pixels, with the columns class_id, class_name, area_m2, perimeter_m
        (both as in :mod:`geohp.vector.measures`; of the polygon as it is, so after simplification), n_pixels,
        mean_confidence where asked for (NaN where a region has none), and geometry, in the raster's CRS.
        ``attrs["classes"]`` holds all classes as JSON. A raster without any data gives no rows.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: no label map (floats, several bands), or an impossible argument.
    """
    _check("min_area_m2", min_area_m2)
    _check("simplify_m", simplify_m)
    scene = read_labels(labels)
    crs = None if scene.grid.crs is None else parse_crs(scene.grid.crs)

    regions = find_regions(scene.values, scene.valid)
    if min_area_m2 > 0:
        regions = merge_small(regions, pixel_areas_m2(scene.grid), min_area_m2)

    placement = Placement(scene.grid)
    polygons = outline(regions.ids, regions.count, placement, every_corner=not placement.straight)
    if simplify_m > 0:
        polygons = simplify_coverage(polygons, simplify_m, crs, simplify_boundary=simplify_boundary)
        areas = areas_m2(polygons, crs)
    else:
        # From the pixels: coordinates in the millions of metres have not the digits for areas of single pixels.
        areas = regions.sums(pixel_areas_m2(scene.grid))

    mean_confidence = None
    if confidence is not None:
        mean_confidence = _means(regions, *read_confidence(confidence, scene.grid))
    known = tuple(classes) if classes is not None else scene.classes
    return tabulate(polygons, areas, regions, crs, known, mean_confidence)


def tabulate(
    polygons: NDArray[Any],
    areas: NDArray[np.float64],
    regions: Regions,
    crs: Any,
    classes: Sequence[LandCoverClass],
    mean_confidence: NDArray[np.float64] | None = None,
) -> geopandas.GeoDataFrame:
    """The polygons of regions and their areas in square metres with the other attributes, see :func:`polygonize`."""
    class_ids = regions.values.astype(np.int64)
    legend = complete_classes(tuple(classes), np.unique(class_ids))
    names = {c.id: c.name for c in legend}
    columns: dict[str, Any] = {
        "class_id": class_ids,
        "class_name": np.array([names[i] for i in class_ids.tolist()], dtype=object),
        "area_m2": areas,
        "perimeter_m": perimeters_m(polygons, crs),
        "n_pixels": regions.pixel_counts(),
    }
    if mean_confidence is not None:
        columns["mean_confidence"] = mean_confidence
    frame = geopandas.GeoDataFrame(columns, geometry=polygons, crs=crs)
    frame.attrs["classes"] = classes_to_json(legend)
    return frame


def _means(regions: Regions, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(count,) mean of a raster over each region's pixels that are valid in it; NaN where none is."""
    count = regions.sums(valid)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, regions.sums(np.where(valid, values, 0)) / count, np.nan)


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise VectorError(f"{name} is {value}, but must be a number of at least 0.")
