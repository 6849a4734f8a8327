"""From a label map to polygons: one row a region, every pixel with data covered exactly once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import VectorError
from geohp.legend.file import Legend
from geohp.legend.recoded_labels import RecodedLabels
from geohp.raster.blocks import BLOCK_PX, BlockGrid, Progress, Steps
from geohp.raster.read.labels import LabelRaster, complete_classes, open_labels
from geohp.vector.measures import PixelAreas, areas_m2, parse_crs, perimeters_m
from geohp.vector.placement import Placement
from geohp.vector.shaping import Shaper
from geohp.vector.stitching import Stitcher
from geohp.vector.survey import RegionTable, Survey, survey
from geohp.vector.zonal import Statistics, Zonal, confidence_of, open_statistics

if TYPE_CHECKING:
    from xarray import DataArray


def polygonize(
    labels: str | Path | DataArray,
    *,
    classes: Sequence[LandCoverClass] | None = None,
    legend: Legend | str | Path | None = None,
    min_area_m2: float = 0,
    simplify_m: float = 0,
    smooth: int = 0,
    simplify_boundary: bool = False,
    confidence: str | Path | DataArray | None = None,
    stats: Sequence[Statistics | str] = (),
    block_px: int = BLOCK_PX,
    progress: Progress | None = None,
) -> geopandas.GeoDataFrame:
    """Turn a label map into polygons, one for every 4-connected region of equal label.

    Every pixel with data is covered exactly once and pixels without are not covered. Outlines run along pixel edges
    unless simplified; all polygons that meet in a point have a vertex there. Rotated, sheared and south-up
    rasters come out where they lie. A raster with ground control points is placed by the polynomial that GDAL
    fits to them. A raster without a CRS keeps its map units, and one without a transform has pixel coordinates,
    y counted downwards: "metres" then are those units.

    The raster is gone through block by block; what comes out does not depend on the blocks, but for
    simplification, see there. For more polygons than fit into memory there is
    :func:`geohp.vector.polygonize_file`.

    Args:
        labels: path of a label raster, or an array with dims (y, x) and rioxarray's CRS, transform and nodata:
            one band of integers. No data is what the raster declares, and 255 where it declares no value.
        classes: names of the labels; by default those the raster declares, and "class 0", ... for the others.
        legend: names for the labels, or the file that has them, instead of ``classes``. Labels of one class are one
            before regions are looked for, so that neighbours become one polygon. Labels without a name are kept,
            numbered as in :meth:`geohp.legend.Legend.lookup`.
        min_area_m2: regions below it go to the neighbour with the longest shared border, see
            :func:`geohp.vector.cleaning.merge_small`.
        simplify_m: tolerance in metres, see :class:`geohp.vector.simplify.Simplifier`; 0 for exact outlines.
        smooth: how often to cut the corners of outlines, after simplification, see
            :func:`geohp.vector.smoothing.smooth`; 2 or 3 make them look round.
        simplify_boundary: whether the margins of areas without data are simplified and smoothed, too. Polygons may then
            cover a little of them.
        confidence: a raster on the same grid; adds the columns ``mean_confidence`` and ``min_confidence``.
        stats: statistics of other rasters, on whatever grid, over the regions' pixels: texts like ``dsm.tif:mean,p90``,
            or :class:`geohp.vector.zonal.Statistics`.
        block_px: side of a block.
        progress: called with the steps done and their number.

    Returns:
        rows in the order of the regions' first pixels, with the columns class_id, class_name, area_m2, perimeter_m
        (both as in :mod:`geohp.vector.measures`; of the polygon as it is, so after simplification), n_pixels, those of
        the statistics asked for (of the region's pixels; NaN where it has no value), and geometry, in the raster's CRS.
        ``attrs["classes"]`` holds all classes as JSON. A raster without any data gives no rows.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: no label map (floats, several bands), or an impossible argument.
        ConfigError: no legend, or one that names a label that the raster does not have.
    """
    with open_polygons(
        labels,
        classes=classes,
        legend=legend,
        min_area_m2=min_area_m2,
        simplify_m=simplify_m,
        smooth=smooth,
        simplify_boundary=simplify_boundary,
        confidence=confidence,
        stats=stats,
        block_px=block_px,
        progress=progress,
    ) as found:
        frame = pd.concat(list(found.batches()) or [found.none()])
        frame = frame.sort_index(ignore_index=True)
        frame.attrs["classes"] = classes_to_json(found.classes)
        return frame


@contextmanager
def open_polygons(
    labels: str | Path | DataArray,
    *,
    classes: Sequence[LandCoverClass] | None = None,
    legend: Legend | str | Path | None = None,
    min_area_m2: float = 0,
    simplify_m: float = 0,
    smooth: int = 0,
    simplify_boundary: bool = False,
    confidence: str | Path | DataArray | None = None,
    stats: Sequence[Statistics | str] = (),
    block_px: int = BLOCK_PX,
    progress: Progress | None = None,
) -> Iterator[Polygons]:
    """Survey a label map; its polygons can then be had batch by batch. Arguments as for :func:`polygonize`."""
    _check("min_area_m2", min_area_m2)
    _check("simplify_m", simplify_m)
    if classes is not None and legend is not None:
        raise VectorError("classes and a legend are both given: name the labels in one of them only.")
    with ExitStack() as stack:
        raster = stack.enter_context(open_labels(labels))
        if legend is not None:
            raster = RecodedLabels(raster, Legend.of(legend))
        grid = raster.grid
        parse_crs(grid.crs) if grid.crs is not None else None
        wanted = [one if isinstance(one, Statistics) else Statistics.parse(one) for one in stats]
        if confidence is not None:
            wanted.insert(0, confidence_of(confidence))
        _check_columns([column for one in wanted for column in one.names])
        zonal = [stack.enter_context(open_statistics(one, grid)) for one in wanted]
        layout = BlockGrid(grid.height, grid.width, block_px)
        count = Steps(progress, 2 * len(layout.blocks))
        areas = PixelAreas(grid)
        shaper = Shaper(
            areas, Placement(grid), grid.width, simplify_m=simplify_m, smooth=smooth, outer=simplify_boundary
        )
        known = survey(raster, layout, areas, min_area_m2=min_area_m2, step=count)
        yield Polygons(raster, known, shaper, zonal, classes, count)


class Polygons:
    """The polygons of a surveyed label map.

    Attributes:
        classes: all of them, those that only their number is known of included.
        crs: of the polygons.
        table: what is known of the regions besides their outlines.
    """

    def __init__(
        self, raster: LabelRaster, known: Survey, shaper: Shaper, zonal: Sequence[Zonal],
        classes: Sequence[LandCoverClass] | None, step: Callable[[], None],
    ) -> None:  # fmt: skip
        """See :func:`open_polygons`."""
        self._raster, self._survey, self._step = raster, known, step
        self._shaper, self._zonal = shaper, zonal
        given = tuple(classes) if classes is not None else raster.classes
        self.classes = complete_classes(given, np.unique(known.table.values))
        self.crs = None if raster.grid.crs is None else parse_crs(raster.grid.crs)
        self.table: RegionTable = known.table
        self._names = {c.id: c.name for c in self.classes}

    def batches(self) -> Iterator[geopandas.GeoDataFrame]:
        """The polygons, as soon as a block completes them; the index is the region's number, from 1.

        Yields:
            frames with the columns of :func:`polygonize`, none of them empty.
        """
        layout, placement = self._survey.layout, Placement(self._raster.grid)
        left = self._survey.blocks_left.copy()
        stitcher = Stitcher()
        for number, block in enumerate(layout.blocks):
            ids = self._survey.regions(number)
            rings, chains = self._shaper.outlines(ids, block)
            here = self._survey.regions_in(number)
            if self._zonal:
                parts = self._survey.parts(number)
                for one in self._zonal:
                    one.add(block, parts, here)
            left[here] -= 1
            regions, polygons = stitcher.add(rings, chains, here[left[here] == 0]).polygons(placement)
            self._step()
            if len(regions):
                yield self.tabulate(regions, polygons)

    def none(self) -> geopandas.GeoDataFrame:
        """A frame without rows."""
        return self.tabulate(np.empty(0, np.int64), np.empty(0, object))

    def tabulate(self, regions: NDArray[np.int64], polygons: NDArray[Any]) -> geopandas.GeoDataFrame:
        """(k,) polygons of (k,) regions with their attributes, see :func:`polygonize`."""
        table, rows = self.table, regions - 1
        class_ids = table.values[rows].astype(np.int64)
        # From the pixels: coordinates in the millions of metres have not the digits for areas of single pixels.
        areas = table.areas_m2[rows] if self._shaper.exact else areas_m2(polygons, self.crs)
        columns: dict[str, Any] = {
            "class_id": class_ids,
            "class_name": np.array([self._names[i] for i in class_ids.tolist()], dtype=object),
            "area_m2": areas,
            "perimeter_m": perimeters_m(polygons, self.crs),
            "n_pixels": table.pixels[rows],
        }
        for one in self._zonal:
            columns |= one.take(regions)
        return geopandas.GeoDataFrame(columns, geometry=polygons, crs=self.crs, index=regions)


def _check_columns(names: Sequence[str]) -> None:
    taken = {"class_id", "class_name", "area_m2", "perimeter_m", "n_pixels", "geometry"}
    for name in names:
        if name in taken:
            raise VectorError(f"two columns would be called {name!r}: give one of the rasters another name.")
        taken.add(name)


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise VectorError(f"{name} is {value}, but must be a number of at least 0.")
