"""From a label map to polygons: one row a region, every pixel with data covered exactly once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import VectorError
from geohp.legend.file import Legend, LegendSource
from geohp.legend.recoded_labels import RecodedLabels
from geohp.options import AreaOptions, PolygonOptions, keywords
from geohp.progress import Progress, default_progress
from geohp.raster.area_of_interest import asked_area
from geohp.raster.block import BLOCK_PX, BlockGrid
from geohp.raster.grid import Grid, parse_crs
from geohp.raster.read.labels import MOST_UNNAMED, complete_classes, open_labels
from geohp.vector.clipping import AreaLabels, Clip, CoveredAreas
from geohp.vector.measures import PixelAreas, areas_m2, measure_columns, perimeters_m
from geohp.vector.placement import Placement
from geohp.vector.shaping import Shaper
from geohp.vector.stitching import Stitcher
from geohp.vector.survey import Survey, survey
from geohp.vector.zonal import Statistics, ZonalAccumulator, confidence_of, open_statistics

if TYPE_CHECKING:
    from xarray import DataArray

logger = logging.getLogger(__name__)

_COLUMNS = ("class_id", "class_name", "n_pixels", "geometry")
_MOST_ROWS = 2**16
"""Polygons in memory at once: a block of noise has millions."""


@dataclass(frozen=True, kw_only=True)
class PolygonizeOptions(PolygonOptions, AreaOptions):
    """All that :func:`polygonize` takes besides the labels; described there."""

    classes: Sequence[LandCoverClass] | None = None
    legend: LegendSource | None = None
    confidence: str | Path | DataArray | None = None
    stats: Sequence[Statistics | str] = ()
    any_values: bool = False
    block_px: int = BLOCK_PX
    progress: Progress = field(default_factory=default_progress)

    def __post_init__(self) -> None:
        """Raises VectorError: an impossible shape, both classes and a legend, or an area whose edge may not stay."""
        super().__post_init__()
        if self.classes is not None and self.legend is not None:
            raise VectorError("classes and a legend are both given", "name the labels in one of them only")
        if not all(isinstance(entry, LandCoverClass) for entry in self.classes or ()):
            problem = "classes are to be LandCoverClass objects, each with its label, name and colour"
            raise VectorError(problem, "give such, or only names: legend=geohp.Legend.named({0: 'water'})")
        if self.aoi is not None and self.simplify_boundary:
            problem = "{option}: the edge of an area of interest is kept as it is"
            raise VectorError(problem, "leave one of the two out", option="simplify_boundary")


@keywords(PolygonizeOptions)
def polygonize(labels: str | Path | DataArray, options: PolygonizeOptions) -> geopandas.GeoDataFrame:
    """Turn a label map into polygons, one for every 4-connected region of equal label.

    Every pixel with data is covered exactly once and pixels without are not covered. Outlines run along pixel edges
    unless simplified; all polygons that meet in a point have a vertex there. Rotated, sheared and south-up
    rasters come out where they lie. A raster with ground control points is placed by the polynomial that GDAL
    fits to them. A raster without a CRS keeps its map units, and an image that nothing places has pixel coordinates, y
    upwards from its upper edge and so negative, which is where QGIS shows it: "metres" then are those units.

    The raster is gone through block by block; what comes out does not depend on the blocks, but for
    simplification, see there. For more polygons than fit into memory there is
    :func:`geohp.polygonize_file`.

    Args:
        labels: path of a label raster, or an array with dims (y, x) and rioxarray's CRS, transform and nodata:
            one band of integers. No data is what the raster declares, and 255 where it declares no value.
        min_area_m2: regions below it go to the neighbour with the longest shared border, see
            :func:`geohp.vector.cleaning.merge_small`.
        simplify_m: tolerance in metres, see :func:`geohp.vector.simplify.simplified_corners`; 0 for exact outlines.
        smooth: how often to cut the corners of outlines, after simplification, see
            :func:`geohp.vector.smoothing.smooth`; 2 or 3 make them look round.
        simplify_boundary: whether the margins of areas without data are simplified and smoothed, too. Polygons may then
            cover a little of them.
        classes: names of the labels; by default those the raster declares, and "class 0", ... for the others.
        legend: names for the labels, ``{0: "water", 3: "water"}`` or as a legend, or the file that has them, instead of
            ``classes``. Labels of one class are one
            before regions are looked for, so that neighbours become one polygon. Labels without a name are kept,
            numbered as in :meth:`geohp.Legend.lookup`.
        confidence: a raster on the same grid; adds the columns ``mean_confidence`` and ``min_confidence``.
        stats: statistics of other rasters, on whatever grid, over the regions' pixels: texts like ``dsm.tif:mean,p90``,
            or :class:`geohp.vector.zonal.Statistics`.
        aoi, aoi_layer: area of interest, see :class:`geohp.options.AreaOptions`. Polygons are cut exactly at its edge;
            what is less than half a pixel there joins its neighbour. A polygon that the edge cuts apart stays one row.
            ``n_pixels`` and statistics are of all pixels that have a share in the polygon.
        any_values: take also for labels what does not look like them: integers that a scale makes quantities of, such
            as a confidence raster's, and more than a hundred different values without class names.
        block_px: side of a block.
        progress: called after every block with the stage "polygons"; the raster is gone through twice. By default bars
            in a notebook, and nobody elsewhere.

    Returns:
        rows in the order of the regions' first pixels, with the columns class_id, class_name, area_m2, perimeter_m
        (both as in :mod:`geohp.vector.measures`; of the polygon as it is, so after simplification; ``area`` and
        ``perimeter`` without a CRS, ``area_px`` and ``perimeter_px`` without any georeference), n_pixels, those of
        the statistics asked for (of the region's pixels; NaN where it has no value), and geometry, in the raster's CRS.
        ``attrs["classes"]`` holds all classes as JSON. A raster without any data gives no rows.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: no label map (floats, several bands, see ``any_values``), or an impossible argument.
        SourceError: no area of interest, or one that lies beside the raster.
        ConfigError: no legend, that of another model, or one that names a label that the raster says it does not have.
    """
    with open_polygons(labels, options) as polygons:
        frame = pd.concat(list(polygons.batches()) or [polygons.empty()])
        frame = frame.sort_index(ignore_index=True)
        frame.attrs["classes"] = classes_to_json(polygons.classes)
        return frame


@contextmanager
def open_polygons(labels: str | Path | DataArray, options: PolygonizeOptions) -> Iterator[Polygons]:
    """Survey a label map; its polygons can then be had batch by batch. Arguments as for :func:`polygonize`."""
    with ExitStack() as stack:
        raster = opened = stack.enter_context(open_labels(labels, any_values=options.any_values))
        named = options.legend is not None or options.classes is not None or raster.labels is not None
        if options.legend is not None:
            raster = RecodedLabels(raster, Legend.of(options.legend))
        grid = raster.grid
        crs = None if grid.map_crs is None else parse_crs(grid.map_crs)
        zonal = [stack.enter_context(open_statistics(request, opened)) for request in _statistics(options, grid)]
        if grid.map_crs is None and (options.min_area_m2 or options.simplify_m):
            unit = "its own units" if grid.is_georeferenced else "pixels"
            logger.info("%s does not say how large a metre is: sizes are taken to be in %s", raster.name, unit)
        area = asked_area(options)
        clip = None if area is None else Clip.of(area, grid, raster.name)
        raster = raster if clip is None else AreaLabels(raster, clip.coverage)
        areas, placement = PixelAreas(grid) if clip is None else CoveredAreas(grid, clip.coverage), Placement(grid)
        sliver_m2 = 0.0 if clip is None else clip.sliver_m2(areas, grid)
        blocks = BlockGrid(grid.height, grid.width, options.block_px)
        surveyed = survey(
            raster,
            blocks,
            areas,
            min_area_m2=max(options.min_area_m2, sliver_m2),
            most_values=None if named or options.any_values else MOST_UNNAMED,
            progress=options.progress,
        )
        opened.unchanged.check()
        classes = raster.classes if options.classes is None else tuple(options.classes)
        yield Polygons(
            classes=complete_classes(classes, np.unique(surveyed.table.values)),
            crs=crs,
            measures=measure_columns(grid),
            survey=surveyed,
            shaper=Shaper(areas, placement, options),
            zonal=zonal,
            progress=options.progress,
            clip=clip,
        )


@dataclass(frozen=True)
class Polygons:
    """The polygons of a surveyed label map.

    Attributes:
        classes: all of them, those that only their number is known of included.
        crs: of the polygons; ``None`` where the raster has none.
        measures: what the columns of areas and perimeters are called.
        survey: the regions.
        shaper: of their outlines.
        zonal: statistics to gather.
        progress: see :func:`polygonize`.
        clip: the area of interest that they are cut to.
    """

    classes: tuple[LandCoverClass, ...]
    crs: Any
    measures: tuple[str, str]
    survey: Survey
    shaper: Shaper
    zonal: Sequence[ZonalAccumulator]
    progress: Progress
    clip: Clip | None = None

    def batches(self) -> Iterator[geopandas.GeoDataFrame]:
        """The polygons, as soon as a block completes them; the index is the region's number, from 1.

        Yields:
            frames with the columns of :func:`polygonize`, none of them empty, and none too large for the memory.

        Raises:
            SceneError: a raster of statistics cannot be read, or has changed meanwhile.
        """
        blocks, stitcher = self.survey.blocks.blocks, Stitcher()
        blocks_left = self.survey.blocks_left.copy()
        for number, block in enumerate(blocks):
            here = self.survey.regions_in(number)
            if not len(here):
                self.progress("polygons", len(blocks) + number + 1, 2 * len(blocks))
                continue
            outlines = self.shaper.outlines(self.survey.regions(number), block)
            if self.zonal:
                parts = self.survey.parts(number)
                for statistics in self.zonal:
                    statistics.add(block, parts, here)
            blocks_left[here] -= 1
            complete = stitcher.add(outlines, here[blocks_left[here] == 0])
            for rings in complete.batches(_MOST_ROWS):
                yield self._frame(*rings.polygons(self.shaper.placement))
            self.progress("polygons", len(blocks) + number + 1, 2 * len(blocks))
        for statistics in self.zonal:
            statistics.unchanged.check()

    def empty(self) -> geopandas.GeoDataFrame:
        """A frame without rows."""
        return self._frame(np.empty(0, np.int64), np.empty(0, object))

    @cached_property
    def _names(self) -> dict[int, str]:
        return {entry.id: entry.name for entry in self.classes}

    def _frame(self, regions: NDArray[np.int64], polygons: NDArray[Any]) -> geopandas.GeoDataFrame:
        """(k,) polygons of (k,) regions with their attributes, see :func:`polygonize`."""
        table, rows = self.survey.table, regions - 1
        class_ids = table.values[rows].astype(np.int64)
        # From the pixels: coordinates in the millions of metres have not the digits for areas of single pixels.
        areas = table.areas_m2[rows] if self.shaper.exact else areas_m2(polygons, self.crs)
        if self.clip is not None:
            polygons, cut = self.clip.cut(polygons)
            areas = np.where(cut, areas_m2(polygons, self.crs), areas)
        area, perimeter = self.measures
        columns: dict[str, NDArray[Any]] = {
            "class_id": class_ids,
            "class_name": np.array([self._names[number] for number in class_ids.tolist()], dtype=object),
            area: areas,
            perimeter: perimeters_m(polygons, self.crs),
            "n_pixels": table.pixels[rows],
        }
        for statistics in self.zonal:
            columns |= statistics.take(regions)
        frame = geopandas.GeoDataFrame(columns, geometry=polygons, crs=self.crs, index=regions)
        return frame if self.clip is None else frame[~frame.is_empty]  # simplified, one may have left the area


def _statistics(options: PolygonizeOptions, grid: Grid) -> list[Statistics]:
    """The statistics asked for, each with columns of its own."""
    requests = [Statistics.parse(request) if isinstance(request, str) else request for request in options.stats]
    if options.confidence is not None:
        requests.insert(0, confidence_of(options.confidence))
    columns = [*_COLUMNS, *measure_columns(grid), *(name for request in requests for name in request.names)]
    folded = [name.lower() for name in columns]  # to databases they are the same
    for name in columns:
        if folded.count(name.lower()) > 1:
            raise VectorError(f"two columns would be called {name!r}", "give one of the rasters another name")
    return requests
