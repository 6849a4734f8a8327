"""Many scenes at once: one model, one scaling, a map of each in a folder, and all maps as one mosaic."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from geohp.classes import LandCoverClass
from geohp.errors import ConfigError, SceneError, VectorError
from geohp.files import check_output
from geohp.inference.engine.settings import engine_settings
from geohp.inference.folder_model import FolderModel, digest, foreign_output
from geohp.inference.folder_record import FolderRecord, output_folder
from geohp.inference.identity import run_identity
from geohp.inference.map_options import MapOptions
from geohp.inference.map_scene import SceneResult, map_scene
from geohp.inference.products import MOSAIC, Products, folder_products
from geohp.inference.segment import load_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.model.digest import model_sha256
from geohp.options import PolygonOptions, keywords
from geohp.raster.gdal import open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.labels import MODEL_TAG
from geohp.raster.sources.find import find_images
from geohp.raster.write.layer import label_layer
from geohp.raster.write.resumable import work_folder
from geohp.raster.write.vrt import GridMismatch, common_grid, write_mosaic_vrt
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
    """

    maps: tuple[SceneResult, ...]
    classes: tuple[LandCoverClass, ...]
    origin: str
    mosaic: Path | str

    @property
    def failed(self) -> tuple[SceneResult, ...]:
        """The scenes of which there is no map."""
        return tuple(result for result in self.maps if result.error is not None)


@dataclass(frozen=True, kw_only=True)
class BatchOptions(MapOptions):
    """All that can be asked of many scenes' maps.

    Attributes:
        products: what else to write of each scene, out of :data:`geohp.inference.products.PRODUCTS`.
    """

    products: Iterable[str] = ()


@keywords(BatchOptions)
def segment_files(scenes: str | Path | Iterable[str | Path], out_dir: str | Path, options: BatchOptions) -> BatchResult:
    """Label many scenes with one model into a folder: ``NAME.tif`` of each, and ``mosaic.vrt`` over all of them.

    The same ground gets the same class in every map: classes are found on all scenes together where no model is
    given, and a scaling that measures pixel values measures those of all scenes. Both are remembered in the folder, the
    model as ``model.safetensors``, so that scenes added by a later call get the same classes.

    The same call after an interruption goes on; maps that are there, made by this model with these settings of
    unchanged files, are not made again. A scene that cannot be read does not stop the others; it is logged in the end.

    Args:
        scenes: files, folders, glob patterns, or anything else that GDAL opens.
        out_dir: created where it is missing.
        products: what else to write of each scene: ``confidence``, ``entropy`` and ``probabilities``
            (``NAME_confidence.tif``, ...), ``polygons`` (``NAME.gpkg``), ``stac`` (``NAME.json``, a STAC Item).
        model, legend, device: see :class:`geohp.inference.map_options.ModelOptions`.
        classes, backbone, weights, block, bands, scaling, seed: see :class:`geohp.options.FitOptions`.
        overlap, window_px, pixel_size_m, tta, refine: see :class:`geohp.options.WindowOptions`.
        on_read_error: ``stop`` to give up a scene that cannot be read, or ``nodata`` to leave out the parts.
        restart: begin unfinished work anew, and find classes and scaling anew.
        client, progress: see :class:`geohp.inference.map_options.RasterOptions`.
        min_area_m2, simplify_m, smooth, simplify_boundary: see :class:`geohp.options.PolygonOptions`.
        datetime: when the scenes were taken, for their STAC Items; by default what their files say.
        overwrite: replace files that something else has made.

    Returns:
        What became of each scene; see :attr:`BatchResult.failed`.

    Raises:
        ConfigError: an unknown product, or options that cannot be used.
        SceneError: no scene, or none that can be opened to find classes on.
        OutputError: two scenes of one name, files in the folder that something else has made, or a full disk.
    """
    return map_scenes(scenes, out_dir, options.products, options)


def map_scenes(
    scenes: str | Path | Iterable[str | Path], out_dir: str | Path, products: Iterable[str], options: MapOptions
) -> BatchResult:
    """:func:`segment_files` with its options as an object."""
    folder, products = Path(out_dir), list(products)
    paths = find_images([scenes] if isinstance(scenes, (str, Path)) else scenes, leave_out=folder)
    if not paths:
        raise SceneError("no scenes to label", "give files, folders or patterns such as 'tiles/*.tif'")
    targets = folder_products(paths, folder, products)
    if options.datetime is not None and "stac" not in {kind.strip() for kind in products}:
        raise ConfigError("{option}: is for STAC Items", "ask for them, too, or leave it out", option="datetime")
    segmenter = load_segmenter(options)
    with output_folder(folder), FolderRecord(folder) as record:
        model = FolderModel(record, options)
        if not options.overwrite:
            files = [path for target in targets.values() for path in target.paths.values()]
            model.refuse_foreign(files, fitting=segmenter is None)
        segmenter, collection = model.resolve(segmenter, paths)
        segmenter = segmenter if options.legend is None else segmenter.named(options.legend)
        return _Batch(record, segmenter, collection, options).run(targets)


@dataclass(frozen=True)
class _Batch:
    """All that the scenes have in common, and the work."""

    record: FolderRecord
    segmenter: Segmenter
    scenes: SceneCollection
    options: MapOptions

    def run(self, targets: Mapping[str, Products]) -> BatchResult:
        keys, errors = self._keys(targets)
        self._refuse_foreign({scene: targets[scene] for scene in keys}, keys)
        results: list[SceneResult] = []
        progress = self.options.progress
        with _counting_maps(results, len(targets), self.record.folder):
            for number, (scene, products) in enumerate(targets.items()):
                progress("scenes", number, len(targets), Path(scene).name)
                if scene in errors:
                    results.append(SceneResult(scene, error=errors[scene]))
                else:
                    results.append(self._map(scene, products, keys[scene]))
            progress("scenes", len(targets), len(targets))
            mosaic = self._mosaic([result.files[0] for result in results if result.files])
        for result in results:
            if result.error is not None:
                logger.warning("no map of %s: %s", result.scene, result.error)
        return BatchResult(tuple(results), self.segmenter.classes, self.segmenter.origin, mosaic)

    def _keys(self, targets: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """What the rasters of each scene depend on, digested; and why others cannot be made."""
        keys: dict[str, str] = {}
        errors: dict[str, str] = {}
        for path in targets:
            try:
                with self.scenes.open(path) as scene:
                    self.segmenter.check_bands(scene)
                    settings = engine_settings(self.segmenter.model, scene, self.options)
                    identity = run_identity(scene, self.segmenter.model, settings, self.options.on_read_error)
                    keys[path] = digest(identity)
            except SceneError as error:
                errors[path] = str(error)
        return keys, errors

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
        mosaic = self.record.folder / MOSAIC
        check_output(mosaic, overwrite=self.options.overwrite or self.record.holds(mosaic))

    def _map(self, path: str, products: Products, key: str) -> SceneResult:
        """Make of a scene what is not there yet."""
        record = self._record_of(products, key)
        if not record.lacks(products.paths):
            files = tuple(products.paths.values())
            return SceneResult(path, files, self.segmenter.classes, made_earlier=True)
        options = replace(self.options, overwrite=True)  # what may not be replaced has been refused
        try:
            with self.scenes.open(path) as scene:
                return map_scene(scene, products, options, segmenter=self.segmenter, record=record)
        except (SceneError, VectorError) as error:
            return SceneResult(path, error=". ".join([str(error).rstrip("."), *getattr(error, "__notes__", ())]))

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
        for file in [*(file for file in self.record.maps(model) if file not in maps), *maps]:
            with open_raster(file) as dataset:
                grids[file] = Grid.of(dataset)
        grid = common_grid(grids)
        if isinstance(grid, GridMismatch):
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
        return not all(map(self.holds, kinds)) or ("labels" in kinds and work_folder(self.products.labels).exists())

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
