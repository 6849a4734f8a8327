"""Many scenes at once: one model, one scaling, a map of each in a folder, and all maps as one mosaic."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geohp.classes import LandCoverClass
from geohp.errors import ConfigError, OutputError, SceneError, VectorError
from geohp.files import check_output
from geohp.inference.engine.layers import QUANTITIES
from geohp.inference.folder_model import FolderModel, digest
from geohp.inference.folder_record import FolderRecord
from geohp.inference.identity import model_sha256, run_identity
from geohp.inference.outputs import Outputs
from geohp.inference.segment import given_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.inference.writing import Skipped
from geohp.legend.file import Legend
from geohp.model.runs import MODEL_NAME
from geohp.raster.gdal import open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.collection import SceneCollection
from geohp.raster.sources.paths import scene_name
from geohp.raster.sources.resolve import find_images
from geohp.raster.write.layer import label_layer
from geohp.raster.write.resumable import work_folder
from geohp.raster.write.vrt import GridMismatch, common_grid, write_mosaic_vrt
from geohp.version import __version__

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

PRODUCTS = (*QUANTITIES, "polygons", "stac")
"""What can be had of each scene besides its labels."""

MOSAIC = "mosaic.vrt"

_SUFFIXES = {
    "labels": ".tif",
    **{name: f"_{name}.tif" for name in QUANTITIES},
    "polygons": ".gpkg",
    "stac": ".json",
}


class Progress(Protocol):
    """Called with a stage, the steps done, their number, and what is being worked on."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Take note."""


@dataclass(frozen=True)
class SceneMap:
    """What became of one scene.

    Attributes:
        scene: as given.
        files: what there is of it, labels first; empty where it failed.
        was_there: an earlier run had made all of it.
        skipped: the parts left out because they could not be read.
        error: why there is no map; ``None`` where there is one.
    """

    scene: str
    files: tuple[Path, ...] = ()
    was_there: bool = False
    skipped: tuple[Skipped, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class BatchResult:
    """What became of many scenes.

    Attributes:
        maps: one of each scene, in their order.
        classes: what the labels mean, in all of them.
        origin: says in words where they came from.
        mosaic: all maps as one virtual raster, or why there is none.
    """

    maps: tuple[SceneMap, ...]
    classes: tuple[LandCoverClass, ...]
    origin: str
    mosaic: Path | str

    @property
    def failed(self) -> tuple[SceneMap, ...]:
        """The scenes of which there is no map."""
        return tuple(one for one in self.maps if one.error is not None)


def segment_files(
    scenes: str | Path | Iterable[str | Path],
    out_dir: str | Path,
    model: str | Path | Segmenter | None = None,
    *,
    products: Iterable[str] = (),
    classes: int | None = None,
    backbone: str | None = None,
    weights: str | Path | None = None,
    block: int | None = None,
    bands: Sequence[int | str] | None = None,
    scaling: str | None = None,
    legend: Legend | str | Path | None = None,
    overlap: float = 0.25,
    window_px: int | None = None,
    pixel_size_m: float | None = None,
    tta: bool = False,
    refine: str | None = None,
    min_area_m2: float = 0,
    simplify_m: float = 0,
    smooth: int = 0,
    on_read_error: str = "stop",
    restart: bool = False,
    overwrite: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
    device: str = "auto",
    seed: int = 0,
) -> BatchResult:
    """Label many scenes with one model into a folder: ``NAME.tif`` of each, and ``mosaic.vrt`` over all of them.

    The same ground gets the same class in every map: classes are found on all scenes together where no model is
    given, and a scaling that measures pixel values measures those of all scenes. Both are remembered in the folder, the
    model as ``model.safetensors``, so that scenes added by a later call get the same classes.

    The same call after an interruption goes on; maps that are there, made by this model with these settings of
    unchanged files, are not made again. A scene that cannot be read does not stop the others; it is logged in the end.

    Args:
        scenes: files, folders, glob patterns, or anything else that GDAL opens.
        out_dir: created where it is missing.
        model: see :func:`geohp.inference.segment.resolve_segmenter`, also for ``None``.
        products: what else to write of each scene, out of :data:`PRODUCTS`: ``NAME_confidence.tif``,
            ``NAME_entropy.tif``, ``NAME_probabilities.tif``, ``NAME.gpkg`` (polygons), ``NAME.json`` (a STAC Item).
        classes, backbone, weights, block, bands, scaling: find classes, this many, on these features.
        legend: names for the classes, see :meth:`Segmenter.named`.
        overlap, window_px, pixel_size_m, tta, refine: see :meth:`Segmenter.settings`.
        min_area_m2, simplify_m, smooth: of polygons, see :func:`geohp.polygonize`.
        on_read_error: ``stop`` to give up a scene that cannot be read, or ``nodata`` to leave out the parts.
        restart: begin unfinished work anew, and find classes and scaling anew.
        overwrite: replace files that something else has made.
        client: workers that shall do it, see :func:`geohp.inference.cluster.client.connect`.
        progress: see :class:`Progress`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: of everything random.

    Returns:
        What became of each scene; see :attr:`BatchResult.failed`.

    Raises:
        ConfigError: an unknown output, or settings that cannot be used.
        SceneError: no scene, or none that can be opened to find classes on.
        OutputError: two scenes of one name, files in the folder that something else has made, or a full disk.
    """
    wanted = _wanted(products)
    folder = Path(out_dir)
    paths = find_images([scenes] if isinstance(scenes, (str, Path)) else scenes, leave_out=folder)
    if not paths:
        raise SceneError("no scenes to label: give files, folders or patterns such as 'tiles/*.tif'")
    targets = _targets(paths, folder, wanted)
    asked = {"classes": classes, "backbone": backbone, "block": block, "bands": bands, "scaling": scaling}
    given = given_segmenter(model, asked, weights=weights, device=device)
    created = _prepare(folder)
    try:
        with FolderRecord(folder) as record:
            fit = {**asked, "bands": None if bands is None else list(bands), "weights": weights, "seed": seed}
            chosen = FolderModel(record, fit, restart=restart)
            if not overwrite:
                chosen.refuse_foreign([path for one in targets for path in one.paths.values()], fitting=given is None)
            segmenter, alike = chosen.of_given(given, paths) if given else chosen.of_fit(paths, device)
            run = _Run(
                record=record,
                segmenter=segmenter if legend is None else segmenter.named(legend),
                alike=alike,
                cut={
                    "overlap": overlap,
                    "window_px": window_px,
                    "pixel_size_m": pixel_size_m,
                    "tta": tta,
                    "refine": refine,
                },
                polygons={"min_area_m2": min_area_m2, "simplify_m": simplify_m, "smooth": smooth},
                on_read_error=on_read_error,
                restart=restart,
                overwrite=overwrite,
                client=client,
                progress=progress,
            )
            return run.all(targets)
    finally:
        if created and not any(folder.iterdir()):
            folder.rmdir()


@dataclass(frozen=True)
class _Target:
    """One scene and where its files go."""

    scene: str
    paths: dict[str, Path]

    @property
    def rasters(self) -> Outputs:
        return Outputs(**{name: path for name, path in self.paths.items() if name not in ("polygons", "stac")})


@dataclass
class _Run:
    """All that the scenes have in common, and the work."""

    record: FolderRecord
    segmenter: Segmenter
    alike: SceneCollection
    cut: dict[str, Any]
    polygons: dict[str, Any]
    on_read_error: str
    restart: bool
    overwrite: bool
    client: Client | None
    progress: Progress | None

    def all(self, targets: Sequence[_Target]) -> BatchResult:
        keys, errors = self._keys(targets)
        self._refuse_foreign(targets, keys)
        done: dict[str, SceneMap] = {}
        try:
            for number, target in enumerate(targets):
                self._tell("scenes", number, len(targets), Path(target.scene).name)
                done[target.scene] = (
                    self._one(target, keys[target.scene])
                    if target.scene in keys
                    else SceneMap(target.scene, error=errors[target.scene])
                )
            self._tell("scenes", len(targets), len(targets))
            mosaic = self._mosaic([one.files[0] for one in done.values() if one.files])
        except BaseException as error:
            finished = sum(bool(one.files) for one in done.values())
            if finished:
                error.add_note(
                    f"{finished} of {len(targets)} maps are complete in {self.record.folder}; "
                    "the same command goes on with the others"
                )
            raise
        for one in done.values():
            if one.error is not None:
                logger.warning("no map of %s: %s", one.scene, one.error)
        return BatchResult(tuple(done.values()), self.segmenter.classes, self.segmenter.origin, mosaic)

    def _keys(self, targets: Sequence[_Target]) -> tuple[dict[str, str], dict[str, str]]:
        """What the rasters of each scene depend on, digested; and why others cannot be made."""
        keys: dict[str, str] = {}
        errors: dict[str, str] = {}
        for target in targets:
            try:
                with self.alike.open(target.scene) as scene:
                    self.segmenter.check_bands(scene)
                    settings = self.segmenter.settings(scene, **self.cut)
                    keys[target.scene] = digest(run_identity(scene, self.segmenter.model, settings, self.on_read_error))
            except SceneError as error:
                errors[target.scene] = str(error)
        return keys, errors

    def _refuse_foreign(self, targets: Sequence[_Target], keys: dict[str, str]) -> None:
        """Before any work: nothing may be in the way that something else has made."""
        for target in targets:
            if target.scene not in keys:
                continue
            for name, path in target.paths.items():
                key = self._key(name, keys[target.scene])
                if path.exists() and not self.overwrite and not self.record.made(path, key):
                    raise OutputError(
                        f"{path}: exists already and is not what this command makes of {target.scene} as it is now; "
                        "choose another folder or replace it with --overwrite"
                    )
                check_output(path, overwrite=True)
        mosaic = self.record.folder / MOSAIC
        check_output(mosaic, overwrite=self.overwrite or self.record.kept(mosaic))

    def _key(self, name: str, of_rasters: str) -> str:
        return digest([of_rasters, self.polygons]) if name == "polygons" else of_rasters

    def _one(self, target: _Target, key: str) -> SceneMap:
        """Make of a scene what is not there yet."""
        rasters = target.rasters.paths
        there = {name: self.record.made(path, self._key(name, key)) for name, path in target.paths.items()}
        if all(there.values()) and not work_folder(target.paths["labels"]).exists():
            return SceneMap(target.scene, tuple(target.paths.values()), was_there=True)
        skipped: list[Skipped] = []
        try:
            if not all(there[name] for name in rasters) or work_folder(target.paths["labels"]).exists():
                self.record.begin([path for name, path in rasters.items() if name != "labels"], key)
                self.record.begin([rasters["labels"]], key, labels=model_sha256(self.segmenter.model))
                skipped = self._segment(target)
                self.record.end(rasters.values())
                there.update(polygons=False)
            if "polygons" in target.paths and not there["polygons"]:
                self._polygonize(target, key)
            if "stac" in target.paths:
                self._describe(target, key)
        except (SceneError, VectorError) as error:
            return SceneMap(target.scene, error=". ".join([str(error).rstrip("."), *getattr(error, "__notes__", ())]))
        return SceneMap(target.scene, tuple(target.paths.values()), skipped=tuple(skipped))

    def _segment(self, target: _Target) -> list[Skipped]:
        with self.alike.open(target.scene) as scene:
            return self.segmenter.segment_to(
                scene,
                target.rasters,
                on_read_error=self.on_read_error,
                restart=self.restart,
                progress=lambda done, total: self._tell("segmenting", done, total, Path(target.scene).name),
                client=self.client,
                **self.cut,
            )

    def _polygonize(self, target: _Target, key: str) -> None:
        from geohp.vector.writing import polygonize_file

        path = target.paths["polygons"]
        self.record.begin([path], self._key("polygons", key))
        polygonize_file(
            target.paths["labels"],
            path,
            overwrite=True,
            confidence=target.paths.get("confidence"),
            progress=lambda stage, done, total, _="": self._tell(stage, done, total, Path(target.scene).name),
            **self.polygons,
        )
        self.record.end([path])

    def _describe(self, target: _Target, key: str) -> None:
        from geohp.inference.stac import write_item

        path = target.paths["stac"]
        self.record.begin([path], key)
        write_item(path, {name: file for name, file in target.paths.items() if name != "stac"}, target.scene)
        self.record.end([path])

    def _mosaic(self, made: Sequence[Path]) -> Path | str:
        """All maps of the folder by this model as one raster: earlier calls' below, and the later of two on top."""
        path = self.record.folder / MOSAIC
        model = model_sha256(self.segmenter.model)
        earlier = [file for file, told in self.record.files().items() if told.get("labels") == model]
        grids = {}
        for file in [*(file for file in earlier if file not in made), *made]:
            with open_raster(file) as dataset:
                grids[file] = Grid.of(dataset)
        grid = common_grid(grids)
        if isinstance(grid, GridMismatch):
            return grid.reason
        tags = {"GEOHP_VERSION": __version__, "GEOHP_MODEL": self.segmenter.origin, "GEOHP_MODEL_SHA256": model}
        self.record.begin([path], model)
        write_mosaic_vrt(path, label_layer(self.segmenter.classes, tags), grid, grids)
        self.record.end([path])
        return path

    def _tell(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if self.progress:
            self.progress(stage, done, total, detail)


def _wanted(products: Iterable[str]) -> list[str]:
    names = [name.strip() for name in products]
    for name in names:
        if name not in PRODUCTS:
            raise ConfigError(f"{name!r} is none of what can be had besides the labels: {', '.join(PRODUCTS)}")
    return [name for name in PRODUCTS if name in names]


def _targets(scenes: Sequence[str], folder: Path, wanted: Sequence[str]) -> list[_Target]:
    """Where everything goes.

    Raises:
        OutputError: two scenes' files would have one name, or one would replace a scene.
    """
    sources = {Path(scene).resolve() for scene in scenes if Path(scene).exists()}
    targets = []
    taken: dict[str, str] = {MODEL_NAME: "", MOSAIC: ""}
    for scene in scenes:
        name = scene_name(scene)
        paths = {kind: folder / f"{name}{_SUFFIXES[kind]}" for kind in ("labels", *wanted)}
        for path in paths.values():
            other = taken.setdefault(path.name.casefold(), scene)  # some disks tell no capitals
            if other != scene:
                raise OutputError(
                    f"{other} and {scene} would both be written to {path}: rename one, or give them different folders"
                )
            if path.resolve() in sources:
                raise OutputError(f"{path}: is a scene itself; choose another folder for the maps")
        targets.append(_Target(scene, paths))
    return targets


def _prepare(folder: Path) -> bool:
    """Make the folder if need be; says whether it was."""
    if folder.is_dir():
        return False
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder ({error.strerror}); choose another") from error
    return True
