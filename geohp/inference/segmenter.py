"""The segmenter: a model on a device that turns scenes into label maps, in memory or as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass, classes_to_json
from geohp.config import BackboneConfig
from geohp.errors import ModelError, SceneError
from geohp.inference.engine import EngineSettings, default_settings, label_blocks
from geohp.inference.fallback import fit_kmeans
from geohp.model import LandCoverModel
from geohp.model_file import find_model, load_model, torch_device
from geohp.raster.scenes import BandRequest, ScalingRequest, Scene, open_scene
from geohp.raster.writing import RasterWriter
from geohp.version import __version__

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int], None]

CONFIDENCE_STEPS = 254
"""Confidence in [0, 1] is stored as uint8 0 to 254, scale 1/254; 255 is nodata."""


@contextmanager
def as_scene(source: Any, *, bands: BandRequest = None, scaling: ScalingRequest = "auto") -> Iterator[Scene]:
    """A scene from a path, a URL or an ``xarray.DataArray``, closed again; an open scene is passed through."""
    if isinstance(source, Scene):
        yield source
        return
    if isinstance(source, (str, Path)):
        scene = open_scene(source, bands=bands, scaling=scaling)
    else:
        scene = Scene.from_dataarray(source, bands=bands, scaling=scaling)
    with scene:
        yield scene


class Segmenter:
    """A model ready to label scenes.

    Args:
        model: what to run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        origin: says in words where the model came from; goes into messages and raster tags.
    """

    def __init__(self, model: LandCoverModel, device: str = "auto", origin: str = "") -> None:
        self.model = model.to(torch_device(device))
        self.origin = origin

    @classmethod
    def load(cls, path: str | Path, *, weights: str | Path | None = None, device: str = "auto") -> Segmenter:
        """Load a model file or the model of a run folder.

        Args:
            path: a ``.safetensors`` that geohp wrote, or a run folder.
            weights: the backbone's weights, where they are no longer where the training found them.
            device: see :class:`Segmenter`.

        Raises:
            ModelError: when there is no such model or it is damaged.
            WeightsError: when the backbone's weights cannot be found.
        """
        return cls(load_model(path, weights=weights), device, f"model {find_model(path)}")

    @classmethod
    def fit(
        cls,
        scene: Scene,
        *,
        classes: int = 6,
        backbone: BackboneConfig | None = None,
        device: str = "auto",
        seed: int = 0,
    ) -> Segmenter:
        """Fit cosine k-means on the scene's own features: a map of one scene without any training.

        Args:
            scene: what to fit on.
            classes: how many classes to find; fewer where the scene has fewer patches.
            backbone: which features; random convolutional features by default.
            device: see :class:`Segmenter`.
            seed: of filters, samples and seedings.

        Raises:
            WeightsError: when the backbone's weights cannot be found.
        """
        chosen = backbone or BackboneConfig()
        model = fit_kmeans(scene, classes, chosen, device=torch_device(device), seed=seed)
        return cls(model, device, f"k-means on the scene's own {chosen.name} features")

    @property
    def classes(self) -> tuple[LandCoverClass, ...]:
        """The classes in the order of their labels."""
        return self.model.card.classes

    @contextmanager
    def open(self, source: Any) -> Iterator[Scene]:
        """Open a path, URL or ``xarray.DataArray`` with the bands and the scaling rule of the model.

        A :class:`Scene` is taken as it is, and stays open.

        Raises:
            SceneError: when it cannot be opened or has other bands.
        """
        card = self.model.card
        with as_scene(source, bands=card.bands, scaling=card.scaling) as scene:
            if len(scene.bands) != self.model.backbone.in_channels:
                raise SceneError(
                    f"{scene.path}: {len(scene.bands)} band(s) chosen, but the model takes "
                    f"{self.model.backbone.in_channels}; choose as many with --bands or train on these"
                )
            yield scene

    def settings(self, overlap: float = 0.25, window_px: int | None = None) -> EngineSettings:
        """Window grid for this model; ``overlap`` is a share of the window.

        Raises:
            ModelError: when the overlap is not between 0 and 1, or the window is not positive.
        """
        if not 0 <= overlap < 1:
            raise ModelError(f"overlap {overlap}: must be at least 0 and below 1, a share of the window")
        if window_px is not None and window_px < 1:
            raise ModelError(f"window {window_px}: must be a positive number of pixels")
        return default_settings(self.model, overlap, window_px)

    def segment(
        self,
        scene: Scene,
        *,
        overlap: float = 0.25,
        window_px: int | None = None,
        progress: Progress | None = None,
    ) -> xr.DataArray:
        """Label a scene in memory.

        Returns:
            (y, x) uint8 labels with 255 as nodata, the scene's CRS and transform (``.rio``), and the classes as JSON
            in ``attrs["classes"]``.

        Raises:
            SceneError: when the scene cannot be read.
        """
        labels = np.full((scene.height, scene.width), NODATA_LABEL, dtype=np.uint8)
        for block in label_blocks(scene, self.model, self.settings(overlap, window_px), progress, confidence=False):
            rows, cols = block.labels.shape
            labels[block.row : block.row + rows, block.col : block.col + cols] = block.labels
        return _as_dataarray(labels, scene, self.classes)

    def segment_to(
        self,
        scene: Scene,
        out: str | Path,
        *,
        confidence: str | Path | None = None,
        overlap: float = 0.25,
        window_px: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Label a scene into a cloud-optimised GeoTIFF, block by block, in memory that does not grow with it.

        Args:
            scene: what to label.
            out: the label raster: uint8, nodata 255, colour table, class names as JSON in the band tag ``classes``.
            confidence: optional second raster, uint8, scale 1/254, nodata 255.
            overlap: share of a window's side that neighbouring windows share.
            window_px: side of a window in scene pixels.
            progress: called with the windows done and their number.

        Raises:
            SceneError: when the scene cannot be read.
            OutputError: when an output cannot be written; then none of them is left behind.
        """
        settings = self.settings(overlap, window_px)
        with ExitStack() as stack:
            labels = stack.enter_context(self._label_writer(scene, out, settings))
            shares = stack.enter_context(_confidence_writer(scene, confidence)) if confidence is not None else None
            for block in label_blocks(scene, self.model, settings, progress, confidence=shares is not None):
                labels.write(block.row, block.col, block.labels)
                if shares is not None and block.confidence is not None:
                    shares.write(block.row, block.col, _quantise(block.confidence))
            labels.seal()
            if shares is not None:
                shares.seal()

    def _label_writer(self, scene: Scene, out: str | Path, settings: EngineSettings) -> RasterWriter:
        card = self.model.card
        tags = {
            "GEOHP_VERSION": __version__,
            "GEOHP_MODEL": self.origin,
            "GEOHP_METHOD": card.method,
            "GEOHP_BACKBONE": f"{card.backbone['name']} block {card.backbone['block']}",
            "GEOHP_WINDOW_PX": str(settings.window_px),
            "GEOHP_OVERLAP_PX": str(settings.overlap_px),
            "GEOHP_SCALING": json.dumps(str(card.scaling)),
        }
        return RasterWriter(
            out,
            scene.grid,
            dtype="uint8",
            nodata=NODATA_LABEL,
            colormap={c.id: (*c.rgb, 255) for c in self.classes},
            band_description="land cover",
            tags=tags,
            band_tags={"classes": classes_to_json(self.classes)},
            overviews="mode",
        )


def _confidence_writer(scene: Scene, path: str | Path) -> RasterWriter:
    return RasterWriter(
        path,
        scene.grid,
        dtype="uint8",
        nodata=NODATA_LABEL,
        band_description="confidence of the land-cover class",
        tags={"GEOHP_VERSION": __version__},
        scale=1 / CONFIDENCE_STEPS,
        overviews="average",
    )


def _quantise(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    stored = np.nan_to_num(confidence * CONFIDENCE_STEPS, nan=NODATA_LABEL).round()
    return stored.astype(np.uint8)


def _as_dataarray(labels: NDArray[np.uint8], scene: Scene, classes: Sequence[LandCoverClass]) -> xr.DataArray:
    import rioxarray  # noqa: F401 - gives DataArrays their .rio
    import xarray as xr

    grid = scene.grid
    array = xr.DataArray(labels, dims=("y", "x"), name="landcover", attrs={"classes": classes_to_json(classes)})
    array = array.rio.write_nodata(NODATA_LABEL).rio.write_transform(grid.transform)
    if grid.transform.is_rectilinear:
        # Coordinates of pixel centres; a rotated grid has none of its own along rows and columns.
        x = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.transform.a
        y = grid.transform.f + (np.arange(grid.height) + 0.5) * grid.transform.e
        array = array.assign_coords(x=("x", x), y=("y", y))
    if grid.crs is not None:
        array = array.rio.write_crs(grid.crs)
    if grid.gcps:
        array = array.rio.write_gcps(list(grid.gcps), grid.crs)
    return cast("xr.DataArray", array)
