"""From a scene to its map: rasters, polygons, style and STAC Item, in one workflow.

scene ─▶ segmenter ─▶ rasters ─▶ polygons, style, STAC Item
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from geohp.classes import LandCoverClass
from geohp.credentials import without_credentials
from geohp.errors import ConfigError, Note, ReadError
from geohp.files.unfinished import may_replace
from geohp.inference.checks import check_scene_mapping
from geohp.inference.extent import read_area
from geohp.inference.map_options import MapOptions
from geohp.inference.products import Products
from geohp.model.digest import model_sha256
from geohp.options import keywords
from geohp.raster.area_of_interest import area_files
from geohp.raster.grid import Grid
from geohp.raster.read.inputs import file_input
from geohp.raster.read.labels import holds_data, opened_raster
from geohp.raster.read.scene import Scene

if TYPE_CHECKING:
    from geohp.inference.areas import ClassArea
    from geohp.inference.segmenter import Segmenter
    from geohp.inference.writing import Skipped

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MapModel:
    """What a map was made with.

    Attributes:
        origin: says in words where the model came from.
        sha256: tells it from others, see :func:`geohp.model.digest.model_sha256`.
    """

    origin: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SceneResult:
    """What became of a scene.

    Attributes:
        scene: as it was named.
        files: what there is of it, labels first; empty where it failed.
        classes: what the labels mean; none where the scene holds no data.
        polygons: how many there are, where they were made.
        skipped: the parts left out because they could not be read.
        areas: how much each class covers, counted while the map was written; empty where an earlier run has
            written it, or it holds no data.
        model: what made it; ``None`` where it failed.
        made_earlier: an earlier run had made all of it.
        undated: nobody says when the scene was taken, and so the STAC Item that was made does not, either.
        error: why there is no map; ``None`` where there is one.
        unreadable: that is so because a part of the scene cannot be read.
    """

    scene: str
    files: tuple[Path, ...] = ()
    classes: tuple[LandCoverClass, ...] = ()
    polygons: int | None = None
    skipped: tuple[Skipped, ...] = ()
    areas: tuple[ClassArea, ...] = ()
    model: MapModel | None = None
    made_earlier: bool = False
    undated: bool = False
    error: str | None = None
    unreadable: bool = False

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<SceneResult: no map of {self.scene}: {self.error}>"
        files = ", ".join(map(str, self.files))
        return f"<SceneResult: {self.scene}, {len(self.classes)} classes: {files}>"

    def _repr_html_(self) -> str:
        from geohp.inference.areas import area_columns
        from geohp.reporting.summaries import summary

        facts = {
            "no map": self.error,
            "files": ", ".join(map(str, self.files)),
            "polygons": None if self.polygons is None else f"{self.polygons:,}",
            "model": None if self.model is None else self.model.origin,
            "parts that could not be read": len(self.skipped) or None,
        }
        return summary(f"Map of {self.scene}", facts, self.classes, area_columns(self.areas))


class ProductRecord(Protocol):
    """Who remembers which products of a scene there are already."""

    def lacks(self, kinds: Collection[str]) -> bool:
        """Whether any of these is still to be made."""

    def making(self, kinds: Collection[str]) -> AbstractContextManager[None]:
        """They are being made within the ``with`` block."""


class _NoRecord:
    def lacks(self, kinds: Collection[str]) -> bool:
        return True

    def making(self, kinds: Collection[str]) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, kw_only=True)
class FileOptions(MapOptions, Products):
    """All that can be asked of one scene's map."""


@keywords(FileOptions)
def segment_file(scene: str | Path, options: FileOptions) -> SceneResult:
    """Label a scene into cloud-optimised GeoTIFFs on exactly its grid, and what else is made of them.

    After an interruption, also ``kill -9`` or a power failure, the same call goes on where it was, to the same bytes.
    The exception that ends it says so in a note where there is something to go on with.

    Args:
        scene: a path or URL that GDAL opens.
        out, confidence, entropy, probabilities, polygons, qml, stac: see
            :class:`geohp.inference.products.Products`.
        model, legend, device: see :class:`geohp.inference.map_options.ModelOptions`.
        classes, backbone, weights, block, bands, scaling, seed, split_covers: see
            :class:`geohp.options.FitOptions`.
        overlap, window_px, pixel_size_m, tta, refine: see :class:`geohp.options.WindowOptions`.
        aoi, aoi_layer, crop: see :class:`geohp.options.ExtentOptions`; classes are found inside, and what lies outside
            costs nothing. Polygons are those of the raster, pixel by pixel.
        on_read_error, restart, client, progress: see :class:`geohp.inference.map_options.RasterOptions`.
        min_area_m2, simplify_m, smooth, simplify_boundary: see :class:`geohp.options.PolygonOptions`.
        datetime, overwrite: see :class:`geohp.inference.map_options.MapOptions`.

    Returns:
        What there is now.

    Raises:
        SceneError: the scene cannot be read.
        OutputError: a file exists, would replace the input, or cannot be written.
        GeohpError: model or options cannot be used.
    """
    return map_scene(scene if isinstance(scene, Scene) else file_input(scene), options, options)


def map_scene(
    scene: str | Path | Scene,
    products: Products,
    options: MapOptions,
    *,
    segmenter: Segmenter | None = None,
    record: ProductRecord | None = None,
) -> SceneResult:
    """Make of a scene what is not there yet.

    Args:
        scene: a path or URL that GDAL opens, or an open scene.
        products: the files to make.
        options: how.
        segmenter: in place of the model that the options name.
        record: knows what is there; nothing by default.
    """
    alone, record = record is None, record or _NoRecord()
    name, options = scene.path if isinstance(scene, Scene) else str(scene), read_area(options)
    if segmenter is None:
        check_map(scene, products, options)
    else:
        _check_products(name, products, options)
    # Not before: whatever is wrong with files and options is found without torch, which takes seconds.
    from geohp.inference.rasters import written_rasters
    from geohp.inference.segment import resolve_segmenter

    asked = options.overwrite
    overwrite = may_replace(products.labels, overwrite=asked, restart=options.restart)
    options = replace(options, overwrite=overwrite, progress=partial(options.progress, detail=Path(name).name))
    if segmenter is None:
        forgiving = options.on_read_error == "nodata"
        with _advice_on_reading(options):
            segmenter = resolve_segmenter(scene, options, errors_as_nodata=forgiving, progress=options.progress)
    skipped: tuple[Skipped, ...] = ()
    areas: tuple[ClassArea, ...] = ()
    with segmenter.open(scene) as opened, ExitStack() as stack:
        anew = record.lacks(products.rasters)
        if anew:
            with _advice_on_reading(options), record.making(products.rasters):
                rasters = written_rasters(opened, segmenter, products, options, overwrite=asked)
                written = stack.enter_context(rasters)
            skipped, areas = written.skipped, written.areas
        polygons, dated = _write_the_rest(name, segmenter, products, options, record, anew)
    if alone and not dated:
        logger.warning(undated([name]))
    classes = segmenter.classes if holds_data(products.labels) else ()
    model = MapModel(segmenter.origin, model_sha256(segmenter.model))
    return SceneResult(
        name,
        tuple(products.paths.values()),
        classes,
        polygons,
        skipped,
        areas if classes else (),
        model,
        undated=not dated,
    )


def undated(scenes: Sequence[str]) -> Note:
    """What to say of scenes whose STAC Items have no date, in one sentence."""
    first, more = without_credentials(scenes[0]), len(scenes) - 1
    one = "does not say when it was taken, so its STAC Item has no date; {option} gives it one"
    several = "do not say when they were taken, so their STAC Items have no date; {option} gives them one"
    return Note(f"{first} and {more} more {several}" if more else f"{first} {one}", option="datetime")


@contextmanager
def _advice_on_reading(options: MapOptions) -> Iterator[None]:
    """Have an error in reading say that what can be read may be mapped all the same."""
    try:
        yield
    except ReadError as error:
        if options.on_read_error == "stop":
            text = "the rest of the scene can be mapped with {option}"
            error.add_note(Note(text, option="on_read_error", value="nodata"))
        raise


def check_map(scene: str | Path | Scene, products: Products, options: MapOptions) -> None:
    """Refuse what :func:`map_scene` would refuse, as far as it can be known without torch.

    Raises:
        GeohpError: one sentence and its remedy.
    """
    if options.datetime is not None and not products.stac:
        raise ConfigError("{option}: is for STAC Items", "ask for one, too, or leave it out", option="datetime")
    name = scene.path if isinstance(scene, Scene) else str(scene)
    _check_products(name, products, options)
    check_scene_mapping(scene, options, products.paths.values())
    if products.polygons is not None:
        _check_measuring(scene, products.polygons)


def _check_products(scene: str, products: Products, options: MapOptions) -> None:
    inputs: list[str | Path] = [scene, *area_files(options)]
    products.check(overwrite=options.overwrite, inputs=inputs, input_layer=options.aoi_layer, restart=options.restart)


def _check_measuring(scene: str | Path | Scene, polygons: str | Path) -> None:
    """Refuse polygons whose areas or places cannot be told, before the hours that the raster takes."""
    from geohp.vector.measures import PixelAreas
    from geohp.vector.targets import check_on_earth

    if isinstance(scene, Scene):
        grid = scene.grid
    else:
        with opened_raster(scene) as (dataset, _):
            grid = Grid.of(dataset)
    PixelAreas(grid)
    check_on_earth(polygons, grid.map_crs)


def _write_the_rest(
    scene: str, segmenter: Segmenter, products: Products, options: MapOptions, record: ProductRecord, anew: bool
) -> tuple[int | None, bool]:
    """What is made of the rasters; returns the number of polygons, and whether an item that was made has a date."""
    count, dated = None, True
    complete = [*products.rasters]
    try:
        for kind in [kind for kind in products.paths if kind not in products.rasters]:
            if kind != "polygons" or anew or record.lacks(["polygons"]):
                with record.making([kind]):
                    if kind == "polygons":
                        count = _write_polygons(products, options)
                    elif kind.endswith("qml"):
                        _write_style(kind.removesuffix(" qml"), segmenter, products, options)
                    else:
                        dated = _write_item(scene, products, options)
            complete.append(kind)
    except BaseException as error:
        files = ", ".join(str(products.paths[kind]) for kind in complete)
        error.add_note(f"{files}: complete; only what was to be made of it is missing")
        raise
    return count, dated


def _write_polygons(products: Products, options: MapOptions) -> int:
    from geohp.vector.writing import polygonize_file

    return polygonize_file(
        products.labels,
        products.paths["polygons"],
        min_area_m2=options.min_area_m2,
        simplify_m=options.simplify_m,
        smooth=options.smooth,
        simplify_boundary=options.simplify_boundary,
        confidence=products.confidence,
        overwrite=options.overwrite,
        progress=options.progress,
    )


def _write_style(name: str, segmenter: Segmenter, products: Products, options: MapOptions) -> None:
    """The style of one raster."""
    from geohp.style import write_ramp, write_styles

    if name == "labels":
        write_styles(products.labels, segmenter.classes, overwrite=options.overwrite)
    else:
        write_ramp(products.styled[name], name, overwrite=options.overwrite)


def _write_item(scene: str, products: Products, options: MapOptions) -> bool:
    from geohp.inference.stac import write_item

    files = {kind: path for kind, path in products.paths.items() if kind != "stac" and not kind.endswith("qml")}
    return write_item(products.paths["stac"], files, scene, options.acquisition)
