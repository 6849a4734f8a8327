"""The files that can be made of a scene, and where those of many scenes go in one folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geohp.errors import ConfigError, OutputError
from geohp.files.checks import RASTERS, check_output, check_suffix
from geohp.files.unfinished import may_replace
from geohp.model.runs import MODEL_NAME
from geohp.options import QUANTITIES
from geohp.raster.sources.paths import scene_name
from geohp.style import RAMPS
from geohp.vector.targets import check_target

PRODUCTS = (*QUANTITIES, "polygons", "qml", "stac")
"""What can be had of each scene besides its labels."""

MOSAIC = "mosaic.vrt"

_SUFFIXES = {**{name: f"_{name}.tif" for name in QUANTITIES}, "polygons": ".gpkg"}


@dataclass(frozen=True, kw_only=True)
class Products:
    """Files to make of a scene.

    The rasters are cloud-optimised GeoTIFFs on exactly the scene's grid, uint8, 255 where there is no data.

    Attributes:
        out: the labels, classes from 0, with a colour table, overviews and the classes in the band tag ``classes``.
        confidence: raster of the winning class's share in [0, 1], scale 1/254.
        entropy: raster of the entropy of the classes' shares, 0 where one has all, 1 where all have the same.
        probabilities: raster of every class's share, one band a class.
        polygons: land-cover polygons (``.gpkg``, ``.parquet``, ``.fgb`` or ``.geojson``), with their mean confidence
            where there is a raster of it.
        qml: QGIS's styles beside labels, confidence and entropy, under their names with ``.qml``.
        stac: a STAC Item; ``True`` for one beside the labels, under their name with ``.json``.
    """

    out: str | Path = field(kw_only=False)
    confidence: str | Path | None = None
    entropy: str | Path | None = None
    probabilities: str | Path | None = None
    polygons: str | Path | None = None
    qml: bool = False
    stac: str | Path | bool = False

    @property
    def labels(self) -> Path:
        """The label raster."""
        return _as_path(self.out)

    @property
    def rasters(self) -> dict[str, Path]:
        """The rasters by what they hold, labels first."""
        paths = {name: getattr(self, name) for name in QUANTITIES}
        return {"labels": self.labels, **{name: _as_path(path) for name, path in paths.items() if path is not None}}

    @property
    def styled(self) -> dict[str, Path]:
        """The rasters that get a style beside them, by what they hold."""
        return {name: path for name, path in self.rasters.items() if self.qml and name in ("labels", *RAMPS)}

    @property
    def paths(self) -> dict[str, Path]:
        """All files by what they hold, labels first."""
        paths = self.rasters
        if self.polygons is not None:
            paths["polygons"] = _as_path(self.polygons)
        paths |= {f"{name} qml": path.with_suffix(".qml") for name, path in self.styled.items()}
        if self.stac:
            paths["stac"] = self.labels.with_suffix(".json") if self.stac is True else _as_path(self.stac)
        return paths

    def check(
        self,
        *,
        overwrite: bool,
        inputs: Iterable[str | Path],
        input_layer: str | None = None,
        restart: bool = False,
    ) -> None:
        """Refuse what could not be written, before work begins.

        Args:
            overwrite: existing files may be replaced.
            inputs: files that are read, which may not.
            input_layer: that is read of a file with several.
            restart: nothing is gone on with.

        Raises:
            ConfigError: one name for two files.
            OutputError: a suffix of another format, or see :func:`geohp.files.checks.check_output` and
                :func:`geohp.vector.targets.check_target`.
        """
        sources, names = list(inputs), dict[Path, str]()
        for name, path in self.paths.items():
            # The same command must be able to finish what was stopped when only some of these were in place.
            replace = may_replace(self.labels, path, overwrite=overwrite, restart=restart)
            other = names.setdefault(path.absolute(), name)
            if other != name:
                raise ConfigError(f"{path}: named for both {other} and {name}", "give them different names")
            if name == "polygons":
                check_target(path, overwrite=replace, inputs=sources, input_layer=input_layer)
                continue
            if name in self.rasters:
                check_suffix(path, RASTERS, "rasters")
            check_output(path, overwrite=replace, inputs=sources)


def _as_path(path: str | Path) -> Path:
    """The same object where it is one: thousands of results name theirs."""
    return path if isinstance(path, Path) else Path(path)


def products_beside(labels: Path, kinds: Collection[str] = PRODUCTS) -> Products:
    """The files of some kinds beside a label raster, named after it."""
    files = {kind: labels.with_name(f"{labels.stem}{_SUFFIXES[kind]}") for kind in kinds if kind in _SUFFIXES}
    return Products(labels, qml="qml" in kinds, stac="stac" in kinds, **files)


def folder_products(scenes: Sequence[str], folder: Path, kinds: Iterable[str]) -> dict[str, Products]:
    """The files to make of each scene.

    Raises:
        ConfigError: a kind that there is not.
        OutputError: two scenes' files would have one name, or one would replace a scene.
    """
    kinds = [kind.strip() for kind in kinds]
    for kind in kinds:
        if kind not in PRODUCTS:
            raise ConfigError(f"{kind!r} is none of what can be had besides the labels: {', '.join(PRODUCTS)}")
    sources = {Path(scene).resolve() for scene in scenes if Path(scene).exists()}
    owners: dict[str, str] = {MODEL_NAME: "", MOSAIC: ""}
    targets = {}
    for scene in scenes:
        targets[scene] = products_beside(folder / f"{scene_name(scene)}.tif", kinds)
        for path in targets[scene].paths.values():
            other = owners.setdefault(path.name.casefold(), scene)  # some disks tell no capitals
            if other != scene:
                raise OutputError(
                    f"{other} and {scene} would both be written to {path}", "rename one, or give them different folders"
                )
            if path.resolve() in sources:
                raise OutputError(f"{path}: is a scene itself", "choose another folder for the maps")
    return targets
