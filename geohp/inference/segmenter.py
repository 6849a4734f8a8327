"""The segmenter: a model on a device that turns scenes into label maps, in memory or as files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from geohp.classes import NODATA_LABEL, LandCoverClass, classes_to_json
from geohp.config.experiment import BackboneConfig
from geohp.errors import ConfigError, ModelError, SceneError
from geohp.inference.engine.pipeline import EngineSettings, default_settings, label_blocks
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.engine.refining import refinement
from geohp.inference.identity import model_sha256, run_identity
from geohp.inference.kmeans_fit import fit_kmeans
from geohp.inference.lazy import lazy_labels
from geohp.inference.outputs import Outputs
from geohp.inference.writing import Skipped, skipped_in, write_behind
from geohp.legend.file import Legend
from geohp.legend.recode_model import recode_model
from geohp.model.device import torch_device
from geohp.model.file import load_model
from geohp.model.network import LandCoverModel
from geohp.model.runs import find_model
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.lazy import LazyScene
from geohp.raster.read.scene import BandRequest, ScalingRequest, Scene, open_scene
from geohp.raster.write.resumable import ResumableRasterWriter

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

Progress = Callable[[int, int], None]

ON_READ_ERROR = ("stop", "nodata")

_SAME_PIXEL_SIZE = 0.05


@contextmanager
def as_scene(source: Any, *, bands: BandRequest = None, scaling: ScalingRequest = "auto") -> Iterator[Scene]:
    """A scene from a path, a URL or an ``xarray.DataArray``, closed again; an open scene is passed through.

    Of a dask array only what is read is computed.
    """
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
        *,
        classes: int = 6,
        backbone: BackboneConfig | None = None,
        device: str = "auto",
        seed: int = 0,
        errors_as_nodata: bool = False,
    ) -> Segmenter:
        """Fit cosine k-means on the own features of a scene, or of several together: a map without any training.

        Args:
            scene: what to fit on; of several, windows are drawn in proportion to their pixels.
            classes: how many classes to find; fewer where the scene has fewer patches.
            backbone: which features; random convolutional features by default.
            device: see :class:`Segmenter`.
            seed: of filters, samples and seedings.
            errors_as_nodata: pass over parts of a scene that cannot be read, as is always done with several.

        Raises:
            WeightsError: when the backbone's weights cannot be found.
            SceneError: when the scene cannot be read, or none of several can be opened.
        """
        chosen = backbone or BackboneConfig()
        model = fit_kmeans(
            scene, classes, chosen, device=torch_device(device), seed=seed, errors_as_nodata=errors_as_nodata
        )
        whose = "the scene's" if isinstance(scene, Scene) else "the scenes'"
        return cls(model, device, f"k-means on {whose} own {chosen.name} features")

    def named(self, legend: Legend | str | Path) -> Segmenter:
        """The same with the classes of a legend: their names, their colours, and several clusters as one class.

        Args:
            legend: names for the classes, or the file that has them.

        Raises:
            ConfigError: no legend, or one that names a class that there is not.
        """
        model = recode_model(self.model, Legend.of(legend), self.origin or "the model")
        return Segmenter(model, self.device, self.origin)

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
            self.check_bands(scene)
            yield scene

    def check_bands(self, scene: Scene) -> None:
        """Refuse a scene of another number of bands than the model takes.

        Raises:
            SceneError: one sentence that says so.
        """
        if len(scene.bands) != self.model.backbone.in_channels:
            raise SceneError(
                f"{scene.path}: {len(scene.bands)} band(s) chosen, but the model takes "
                f"{self.model.backbone.in_channels}; choose as many with --bands or train on these"
            )

    def settings(
        self,
        scene: Scene,
        *,
        overlap: float = 0.25,
        window_px: int | None = None,
        pixel_size_m: float | None = None,
        tta: bool = False,
        refine: str | None = None,
    ) -> EngineSettings:
        """Window grid for this model on a scene.

        Args:
            scene: what to label.
            overlap: share of a window's side that neighbouring windows share.
            window_px: side of a window in scene pixels.
            pixel_size_m: ground sampling distance at which the model shall see the scene, which is resampled window by
                window; that of the imagery it was trained on by default, 0 for the scene's own.
            tta: average over flips and rotations of each window.
            refine: ``crf`` to fit the map to the scene's own outlines, see :mod:`geohp.inference.engine.refining`.

        Raises:
            ConfigError: when there is no such refinement.
            ModelError: when the overlap is not between 0 and 1, or the window or the pixel size is not positive.
            SceneError: when a pixel size is asked for and the scene's own is not known.
        """
        if not 0 <= overlap < 1:
            raise ModelError(f"overlap {overlap}: must be at least 0 and below 1, a share of the window")
        if window_px is not None and window_px < 1:
            raise ModelError(f"window {window_px}: must be a positive number of pixels")
        input_scale = self.model.input_scale * self._resampling(scene, pixel_size_m)
        settings = default_settings(self.model, overlap, window_px, input_scale)
        return replace(settings, tta=tta, refine=refinement(refine))

    def _resampling(self, scene: Scene, wanted: float | None) -> float:
        """Pixels that the model shall see for one pixel of the scene."""
        if wanted is not None and not (math.isfinite(wanted) and wanted >= 0):
            raise ModelError(f"pixel size {wanted}: must be a number of metres, or 0 for the scene's own")
        seen = self.model.card.pixel_size_m if wanted is None else wanted
        if not seen:
            return 1.0
        own = scene.grid.pixel_size_m
        if own is None:
            if wanted is None:
                return 1.0
            raise SceneError(f"{scene.path}: its pixel size is not known without a CRS; leave the pixel size out")
        # What differs by less is the same sensor in another projection.
        return 1.0 if abs(math.log(own / seen)) < _SAME_PIXEL_SIZE else own / seen

    def segment(self, scene: Scene, *, progress: Progress | None = None, **cut: Any) -> xr.DataArray:
        """Label a scene in memory.

        Args:
            scene: what to label.
            progress: called with the windows done and their number.
            **cut: see :meth:`settings`.

        Returns:
            (y, x) uint8 labels with 255 as nodata, the scene's CRS and transform (``.rio``), and the classes as JSON
            in ``attrs["classes"]``.

        Raises:
            SceneError: when the scene cannot be read.
        """
        labels = np.full((scene.height, scene.width), NODATA_LABEL, dtype=np.uint8)
        for found in label_blocks(scene, self.model, self.settings(scene, **cut), progress):
            labels[found.block.slices] = found.layers["labels"]
        return _as_dataarray(labels, scene, self.classes)

    def segment_lazily(self, scene: LazyScene, **cut: Any) -> xr.DataArray:
        """Lay out the label map of a dask array; each chunk is computed when somebody asks for it.

        Args:
            scene: what to label; it may be closed before the labels are computed.
            **cut: see :meth:`settings`.

        Returns:
            As :meth:`segment`, with dask chunks.
        """
        labels = lazy_labels(scene, self.model, self.settings(scene, **cut))
        return _as_dataarray(labels, scene, self.classes)

    def segment_to(
        self,
        scene: Scene,
        outputs: Outputs,
        *,
        on_read_error: str = "stop",
        restart: bool = False,
        progress: Progress | None = None,
        client: Client | None = None,
        **cut: Any,
    ) -> list[Skipped]:
        """Label a scene into cloud-optimised GeoTIFFs, block by block, in memory that does not grow with it.

        Finished blocks are kept beside the first output until all are there: after an interruption, however rude,
        the same call goes on, to the same bytes.

        Args:
            scene: what to label.
            outputs: the files to write.
            on_read_error: ``stop``, or ``nodata`` to leave out what cannot be read, in cells of 256 px.
            restart: begin anew where unfinished work of another kind is found.
            progress: called with the windows done and their number.
            client: workers that shall do it, see :func:`geohp.inference.cluster.client.connect`; none by default.
            **cut: see :meth:`settings`.

        Returns:
            The parts left out.

        Raises:
            SceneError: when the scene cannot be read.
            OutputError: when an output cannot be written, or unfinished work there is of another kind; what existed
                is as it was.
            ClusterError: when the workers cannot do it.
        """
        if on_read_error not in ON_READ_ERROR:
            raise ConfigError(f"on_read_error {on_read_error!r}: must be one of {', '.join(ON_READ_ERROR)}")
        settings = self.settings(scene, **cut)
        tags = {"GEOHP_MODEL": self.origin, "GEOHP_MODEL_SHA256": model_sha256(self.model)}
        layers = outputs.layers(self.model, settings, tags)
        identity = run_identity(scene, self.model, settings, on_read_error)
        errors_as_nodata = on_read_error == "nodata"
        with ResumableRasterWriter.open(layers, scene.grid, identity, restart=restart) as work:
            if client is None:
                source = NodataOnErrorScene(scene) if errors_as_nodata else scene
                layout = settings.blocks(settings.grid(scene.height, scene.width), self.model.clusters)
                todo = [block for block in layout if block.origin not in work.finished]
                blocks = label_blocks(source, self.model, settings, progress, quantities=outputs.wanted, blocks=todo)
                write_behind(work, outputs.paths, blocks, source)
            else:
                from geohp.inference.cluster.client import run_blocks

                run_blocks(
                    client,
                    work,
                    scene,
                    self.model,
                    settings,
                    outputs.paths,
                    device=self.device,
                    errors_as_nodata=errors_as_nodata,
                    progress=progress,
                )
            work.publish()
            return skipped_in(work)


def _as_dataarray(labels: Any, scene: Scene, classes: Sequence[LandCoverClass]) -> xr.DataArray:
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
