"""The rasters that a segmentation leaves, and how each is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from geohp.classes import NODATA_LABEL
from geohp.errors import ConfigError
from geohp.files import check_output
from geohp.inference.engine.layers import STEPS
from geohp.inference.engine.pipeline import EngineSettings
from geohp.model.network import LandCoverModel
from geohp.raster.write.layer import Layer, label_layer
from geohp.raster.write.resumable import is_half_published
from geohp.version import __version__


@dataclass(frozen=True)
class Outputs:
    """Files to write, all cloud-optimised GeoTIFFs on exactly the scene's grid, uint8, 255 where there is no data.

    Attributes:
        labels: classes from 0, with a colour table and their names.
        confidence: the winning class's share in [0, 1], scale 1/254.
        entropy: of the classes' shares, 0 where one has all, 1 where all have the same, scale 1/254.
        probabilities: every class's share, one band a class, scale 1/254.
    """

    labels: Path
    confidence: Path | None = None
    entropy: Path | None = None
    probabilities: Path | None = None

    @property
    def paths(self) -> dict[str, Path]:
        """The files asked for, by what they hold; labels first."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: path for name, path in given.items() if path is not None}

    @property
    def wanted(self) -> frozenset[str]:
        """What is asked for besides the labels."""
        return frozenset(self.paths) - {"labels"}

    def check(self, *, overwrite: bool, inputs: Iterable[str | Path]) -> None:
        """Refuse what could not be written, before work begins.

        Raises:
            ConfigError: one name given twice.
            OutputError: see :func:`geohp.files.check_output`.
        """
        sources, seen = list(inputs), dict[Path, str]()
        # The same command must be able to finish what was stopped while its outputs moved into place.
        overwrite = overwrite or is_half_published(self.labels)
        for name, path in self.paths.items():
            other = seen.setdefault(path.absolute(), name)
            if other != name:
                raise ConfigError(f"{path}: named for both {other} and {name}; give them different names")
            check_output(path, overwrite=overwrite, inputs=sources)

    def layers(self, model: LandCoverModel, settings: EngineSettings, tags: dict[str, str]) -> dict[Path, Layer]:
        """How each file is stored."""
        card = model.card
        common = {
            "GEOHP_VERSION": __version__,
            "GEOHP_METHOD": card.method,
            "GEOHP_BACKBONE": f"{card.backbone.name} block {card.backbone.block}",
            "GEOHP_WINDOW_PX": str(settings.window_px),
            "GEOHP_OVERLAP_PX": str(settings.overlap_px),
            "GEOHP_BLENDING": "sin^2 ramps over the overlap",
            "GEOHP_SCALING": str(card.scaling),
            **_refinement(settings),
            **tags,
        }
        names = tuple(c.name for c in card.classes)
        kinds = {
            "labels": label_layer(card.classes, common),
            "confidence": _quantity(("confidence of the land-cover class",), common),
            "entropy": _quantity(("entropy of the land-cover classes",), common),
            "probabilities": _quantity(names, common),
        }
        return {path: kinds[name] for name, path in self.paths.items()}


def _refinement(settings: EngineSettings) -> dict[str, str]:
    if settings.refine is None:
        return {}
    return {
        "GEOHP_REFINEMENT": f"dense CRF over windows of {settings.refine.window_px} px, "
        f"overlapping by {settings.refine.overlap_px}"
    }


def _quantity(bands: tuple[str, ...], tags: dict[str, str]) -> Layer:
    return Layer(
        bands=len(bands),
        band_descriptions=bands,
        tags=tags,
        nodata=NODATA_LABEL,
        scale=1 / STEPS,
        overviews="average",
    )
