"""A few polygons or points in, a model out that maps their classes; torch is imported when all has been checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.inference.map_options import ModelOptions
from geohp.inference.probe.checks import check_probe
from geohp.progress import Progress, default_progress
from geohp.raster.read.bands import BandRequest

if TYPE_CHECKING:
    from geohp.inference.probe.report import Probe
    from geohp.inference.segmenter import Segmenter


def probe(
    model: str | Path | Segmenter | None,
    scenes: Any,
    reference: Any,
    *,
    field: str | None = None,
    layer: str | None = None,
    backbone: str | None = None,
    weights: str | Path | None = None,
    block: int | None = None,
    bands: BandRequest = None,
    scaling: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    tta: bool = False,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Probe:
    """Teach a model the classes of a few polygons or points: a linear probe on its codes.

    Only windows that hold labels are read and encoded. The probe is a linear discriminant analysis with a shrunk
    covariance, in which every class counts the same; how strongly it is shrunk, how right it can be expected to be, and
    how sure it may be of itself, cross-validation tells, with all of a polygon on one side.

    Classes are numbered from 0 in the order of the reference: numbers in theirs, then texts in the alphabet's.

    Args:
        model: a run folder, a model file or a :class:`~geohp.Segmenter`; ``None`` with a ``backbone`` takes its raw
            features, for which nothing has to be trained.
        scenes: what the labels lie on: a file, folder or pattern, several of these, an open scene, or an
            ``xarray.DataArray``. ``None`` for the images that the model was trained on.
        reference: polygons, points, or a raster of classes, as for :func:`geohp.name_classes`.
        field: the attribute that holds the class.
        layer: of a vector file with several.
        backbone, weights, block: features to use in place of a model's codes; ``weights`` also where a model's are no
            longer where its training found them.
        bands, scaling: how scenes are read; the model's own by default.
        out: a model file to write, ending in ``.safetensors``.
        overwrite: replace it if it exists.
        tta: learn from codes averaged over the eight flips and rotations of each window, and always map so: 8 times the
            work, now and later.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: of everything random.
        progress: hears of "looking for labels", "encoding" and "validating"; by default bars in a notebook.

    Returns:
        The model and what can be expected of it.

    Raises:
        GeohpError: one sentence that says what is wrong with the model, the scenes, the reference or the output.
    """
    progress = progress or default_progress()
    options = ModelOptions(
        model=model, backbone=backbone, weights=weights, block=block, bands=bands, scaling=scaling, seed=seed,
        device=device,
    )  # fmt: skip
    check_probe(options, scenes, reference, out, overwrite=overwrite)
    from geohp.inference.probe.labelled_codes import LabelSource
    from geohp.inference.probe.learning import learn

    return learn(options, scenes, LabelSource(reference, field, layer), tta=tta, out=out, progress=progress)
