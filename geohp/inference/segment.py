"""From a scene to its label map in one call: which model to use, and where the map goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.config import BackboneConfig
from geohp.errors import ConfigError
from geohp.inference.segmenter import Progress, Segmenter, as_scene
from geohp.model_file import newest_run
from geohp.outputs import check_output

if TYPE_CHECKING:
    import xarray as xr


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
    overlap: float = 0.25,
    window_px: int | None = None,
    device: str = "auto",
    seed: int = 0,
) -> xr.DataArray:
    """Label a scene without a single label.

    Args:
        scene: a path or URL that GDAL opens, an open :class:`~geohp.raster.scenes.Scene`, or an
            ``xarray.DataArray`` (band, y, x) with ``.rio`` georeference.
        model: a run folder, a model file or a :class:`Segmenter`; see :func:`choose_segmenter` for ``None``.
        classes, backbone, block, bands, scaling: find classes on the scene itself, this many, on these features.
        weights: of the backbone.
        overlap: share of a window's side that neighbouring windows share.
        window_px: side of a window in scene pixels.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: of everything random.

    Returns:
        (y, x) uint8 labels, nodata 255, with CRS and transform; the classes as JSON in ``attrs["classes"]``.

    Raises:
        GeohpError: one sentence that says what is wrong with the scene, the model or the settings.
    """
    segmenter = choose_segmenter(
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
    with segmenter.open(scene) as opened:
        return segmenter.segment(opened, overlap=overlap, window_px=window_px)


def segment_file(
    scene: str | Path,
    out: str | Path,
    segmenter: Segmenter,
    *,
    confidence: str | Path | None = None,
    overlap: float = 0.25,
    window_px: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Label a scene into a cloud-optimised GeoTIFF on exactly its grid.

    Args:
        scene: a path or URL that GDAL opens.
        out: the label raster: uint8, nodata 255, colour table, overviews, class names in the band tag ``classes``.
        segmenter: the model to run; see :func:`choose_segmenter`.
        confidence: optional second raster, uint8 with scale 1/254 and nodata 255.
        overlap: share of a window's side that neighbouring windows share.
        window_px: side of a window in scene pixels.
        overwrite: replace outputs that exist.
        progress: called with the windows done and their number.

    Raises:
        SceneError: when the scene cannot be read.
        OutputError: when an output exists, would replace the input, or cannot be written.
    """
    outputs = [Path(out)] + ([Path(confidence)] if confidence is not None else [])
    if len(outputs) == 2 and outputs[0].absolute() == outputs[1].absolute():
        raise ConfigError(f"{out}: named for both labels and confidence; give them different names")
    for path in outputs:
        check_output(path, overwrite=overwrite, inputs=[scene])
    with segmenter.open(scene) as opened:
        segmenter.segment_to(
            opened, out, confidence=confidence, overlap=overlap, window_px=window_px, progress=progress
        )
    return outputs[0]


def choose_segmenter(
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
) -> Segmenter:
    """The model to label a scene with.

    A model that is given is used. Without one, asking for classes, a backbone, bands or a scaling means to find
    classes on this very scene, by cosine k-means on its own features. With nothing asked for, the newest run below
    ``runs`` is used where there is one, and k-means otherwise. ``Segmenter.origin`` says which it was.

    Raises:
        ConfigError: when a model is given together with what only a new fit can heed.
        GeohpError: when model, weights or scene cannot be used.
    """
    asked = {"classes": classes, "backbone": backbone, "block": block, "bands": bands, "scaling": scaling}
    fitting = [name for name, value in asked.items() if value is not None]
    if model is not None:
        if fitting:
            raise ConfigError(
                f"{fitting[0]}: the model has its own; leave it out, or leave the model out to find classes anew"
            )
        if isinstance(model, Segmenter):
            return model
        return Segmenter.load(model, weights=weights, device=device)
    if not fitting:
        newest = newest_run(runs)
        if newest is not None:
            return Segmenter.load(newest, weights=weights, device=device)
    if backbone in (None, "rcf") and (weights is not None or block is not None):
        raise ConfigError("weights, block: random convolutional features have none; name the backbone they belong to")
    given: dict[str, Any] = {"name": backbone, "weights": None if weights is None else str(weights), "block": block}
    chosen = BackboneConfig(**{key: value for key, value in given.items() if value is not None})
    with as_scene(scene, bands=bands, scaling=scaling or "auto") as opened:
        return Segmenter.fit(
            opened, classes=6 if classes is None else classes, backbone=chosen, device=device, seed=seed
        )
