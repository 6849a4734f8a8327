"""The segmenter: a model on a device that turns scenes into label maps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from geohp.backbones.factory import COLOUR_SHARE
from geohp.classes import NODATA_LABEL, LandCoverClass, classes_to_json
from geohp.inference.band_counts import check_band_count, check_channels
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import engine_settings
from geohp.inference.extent import Extent
from geohp.inference.kmeans_fit import fit_kmeans
from geohp.inference.lazy import lazy_labels
from geohp.inference.map_tags import map_tags
from geohp.legend.file import Legend, LegendSource
from geohp.legend.recode_model import recode_model
from geohp.model.device import torch_device
from geohp.model.file import load_model
from geohp.model.network import LandCoverModel
from geohp.model.runs import find_model
from geohp.options import FitOptions, WindowOptions
from geohp.progress import Progress, no_progress
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.grid import Grid, is_upright
from geohp.raster.read.bands import BandRequest, band_list
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.inputs import scene_input
from geohp.raster.read.lazy import LazyScene
from geohp.raster.read.scaling import parse_rule
from geohp.raster.read.scene import ScalingRequest, Scene, open_scene

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

_DEFAULTS = WindowOptions()
_SHOWN_CLASSES = 8
"""Names of classes that a line has room for."""


@contextmanager
def as_scene(source: Any, *, bands: BandRequest = None, scaling: ScalingRequest = "auto") -> Iterator[Scene]:
    """A scene from what :func:`geohp.raster.read.inputs.scene_input` takes, closed again; a scene is passed through.

    Of a dask array only what is read is computed.
    """
    source = scene_input(source)
    if isinstance(source, Scene):
        yield source
        return
    scene: Scene
    if isinstance(source, (str, Path)):
        scene = open_scene(source, bands=bands, scaling=scaling)
    elif getattr(source, "chunks", None) is not None:
        scene = LazyScene(source, bands=bands, scaling=scaling)
    else:
        scene = Scene.from_dataarray(source, bands=bands, scaling=scaling)
    with scene:
        yield scene


class Segmenter:
    """A model ready to label scenes.

    Args:
        model: what to run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; also what workers elsewhere run the model on.
        origin: says in words where the model came from; goes into messages and raster tags.
    """

    def __init__(self, model: LandCoverModel, device: str = "auto", origin: str = "") -> None:
        self.model = model.to(torch_device(device))
        self.device = device
        self.origin = origin
        self._noted = False

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
        scene: Scene | SceneCollection,
        options: FitOptions,
        *,
        device: str = "auto",
        errors_as_nodata: bool = False,
        area: AreaOfInterest | None = None,
        colour_share: float = COLOUR_SHARE,
        progress: Progress = no_progress,
    ) -> Segmenter:
        """Fit cosine k-means on the own features of a scene, or of several together: a map without any training.

        Args:
            scene: what to fit on; of several, windows are drawn in proportion to their pixels.
            options: how many classes to find, and on which features; bands and scaling are the scene's.
            device: see :class:`Segmenter`.
            errors_as_nodata: pass over parts of a scene that cannot be read, as is always done with several.
            area: to find classes in; everywhere by default.
            colour_share: length of colour beside a transformer's features, as a share of theirs; 0 leaves it out.
            progress: of the windows that are read and fitted on.

        Raises:
            WeightsError: when the backbone's weights cannot be found.
            SceneError: when the scene cannot be read, or none of several can be opened.
        """
        at = torch_device(device)
        model = fit_kmeans(
            scene,
            options,
            device=at,
            errors_as_nodata=errors_as_nodata,
            area=area,
            colour_share=colour_share,
            progress=progress,
        )
        owner = "the scene's" if isinstance(scene, Scene) else "the scenes'"
        return cls(model, device, f"k-means on {owner} own {model.backbone.name} features")

    def named(self, legend: LegendSource) -> Segmenter:
        """The same with the classes of a legend: their names, their colours, and several clusters as one class.

        Raises:
            ConfigError: no legend, that of another model, or one that names a class that there is not.
        """
        model = recode_model(self.model, Legend.of(legend), self.origin or "the model")
        return Segmenter(model, self.device, self.origin)

    def reading(self, bands: BandRequest = None, scaling: str | None = None) -> Segmenter:
        """The same where scenes are read otherwise than the model asks for.

        Args:
            bands: that fill the model's channels, in their order; the model's own by default.
            scaling: rule that brings their values to [0, 1]; the model's own by default.

        Raises:
            ConfigError: not as many bands as the model has channels, or no such rule.
        """
        if bands is None and scaling is None:
            return self
        card, channels = self.model.card, self.model.backbone.in_channels
        if bands is not None:
            check_band_count(bands, channels, self.origin or "the model")
            card = replace(card, bands=band_list(bands))
        if scaling is not None:
            card = replace(card, scaling=parse_rule(scaling).text)
        return Segmenter(self.model.with_card(card), self.device, self.origin)

    @property
    def classes(self) -> tuple[LandCoverClass, ...]:
        """The classes in the order of their labels."""
        return self.model.card.classes

    def __repr__(self) -> str:
        names = ", ".join(entry.name for entry in self.classes[:_SHOWN_CLASSES])
        more = ", ..." if len(self.classes) > _SHOWN_CLASSES else ""
        return f"<Segmenter: {self._described}; {len(self.classes)} classes: {names}{more}>"

    def _repr_html_(self) -> str:
        from geohp.reporting.summaries import summary

        card = self.model.card
        facts = {
            "method": f"{card.method} on {card.backbone.name}",
            "pixel size": None if card.pixel_size_m is None else f"{card.pixel_size_m:.3g} m",
            "bands": ", ".join(map(str, card.bands or ())),
            "scaling": card.scaling,
            "device": self.model.device,
        }
        return summary(f"Segmenter: {self._described}", facts, self.classes)

    @property
    def _described(self) -> str:
        return self.origin or f"{self.model.card.method} on {self.model.card.backbone.name}"

    @contextmanager
    def open(self, source: Any) -> Iterator[Scene]:
        """Open a path, URL or ``xarray.DataArray`` with the bands and the scaling rule of the model.

        A :class:`Scene` is taken as it is, and stays open.
        """
        card = self.model.card
        with as_scene(source, bands=card.bands, scaling=card.scaling) as scene:
            self.check_bands(scene)
            self._note_repeated_band(scene)
            yield scene

    def check_bands(self, scene: Scene) -> None:
        """Refuse a scene of another number of bands than the model takes."""
        check_channels(scene, self.model.backbone.in_channels)

    def _note_repeated_band(self, scene: Scene) -> None:
        """Say once that a scene has too few bands for the model's channels."""
        if scene.repeats_band and not self._noted:
            self._noted = True
            logger.info(
                "%s has no %d bands: band %d is read for all channels of the model",
                scene.path, len(scene.bands), scene.bands[0],
            )  # fmt: skip

    def segment(
        self,
        scene: Scene,
        options: WindowOptions = _DEFAULTS,
        extent: Extent | None = None,
        progress: Progress = no_progress,
    ) -> xr.DataArray:
        """Label a scene in memory.

        Args:
            scene: what to label. Of a :class:`LazyScene` the map is laid out; each chunk is computed when somebody asks
                for it, and the scene may be closed before.
            options: how it is cut into windows.
            extent: what of the scene is mapped; all of it by default.
            progress: of the windows, unless they wait until somebody asks.

        Returns:
            (y, x) uint8 labels with 255 as nodata, the scene's CRS and transform (``.rio``), the classes as JSON in
            ``attrs["classes"]``, and what :func:`geohp.inference.map_tags.map_tags` says of the model; of a
            :class:`LazyScene` in dask chunks.
        """
        settings = engine_settings(self.model, scene, options)
        extent = extent or Extent(scene.grid.block)
        grid = scene.grid.crop(extent.frame)
        attributes = {"classes": classes_to_json(self.classes), **map_tags(self.model, self.origin, settings)}
        if isinstance(scene, LazyScene):
            lazy = lazy_labels(scene, self.model, settings, extent.area)[extent.frame.slices]
            return _as_dataarray(lazy, grid, attributes)
        labels = np.full(grid.shape, NODATA_LABEL, dtype=np.uint8)
        blocks = extent.blocks(settings.blocks(settings.grid(scene.height, scene.width), self.model.clusters))
        for finished in label_blocks(scene, self.model, settings, progress, blocks=blocks, area=extent.area):
            labels[extent.place(finished.block).slices] = finished.layers["labels"]
        return _as_dataarray(labels, grid, attributes)


def _as_dataarray(labels: Any, grid: Grid, attributes: dict[str, str]) -> xr.DataArray:
    import rioxarray  # noqa: F401 - gives DataArrays their .rio
    import xarray as xr

    array = xr.DataArray(labels, dims=("y", "x"), name="landcover", attrs=attributes)
    array = array.rio.write_nodata(NODATA_LABEL).rio.write_transform(grid.transform)
    if is_upright(grid.transform):
        # Coordinates of pixel centres; a rotated grid has none of its own along rows and columns.
        x = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.transform.a
        y = grid.transform.f + (np.arange(grid.height) + 0.5) * grid.transform.e
        array = array.assign_coords(x=("x", x), y=("y", y))
    if grid.crs is not None:
        array = array.rio.write_crs(grid.crs)
    if grid.gcps:
        array = array.rio.write_gcps(list(grid.gcps), grid.crs)
    return cast("xr.DataArray", array)
