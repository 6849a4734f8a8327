"""The maps of a folder: made where they are not there yet, by one model, and all of them as one mosaic."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import Note, ReadError, SceneError, VectorError
from geohp.files.checks import check_output, refuse_parts
from geohp.files.unfinished import work_folder
from geohp.inference.areas import ClassArea, area_columns, total_areas
from geohp.inference.engine.settings import engine_settings
from geohp.inference.extent import Extent
from geohp.inference.folder_model import FolderModel, digest, foreign_output
from geohp.inference.folder_record import FolderRecord
from geohp.inference.identity import run_identity
from geohp.inference.map_options import MapOptions
from geohp.inference.map_scene import SceneResult, map_scene, undated
from geohp.inference.products import MOSAIC, Products, products_beside
from geohp.inference.segment import load_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.model.digest import model_sha256
from geohp.options import PolygonOptions
from geohp.raster.gdal import open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.labels import MODEL_TAG
from geohp.raster.write.cog import remove_side_files
from geohp.raster.write.layer import label_layer
from geohp.raster.write.vrt import GridMismatch, common_grid, write_mosaic_vrt
from geohp.vector.targets import has_column
from geohp.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchResult:
    """What became of many scenes.

    Attributes:
        maps: one of each scene, in their order.
        classes: what the labels mean, in all of them.
        origin: says in words where they came from.
        mosaic: all maps as one virtual raster, or why there is none.
        model_sha256: tells the model from others.
    """

    maps: tuple[SceneResult, ...]
    classes: tuple[LandCoverClass, ...]
    origin: str
    mosaic: Path | str
    model_sha256: str = ""

    @property
    def areas(self) -> tuple[ClassArea, ...]:
        """How much each class covers in all maps together; empty where that is not known of one of them."""
        return total_areas([result.areas for result in self.maps if result.error is None and result.classes])

    @property
    def failed(self) -> tuple[SceneResult, ...]:
        """The scenes of which there is no map."""
        return tuple(result for result in self.maps if result.error is not None)

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} scenes without one" if self.failed else ""
        return f"<BatchResult: {len(self.maps) - len(self.failed)} maps{failed}, {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        from geohp.reporting.summaries import summary

        failed = "; ".join(f"{result.scene} ({result.error})" for result in self.failed)
        facts = {"without a map": failed, "mosaic": self.mosaic, "model": self.origin}
        title = f"{len(self.maps) - len(self.failed)} of {len(self.maps)} maps"
        return summary(title, facts, self.classes, area_columns(self.areas))


def map_folder(
    record: FolderRecord,
    targets: Mapping[str, Products],
    options: MapOptions,
    *,
    mosaic: bool = True,
    apart: bool = False,
) -> BatchResult:
    """Make the maps of a folder that are not there yet.

    Args:
        record: what the folder holds.
        targets: the files to make of each scene.
        options: how; see :func:`geohp.segment_files`.
        mosaic: also write all maps as one.
        apart: a scaling that measures pixel values measures those of each scene by themselves.
    """
    segmenter = load_segmenter(options)
    model = FolderModel(record, options, apart=apart)
    if not options.overwrite:
        files = [path for target in targets.values() for path in target.paths.values()]
        model.refuse_foreign(files, fitting=segmenter is None)
    segmenter, collection = model.resolve(segmenter, list(targets))
    segmenter = segmenter if options.legend is None else segmenter.named(options.legend)
    return _Batch(record, segmenter, collection, options).run(targets, mosaic=mosaic)


@dataclass(frozen=True)
class _Batch:
    """All that the scenes have in common, and the work."""

    record: FolderRecord
    segmenter: Segmenter
    scenes: SceneCollection
    options: MapOptions

    def run(self, targets: Mapping[str, Products], *, mosaic: bool) -> BatchResult:
        keys, errors, parts = self._keys(targets)
        refuse_parts((path for products in targets.values() for path in products.paths.values()), parts)
        self._refuse_foreign({scene: targets[scene] for scene in keys}, keys)
        if mosaic:
            path = self.record.folder / MOSAIC
            check_output(path, overwrite=self.options.overwrite or self.record.holds(path))
        results: list[SceneResult] = []
        beside = self._beside_replaced(targets, keys)
        progress = self.options.progress
        with _counting_maps(results, len(targets), self.record.folder):
            for number, (scene, products) in enumerate(targets.items()):
                progress("scenes", number, len(targets), Path(scene).name)
                if scene in errors:
                    results.append(SceneResult(scene, error=errors[scene]))
                else:
                    results.append(self._map(scene, products, keys[scene]))
            progress("scenes", len(targets), len(targets))
            files = [result.files[0] for result in results if result.files]
            whole = self._mosaic(files) if mosaic else "none was asked for"
        for result in results:
            if result.error is not None:
                logger.warning("no map of %s: %s", result.scene, result.error)
        if without_date := [result.scene for result in results if result.undated]:
            logger.warning(undated(without_date))
        if earlier := [path for result in results if result.error is None for path in beside.get(result.scene, ())]:
            more = "" if len(earlier) == 1 else f" (and {len(earlier) - 1} more)"
            logger.warning("%s%s was made of a map that is replaced: ask for it, too, or remove it", earlier[0], more)
        digest = model_sha256(self.segmenter.model)
        return BatchResult(tuple(results), self.segmenter.classes, self.segmenter.origin, whole, digest)

    def _keys(self, targets: Iterable[str]) -> tuple[dict[str, str], dict[str, str], set[str]]:
        """What the files of each scene depend on, digested; why others cannot be made; and what all scenes are of."""
        keys: dict[str, str] = {}
        files: set[str] = set()
        errors: dict[str, str] = {}
        for path in targets:
            try:
                with self.scenes.open(path) as scene:
                    files.update(scene.files)
                    self.segmenter.check_bands(scene)
                    settings = engine_settings(self.segmenter.model, scene, self.options)
                    extent = Extent.of(scene.grid, path, self.options)
                    identity = run_identity(scene, self.segmenter.model, settings, self.options.on_read_error, extent)
                    # Files name the classes, which the model's digest knows nothing of.
                    keys[path] = digest({**identity, "classes": classes_to_json(self.segmenter.classes)})
            except SceneError as error:
                errors[path] = str(error)
        return keys, errors, files

    def _refuse_foreign(self, targets: Mapping[str, Products], keys: Mapping[str, str]) -> None:
        """Before any work: nothing may be in the way that something else has made."""
        for scene, products in targets.items():
            known = self._record_of(products, keys[scene])
            for kind, path in products.paths.items():
                if path.exists() and not self.options.overwrite and not known.holds(kind):
                    raise foreign_output(
                        f"{path}: exists already and is not what this command makes of {scene} as it is now"
                    )
                check_output(path, overwrite=True)

    def _map(self, path: str, products: Products, key: str) -> SceneResult:
        """Make of a scene what is not there yet."""
        record = self._record_of(products, key)
        if not record.lacks(products.paths):
            files, is_empty = tuple(products.paths.values()), self.record.areas(products.labels) == ()
            classes = () if is_empty else self.segmenter.classes
            return SceneResult(path, files, classes, areas=self._areas(products), made_earlier=True)
        options = replace(self.options, overwrite=True)  # what may not be replaced has been refused
        try:
            with self.scenes.open(path) as scene:
                result = map_scene(scene, products, options, segmenter=self.segmenter, record=record)
        except (SceneError, VectorError) as error:
            notes = [note for note in getattr(error, "__notes__", ()) if not isinstance(note, Note)]  # once, for all
            text = ". ".join([str(error).rstrip("."), *notes])
            return SceneResult(path, error=text, unreadable=isinstance(error, ReadError))
        if result.areas or not result.classes:
            self.record.remember_areas(products.labels, result.areas)
            return result
        return replace(result, areas=self._areas(products))

    def _beside_replaced(self, targets: Mapping[str, Products], keys: Mapping[str, str]) -> dict[str, list[Path]]:
        """By scene whose map is about to be replaced by another: what was made of it and is not asked for now."""
        beside = {}
        for scene, key in keys.items():
            labels, asked = targets[scene].labels, targets[scene].paths.values()
            if self.record.holds(labels) and not self.record.holds(labels, key):
                made = products_beside(labels).paths.values()
                beside[scene] = [path for path in made if path not in asked and self.record.holds(path)]
        return beside

    def _areas(self, products: Products) -> tuple[ClassArea, ...]:
        """The areas of a map that an earlier call has written, their classes as they are named now."""
        known = self.record.areas(products.labels) or ()
        names = {entry.id: entry.name for entry in self.segmenter.classes}
        areas = tuple(replace(area, name=names.get(area.id, area.name)) for area in known)
        return areas if [area.id for area in areas] == list(names) else ()

    def _record_of(self, products: Products, key: str) -> _SceneRecord:
        shape = {field.name: getattr(self.options, field.name) for field in fields(PolygonOptions)}
        if not self.options.simplify_boundary:  # folders made before there was this option do not name it
            del shape["simplify_boundary"]
        keys = {kind: digest([key, shape]) if kind == "polygons" else key for kind in products.paths}
        if "stac" in keys and self.options.datetime is not None:
            keys["stac"] = digest([key, self.options.datetime])
        return _SceneRecord(self.record, products, keys, model_sha256(self.segmenter.model))

    def _mosaic(self, maps: Sequence[Path]) -> Path | str:
        """All maps of the folder by this model as one raster: earlier calls' below, and the later of two on top."""
        path = self.record.folder / MOSAIC
        model = model_sha256(self.segmenter.model)
        grids = {}
        fresh = set(maps)
        for file in [*(file for file in self.record.maps(model) if file not in fresh), *maps]:
            with open_raster(file) as dataset:
                grids[file] = Grid.of(dataset)
        grid = common_grid(grids)
        if isinstance(grid, GridMismatch):
            if self.record.holds(path):  # of an earlier call, which knew nothing of the maps of today
                path.unlink()
                remove_side_files(path)
            return grid.reason
        tags = {"GEOHP_VERSION": __version__, "GEOHP_MODEL": self.segmenter.origin, MODEL_TAG: model}
        with self.record.making({path: model}):
            write_mosaic_vrt(path, label_layer(self.segmenter.classes, tags), grid, grids)
        return path


@dataclass(frozen=True)
class _SceneRecord:
    """What the folder's record knows of one scene's products."""

    record: FolderRecord
    products: Products
    keys: Mapping[str, str]
    model: str

    def holds(self, kind: str) -> bool:
        return self.record.holds(self.products.paths[kind], self.keys[kind])

    def lacks(self, kinds: Collection[str]) -> bool:
        if not all(map(self.holds, kinds)) or ("labels" in kinds and work_folder(self.products.labels).exists()):
            return True
        # An earlier call may have made polygons that knew of no confidence.
        asked = "polygons" in kinds and self.products.confidence is not None
        return asked and not has_column(self.products.paths["polygons"], "mean_confidence")

    def making(self, kinds: Collection[str]) -> AbstractContextManager[None]:
        keys = {self.products.paths[kind]: self.keys[kind] for kind in kinds}
        return self.record.making(keys, {self.products.labels: self.model})


@contextmanager
def _counting_maps(results: Sequence[SceneResult], total: int, folder: Path) -> Iterator[None]:
    """Have whatever ends the work say how many maps are complete."""
    try:
        yield
    except BaseException as error:
        complete = sum(bool(result.files) for result in results)
        if complete:
            error.add_note(
                f"{complete} of {total} maps are complete in {folder}; the same command goes on with the others"
            )
        raise
