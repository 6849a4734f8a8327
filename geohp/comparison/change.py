"""From two dates of a place to what has changed: transitions, polygons, a matrix of areas, and a picture.

both dates ─▶ maps by one model and one scaling ─▶ transitions ─▶ what is sure and large enough ─▶ files
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import LandCoverClass, classes_to_json
from geohp.comparison.dates import Dates, check_dates, open_dates
from geohp.comparison.matrix import ChangeMatrix, Counter
from geohp.comparison.options import LAYER, ChangeOptions
from geohp.comparison.reading import DatePair, TrustedChange, open_pair
from geohp.comparison.transitions import NODATA, Transitions
from geohp.credentials import without_credentials
from geohp.files.atomic import write_bytes, write_text
from geohp.inference.extent import read_area
from geohp.options import keywords
from geohp.raster.area_of_interest import asked_area
from geohp.raster.block import BLOCK_PX, BlockGrid
from geohp.raster.grid import parse_crs
from geohp.raster.read.inputs import file_input
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.resume_identity import file_states
from geohp.style import write_styles
from geohp.vector.measures import PixelAreas, measure_columns
from geohp.vector.survey import Survey, survey
from geohp.version import __version__

if TYPE_CHECKING:
    import geopandas

    from geohp.inference.map_scene import MapModel

_COUNTS = "change"  # key of a finished block's note
_STAGE = "comparing"


@dataclass(frozen=True)
class ChangeResult:
    """What has changed between two dates.

    Attributes:
        files: what there is of it, the raster of transitions first.
        classes: of land cover, at either date.
        matrix: how much of which class has become what.
        polygons: how many there are, where they were asked for.
        model: what mapped the dates; ``None`` where label maps were compared.
    """

    files: tuple[Path, ...]
    classes: tuple[LandCoverClass, ...]
    matrix: ChangeMatrix
    polygons: int | None = None
    model: MapModel | None = None

    def _repr_html_(self) -> str:
        from geohp.reporting.summaries import summary

        matrix = self.matrix
        digits = 0 if matrix.areas_ha is None else 3
        facts = {
            "files": ", ".join(map(str, self.files)),
            "polygons": None if self.polygons is None else f"{self.polygons:,}",
            "model": None if self.model is None else self.model.origin,
            "not counted of the pixels that differ": f"{100 * matrix.suppressed_share:.0f} %",
        }
        now = {
            f"now {entry.name} ({matrix.unit})": [f"{value:,.{digits}f}" for value in column]
            for entry, column in zip(matrix.classes, matrix.values.T.tolist(), strict=True)
        }
        return summary("Change, by class before", facts, matrix.classes, now)


@keywords(ChangeOptions)
def change(old: str | Path, new: str | Path, options: ChangeOptions) -> ChangeResult:
    """Compare two dates of a place: two scenes mapped by one model with one scaling, or two maps of one model.

    The new date is brought to the old one's pixel grid by its nearest pixels. Both are gone through block by block, in
    memory that does not grow with them (but for the regions of change, slowly with their number). After an interruption
    the same call goes on where it was. Change that is not to be trusted counts as none: the old class stays.

    Args:
        old, new: scenes, or label maps.
        out, polygons, matrix, picture, qml: see :class:`geohp.comparison.options.ChangeProducts`.
        min_confidence, confidence, labels, per_date_scaling, maps: see
            :class:`geohp.comparison.options.ChangeOptions`.
        min_area_m2: regions of one transition that are smaller count as no change.
        model, legend, device: see :class:`geohp.inference.map_options.ModelOptions`.
        classes, backbone, weights, block, bands, scaling, seed, split_covers: see
            :class:`geohp.options.FitOptions`; without a model, classes are found on both dates together.
        overlap, window_px, pixel_size_m, tta, refine: see :class:`geohp.options.WindowOptions`.
        aoi, aoi_layer, crop: see :class:`geohp.options.ExtentOptions`.
        on_read_error, restart, client, progress: see :class:`geohp.inference.map_options.RasterOptions`.
        simplify_m, smooth, simplify_boundary: of the polygons, see :class:`geohp.options.PolygonOptions`.
        datetime: has no meaning here.
        overwrite: replace files that exist.

    Returns:
        What there is now.

    Raises:
        SceneError: a raster cannot be read, or the dates show different ground.
        VectorError: maps of different models, or whose labels differ in meaning.
        OutputError: a file exists, would replace an input, or cannot be written.
        GeohpError: model or options cannot be used.
    """
    old, new = str(file_input(old)), str(file_input(new))
    inputs = [old, new, *options.sources]
    options.check(overwrite=options.overwrite, inputs=inputs, input_layer=options.aoi_layer, restart=options.restart)
    options = read_area(options)
    are_labels = check_dates(old, new, options)
    with open_dates(old, new, options, are_labels=are_labels) as dates:
        return _Comparison(dates, options).run()


@dataclass(frozen=True)
class _Comparison:
    """Two maps, and what to make of them."""

    dates: Dates
    options: ChangeOptions

    def run(self) -> ChangeResult:
        options, paths = self.options, self.options.paths
        with open_pair(self.dates, options) as pair:
            blocks = BlockGrid(*pair.grid.shape, BLOCK_PX)
            trusted = TrustedChange(pair)
            surveyed = survey(trusted, blocks, PixelAreas(pair.grid), progress=self._surveying)
            large = surveyed.table.areas_m2 >= options.min_area_m2 * (1 - 1e-9)
            shown = pair.transitions.described(trusted.occurring | _stayed(pair.transitions, trusted.occurring))
            with self._written_raster(pair, surveyed, large, shown) as matrix, _complete_so_far(paths["out"]):
                count = self._write_polygons(pair, surveyed, large, shown) if "polygons" in paths else None
                if "qml" in paths:
                    write_styles(paths["out"], shown, overwrite=True)
                if "matrix" in paths:
                    write_text(paths["matrix"], matrix.to_csv())
                if "picture" in paths:
                    from geohp.comparison.picture import draw_change

                    write_bytes(paths["picture"], draw_change(self.dates, paths["out"], matrix, pair.transitions))
        return ChangeResult(tuple(paths.values()), pair.transitions.classes, matrix, count, self.dates.model)

    def _surveying(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """The survey's progress, which goes to one half, is that of the comparison."""
        self.options.progress(_STAGE, done, total, detail)

    @contextmanager
    def _written_raster(
        self, pair: DatePair, surveyed: Survey, large: NDArray[np.bool_], shown: tuple[LandCoverClass, ...]
    ) -> Iterator[ChangeMatrix]:
        """The transitions, and how much there is of each; stopped within the ``with`` block, it can be gone on with."""
        out, blocks = self.options.paths["out"], surveyed.blocks.blocks
        counter = Counter(pair.grid, pair.transitions)
        layer, identity = self._layer(shown, pair.transitions), self._identity(pair)
        pair.check_unchanged()  # or the identity would be of other files than the survey
        with ResumableRasterWriter.open(
            {out: layer},
            pair.grid,
            identity,
            also=[path for path in self.options.paths.values() if path != out],
            restart=self.options.restart,
            overwrite=self.options.overwrite,
        ) as work:
            for number, block in enumerate(blocks):
                if block.origin not in work.finished:
                    compared = pair.read(block)
                    kept = _kept(surveyed, number, large)
                    codes = pair.transitions.codes(compared.old, np.where(kept, compared.new, compared.old))
                    codes[compared.old == 255] = NODATA
                    note = {_COUNTS: counter.count(block, compared, kept)}
                    work.put(block.row, block.col, {out: codes}, note)
                self.options.progress(_STAGE, len(blocks) + number + 1, 2 * len(blocks))
            pair.check_unchanged()
            work.publish()
            yield counter.matrix(note[_COUNTS] for note in work.notes)

    def _layer(self, shown: tuple[LandCoverClass, ...], transitions: Transitions) -> Layer:
        options, dates = self.options, self.dates
        tags = {
            "GEOHP_VERSION": __version__,
            "GEOHP_CHANGE_FROM": without_credentials(dates.old.name),
            "GEOHP_CHANGE_TO": without_credentials(dates.new.name),
            "GEOHP_CHANGE_CODE": f"{transitions.base} * from + to",
            "GEOHP_CHANGE_CLASSES": classes_to_json(transitions.classes),
            "GEOHP_CHANGE_MIN_CONFIDENCE": f"{options.min_confidence:g}",
            "GEOHP_CHANGE_MIN_AREA_M2": f"{options.min_area_m2:g}",
        }
        if dates.model is not None:
            tags |= {"GEOHP_CHANGE_MODEL": dates.model.origin, "GEOHP_CHANGE_MODEL_SHA256": dates.model.sha256}
        return Layer(
            dtype="uint16",
            nodata=NODATA,
            colormap={entry.id: (*entry.rgb, 255) for entry in shown},
            band_descriptions=("land-cover change",),
            band_tags={"classes": classes_to_json(shown)},
            tags=tags,
            overviews="mode",
        )

    def _identity(self, pair: DatePair) -> dict[str, Any]:
        """What unfinished work must agree in to be gone on with."""
        options, dates = self.options, self.dates
        area = asked_area(options)
        return {
            "inputs": [without_credentials(date.name) for date in (dates.old, dates.new)],
            "input files": file_states(pair.files),
            "confidence": options.min_confidence,
            "smallest area": options.min_area_m2,
            "crop": options.crop,
            "area of interest": None if area is None else area.shape.wkt,
            "geohp": __version__,
        }

    def _write_polygons(
        self, pair: DatePair, surveyed: Survey, large: NDArray[np.bool_], shown: tuple[LandCoverClass, ...]
    ) -> int:
        from geohp.vector.formats import Batches
        from geohp.vector.placement import Placement
        from geohp.vector.polygonize import Polygons
        from geohp.vector.shaping import Shaper
        from geohp.vector.writing import write_layer
        from geohp.vector.zonal import ZonalAccumulator

        grid = pair.grid
        sure = ZonalAccumulator(pair.confidence, ("mean", "min"), ("mean_confidence", "min_confidence"))
        polygons = Polygons(
            classes=shown,
            crs=None if grid.map_crs is None else parse_crs(grid.map_crs),
            measures=measure_columns(grid),
            survey=surveyed,
            shaper=Shaper(PixelAreas(grid), Placement(grid), self.options),
            zonal=[sure] if pair.has_confidence else [],
            progress=self.options.progress,
        )
        frames = _of_change(polygons, large, pair)
        batches = Batches(frames, _named(polygons.empty(), pair.transitions))
        changes = [entry for entry in shown if len({*pair.transitions.ids(entry.id)}) == 2]
        write_layer(batches, self.options.paths["polygons"], changes, LAYER)
        return batches.rows


@contextmanager
def _complete_so_far(out: Path) -> Iterator[None]:
    """Have whatever ends the work say that the raster of transitions is there."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{out}: complete; only what was to be made of it is missing")
        raise


def _stayed(transitions: Transitions, codes: set[int]) -> set[int]:
    """For every transition the one that is left of it where it is too small to count."""
    return {old * transitions.base + old for old, _ in map(transitions.ids, codes)}


def _kept(surveyed: Survey, number: int, large: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels (rows, cols) of a block belong to a region of change that is large enough."""
    kept = np.concatenate([[False], large[surveyed.regions_in(number) - 1]])
    return np.asarray(kept[surveyed.parts(number).ids], bool)


def _of_change(polygons: Any, large: NDArray[np.bool_], pair: DatePair) -> Iterator[geopandas.GeoDataFrame]:
    """The polygons of regions that are large enough."""
    for frame in polygons.batches():
        kept = frame[large[frame.index.to_numpy() - 1]]
        if len(kept):
            yield _named(kept, pair.transitions)
    pair.check_unchanged()


def _named(frame: geopandas.GeoDataFrame, transitions: Transitions) -> geopandas.GeoDataFrame:
    """The polygons with what they were and what they have become."""
    codes = frame["class_id"].to_numpy()
    ids = np.array([transitions.ids(code) for code in codes.tolist()], np.int64).reshape(-1, 2)
    names = np.array([transitions.names(code) for code in codes.tolist()], object).reshape(-1, 2)
    frame = frame.copy()
    for place, (name, values) in enumerate(
        (("from_id", ids[:, 0]), ("from_name", names[:, 0]), ("to_id", ids[:, 1]), ("to_name", names[:, 1])), start=2
    ):
        frame.insert(place, name, values)
    return frame
