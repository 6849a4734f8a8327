"""What can be asked of a comparison of two dates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from geohp.errors import ConfigError
from geohp.files.checks import RASTERS, check_name, check_output, check_suffix
from geohp.files.unfinished import may_replace, remove_abandoned_folder
from geohp.inference.map_options import MapOptions
from geohp.raster.area_of_interest import area_files
from geohp.vector.targets import check_target

LAYER = "change"
"""Layer of a GeoPackage of change."""

DEFAULT_CONFIDENCE = 0.0
"""Where nobody says how sure both dates must be of their classes."""

_FORMATS = {
    "out": (RASTERS, "rasters"),
    "matrix": ((".csv",), "tables"),
    "picture": ((".png",), "pictures"),
    "qml": ((".qml",), "styles"),
}


MAPS = tuple(f"{date}{kind}.tif" for date in ("old", "new") for kind in ("", "_confidence"))
"""Names of the maps of both dates in their folder."""


def hidden_maps(out: Path) -> Path:
    """Where the maps of both dates lie until all is done, unless they are to be kept."""
    return out.with_name(f".{out.name}.maps")


@dataclass(frozen=True, kw_only=True)
class ChangeProducts:
    """Files to make of a comparison.

    Attributes:
        out: raster of transitions on the old date's grid, uint16, nodata 65535, with colours and names.
        polygons: polygons of change (``.gpkg``, ``.parquet``, ``.fgb`` or ``.geojson``).
        matrix: table of areas by class then and now (``.csv``).
        picture: both dates and the change between them (``.png``).
        qml: also write QGIS's style beside the raster (``.qml``), which otherwise is shown there with all of the 65536
            classes that its colour table has room for; a GeoPackage of polygons carries its own.
    """

    out: str | Path = field(kw_only=False)
    polygons: str | Path | None = None
    matrix: str | Path | None = None
    picture: str | Path | None = None
    qml: bool = False

    @property
    def paths(self) -> dict[str, Path]:
        """All files by what they hold, transitions first."""
        named = {name: getattr(self, name) for name in ("polygons", "matrix", "picture")}
        style = {"qml": Path(self.out).with_suffix(".qml")} if self.qml else {}
        return {
            "out": Path(self.out),
            **{name: Path(path) for name, path in named.items() if path is not None},
            **style,
        }

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
            OutputError: a suffix of another format, or see :func:`geohp.files.checks.check_output` and
                :func:`geohp.vector.targets.check_target`.
        """
        sources = list(inputs)
        out = self.paths["out"]
        if not may_replace(out, overwrite=overwrite) and out.exists():
            # All is done, but for what was to go in the end.
            remove_abandoned_folder(hidden_maps(out))
        for name, path in self.paths.items():
            # The same command must be able to finish what was stopped when only some of these were in place.
            replace = may_replace(out, path, overwrite=overwrite, restart=restart)
            if name == "polygons":
                check_target(path, layer=LAYER, overwrite=replace, inputs=sources, input_layer=input_layer)
                continue
            suffixes, what = _FORMATS[name]
            check_suffix(path, suffixes, what)
            check_output(path, overwrite=replace, inputs=sources)


@dataclass(frozen=True, kw_only=True)
class ChangeOptions(MapOptions, ChangeProducts):
    """All that can be asked of a comparison of two dates.

    Attributes:
        min_confidence: change counts where both dates are at least so sure of their class, from 0 to 1.
        confidence: where label maps are compared, the rasters of their confidence, the old date's first.
        labels: both dates are label maps, also where they do not say so.
        per_date_scaling: a scaling that measures pixel values measures those of each date by themselves.
        maps: folder that keeps the maps of both dates, ``old.tif`` and ``new.tif`` with their confidence; by default
            they go when all is done.

    Raises:
        ConfigError: a confidence that is none.
    """

    min_confidence: float = DEFAULT_CONFIDENCE
    confidence: tuple[str | Path, str | Path] | None = None
    labels: bool = False
    per_date_scaling: bool = False
    maps: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_confidence <= 1:
            problem = f"{{option}}: {self.min_confidence} is no confidence"
            raise ConfigError(problem, "give a number from 0 to 1", option="min_confidence")
        if self.maps is not None and check_name(self.out).resolve() in {
            check_name(self.maps).resolve() / name for name in MAPS
        }:
            raise ConfigError(f"{{option}}: {self.out} is one of these", "give another name or folder", option="maps")

    @property
    def sources(self) -> list[str | Path]:
        """Further files that are read."""
        return [*(self.confidence or ()), *area_files(self)]
