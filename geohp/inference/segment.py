"""From a scene to its label map in one call: which model to use, and where the map goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.config.experiment import BackboneConfig
from geohp.errors import ConfigError
from geohp.inference.outputs import Outputs
from geohp.inference.segmenter import Progress, Segmenter, as_scene
from geohp.inference.writing import Skipped
from geohp.legend.file import Legend
from geohp.model.runs import newest_run
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.lazy import LazyScene

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

DEFAULT_CLASSES = 6
"""How many classes are found where nobody says."""


def segment(
    scene: Any,
    model: str | Path | Segmenter | None = None,
    *,
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
    device: str = "auto",
    seed: int = 0,
) -> xr.DataArray:
    """Label a scene without a single label.

    Args:
        scene: a path or URL that GDAL opens, an open :class:`~geohp.raster.read.scene.Scene`, or an
            ``xarray.DataArray`` (band, y, x) with ``.rio`` georeference. Of dask chunks nothing is computed but what
            a fit or a measured scaling samples: 256 patches of 64 x 64 px, and the windows fitted on.
        model: a run folder, a model file or a :class:`Segmenter`; see :func:`resolve_segmenter` for ``None``.
        classes, backbone, block, bands, scaling: find classes on the scene itself, this many, on these features.
        weights: of the backbone.
        legend: names for the classes, see :meth:`Segmenter.named`.
        overlap, window_px, pixel_size_m, tta, refine: see :meth:`Segmenter.settings`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: of everything random.

    Returns:
        (y, x) uint8 labels, nodata 255, with CRS and transform; the classes as JSON in ``attrs["classes"]``. Of dask
        chunks: in dask chunks, each computed when asked for, from the chunks that its windows touch.

    Raises:
        GeohpError: one sentence that says what is wrong with the scene, the model or the settings.
    """
    segmenter = resolve_segmenter(
        scene,
        model,
        classes=classes,
        backbone=backbone,
        weights=weights,
        block=block,
        bands=bands,
        scaling=scaling,
        device=device,
        seed=seed,
    )
    segmenter = segmenter if legend is None else segmenter.named(legend)
    with segmenter.open(scene) as opened:
        cut: dict[str, Any] = {
            "overlap": overlap,
            "window_px": window_px,
            "pixel_size_m": pixel_size_m,
            "tta": tta,
            "refine": refine,
        }
        if isinstance(opened, LazyScene):
            return segmenter.segment_lazily(opened, **cut)
        return segmenter.segment(opened, **cut)


def segment_file(
    scene: str | Path,
    out: str | Path,
    model: str | Path | Segmenter | None = None,
    *,
    confidence: str | Path | None = None,
    entropy: str | Path | None = None,
    probabilities: str | Path | None = None,
    legend: Legend | str | Path | None = None,
    overlap: float = 0.25,
    window_px: int | None = None,
    pixel_size_m: float | None = None,
    tta: bool = False,
    refine: str | None = None,
    on_read_error: str = "stop",
    restart: bool = False,
    overwrite: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
    device: str = "auto",
    seed: int = 0,
) -> list[Skipped]:
    """Label a scene into cloud-optimised GeoTIFFs on exactly its grid.

    After an interruption, also ``kill -9`` or a power failure, the same call goes on where it was, to the same bytes.
    The exception that ends it says so in a note where there is something to go on with.

    Args:
        scene: a path or URL that GDAL opens.
        out: the label raster: uint8, nodata 255, colour table, overviews, class names in the band tag ``classes``.
        model: a run folder, a model file or a :class:`Segmenter`; see :func:`resolve_segmenter` for ``None``.
        confidence, entropy, probabilities: further rasters, see :class:`geohp.inference.outputs.Outputs`.
        legend: names for the classes, see :meth:`Segmenter.named`.
        overlap, window_px, pixel_size_m, tta, refine: see :meth:`Segmenter.settings`.
        on_read_error: ``stop``, or ``nodata`` to leave out what cannot be read.
        restart: begin anew where unfinished work of another kind is found.
        overwrite: replace outputs that exist.
        client: workers that shall do it, see :func:`geohp.inference.cluster.client.connect`.
        progress: called with the windows done and their number.
        device, seed: see :func:`resolve_segmenter`; a :class:`Segmenter` has its own.

    Returns:
        The parts of the scene left out.

    Raises:
        SceneError: when the scene cannot be read.
        OutputError: when an output exists, would replace the input, or cannot be written.
    """
    given = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities}
    outputs = Outputs(Path(out), **{name: None if path is None else Path(path) for name, path in given.items()})
    outputs.check(overwrite=overwrite, inputs=[scene])
    segmenter = resolve_segmenter(scene, model, device=device, seed=seed, errors_as_nodata=on_read_error == "nodata")
    segmenter = segmenter if legend is None else segmenter.named(legend)
    with segmenter.open(scene) as opened:
        return segmenter.segment_to(
            opened,
            outputs,
            on_read_error=on_read_error,
            restart=restart,
            progress=progress,
            client=client,
            overlap=overlap,
            window_px=window_px,
            pixel_size_m=pixel_size_m,
            tta=tta,
            refine=refine,
        )


def resolve_segmenter(
    scene: Any,
    model: str | Path | Segmenter | None = None,
    *,
    classes: int | None = None,
    backbone: str | None = None,
    weights: str | Path | None = None,
    block: int | None = None,
    bands: Sequence[int | str] | None = None,
    scaling: str | None = None,
    device: str = "auto",
    seed: int = 0,
    runs: str | Path = "runs",
    errors_as_nodata: bool = False,
) -> Segmenter:
    """The model to label a scene with.

    A model that is given is used. Without one, asking for classes, a backbone, bands or a scaling means to find
    classes on this very scene, by cosine k-means on its own features. With nothing asked for, the newest run below
    ``runs`` is used where there is one, and k-means otherwise. ``Segmenter.origin`` says which it was.

    Args:
        scene: what :func:`segment` takes; for classes found on several, a :class:`SceneCollection`.
        model: a run folder, a model file or a :class:`Segmenter`.
        classes, backbone, block, bands, scaling: find classes, this many, on these features.
        weights: of the backbone.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: of everything random.
        runs: where to look for the newest run.
        errors_as_nodata: pass over parts of the scene that cannot be read.

    Raises:
        ConfigError: when a model is given together with what only a new fit can heed.
        GeohpError: when model, weights or scene cannot be used.
    """
    asked = {"classes": classes, "backbone": backbone, "block": block, "bands": bands, "scaling": scaling}
    given = given_segmenter(model, asked, weights=weights, device=device, runs=runs)
    if given is not None:
        return given
    chosen = _backbone(backbone, weights, block)
    fit: dict[str, Any] = {
        "classes": DEFAULT_CLASSES if classes is None else classes,
        "backbone": chosen,
        "device": device,
        "seed": seed,
        "errors_as_nodata": errors_as_nodata,
    }
    if isinstance(scene, SceneCollection):
        return Segmenter.fit(scene, **fit)
    with as_scene(scene, bands=bands, scaling=scaling or "auto") as opened:
        return Segmenter.fit(opened, **fit)


def given_segmenter(
    model: str | Path | Segmenter | None,
    asked: Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    runs: str | Path = "runs",
) -> Segmenter | None:
    """The model given, or that of the newest run; ``None`` where classes are to be found on the scene.

    Args:
        model, weights, device, runs: see :func:`resolve_segmenter`.
        asked: its ``classes``, ``backbone``, ``block``, ``bands`` and ``scaling``, by name.

    Raises:
        ConfigError: when a model is given together with what only a new fit can heed.
        ModelError: when the model cannot be used.
    """
    fitting = [name for name, value in asked.items() if value is not None]
    if model is not None:
        if fitting:
            raise ConfigError(
                f"{fitting[0]}: the model has its own; leave it out, or leave the model out to find classes anew"
            )
        if isinstance(model, Segmenter):
            return model
        return Segmenter.load(model, weights=weights, device=device)
    newest = None if fitting else newest_run(runs)
    if newest is not None:
        return Segmenter.load(newest, weights=weights, device=device)
    _backbone(asked.get("backbone"), weights, asked.get("block"))  # what it refuses is refused before scenes are read
    return None


def _backbone(name: str | None, weights: str | Path | None, block: int | None) -> BackboneConfig:
    if name in (None, "rcf") and (weights is not None or block is not None):
        raise ConfigError("weights, block: random convolutional features have none; name the backbone they belong to")
    given: dict[str, Any] = {"name": name, "weights": None if weights is None else str(weights), "block": block}
    return BackboneConfig(**{key: value for key, value in given.items() if value is not None})
