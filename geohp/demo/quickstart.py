"""The quick start: an orthophoto with known truth, mapped without looking at the truth, and scored against it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.config.loading import load_config
from geohp.errors import OutputError
from geohp.files import check_new_folder
from geohp.progress import Progress, no_progress
from geohp.training.run import train

_SIDE_PX = 1200
_COLOURS = ("#9d9d9d", "#c8553d", "#6aa84f")


@dataclass(frozen=True)
class QuickstartResult:
    """What the quick start made and how well it did.

    Attributes:
        folder: holds the scene, its truth, the run, labels, confidence, polygons and the picture.
        hp: accuracy and mean IoU of the map, in percent.
        rgb: the same of k-means on plain RGB pixels with as many clusters.
        polygons: how many polygons were written.
        seconds: how long everything took.
    """

    folder: Path
    hp: Mapping[str, Any]
    rgb: Mapping[str, Any]
    polygons: int
    seconds: float

    def report(self) -> str:
        """The figures in a few lines."""
        return "\n".join(
            [
                f"HP without labels:    accuracy {self.hp['accuracy']:5.1f} %   mIoU {self.hp['miou']:5.1f} %",
                f"k-means on plain RGB: accuracy {self.rgb['accuracy']:5.1f} %   mIoU {self.rgb['miou']:5.1f} %",
                f"{self.polygons:,} polygons; everything in {self.seconds:.0f} s",
                f"look at {self.folder / 'picture.png'}, open {self.folder / 'labels.tif'} and "
                f"{self.folder / 'landcover.gpkg'} in QGIS",
            ]
        )


def run_quickstart(
    out: str | Path,
    *,
    seed: int = 0,
    side_px: int = _SIDE_PX,
    overrides: Sequence[str] = (),
    progress: Progress = no_progress,
) -> QuickstartResult:
    """Draw, train, segment, polygonise, score and show.

    Args:
        out: folder to make; it must not exist or be empty.
        seed: of the drawing and of the training.
        side_px: side of the orthophoto, in pixels of 20 cm.
        overrides: of the packaged ``quickstart.yaml``.
        progress: told of the stages.

    Raises:
        OutputError: when the folder is in use or cannot be written.
    """
    from geohp.demo.town.geotiff import write_orthophoto
    from geohp.demo.town.scene import draw_orthophoto
    from geohp.inference.map_scene import segment_file
    from geohp.inference.segmenter import Segmenter
    from geohp.vector.polygonize import polygonize
    from geohp.vector.writing import write_polygons

    started = time.monotonic()
    folder = _new_folder(out)
    progress("drawing", 0, 1)
    drawn = draw_orthophoto(side_px, side_px, seed=seed)
    scene, truth = folder / "scene.tif", folder / "truth.tif"
    write_orthophoto(drawn, scene, truth)
    progress("drawing", 1, 1)
    config = load_config("quickstart.yaml", [f"data.images={scene}", f"train.seed={seed}", *overrides])
    run = train(config, out=folder / "run", progress=progress)
    segmenter = Segmenter.load(run.folder)
    segment_file(
        scene,
        folder / "labels.tif",
        segmenter,
        confidence=folder / "confidence.tif",
        progress=progress,
    )
    polygons = polygonize(folder / "labels.tif", min_area_m2=4)
    write_polygons(polygons, folder / "landcover.gpkg")
    labels = _labels_of(folder / "labels.tif")
    reference, legend = _reference(drawn.truth)
    clusters = len(segmenter.classes)
    rgb = cluster_pixels(drawn.image, drawn.truth != NODATA_LABEL, clusters, seed)
    hp_score, rgb_score = (_score(found, reference, len(legend), clusters) for found in (labels, rgb))
    _draw_picture(
        drawn.image, [_named(labels, hp_score), _named(rgb, rgb_score), reference], [hp_score, rgb_score], legend,
        folder / "picture.png",
    )  # fmt: skip
    return QuickstartResult(folder, hp_score, rgb_score, len(polygons), time.monotonic() - started)


def cluster_pixels(image: NDArray[np.uint8], valid: NDArray[np.bool_], clusters: int, seed: int) -> NDArray[np.uint8]:
    """The baseline: k-means on the plain RGB of every pixel.

    Args:
        image: (3, rows, cols) uint8.
        valid: (rows, cols); other pixels get 255.
        clusters: how many.
        seed: of the seeding.

    Returns:
        (rows, cols) uint8 clusters.
    """
    from scipy.cluster.vq import kmeans2, vq

    pixels = image.reshape(3, -1).T.astype(np.float32)
    inside = pixels[valid.ravel()]
    rng = np.random.default_rng(seed)
    sample = inside[rng.integers(len(inside), size=min(len(inside), 50_000))]
    centroids, _ = kmeans2(sample, clusters, iter=50, minit="++", rng=rng)
    labels = np.full(valid.shape, NODATA_LABEL, dtype=np.uint8)
    labels[valid] = vq(inside, centroids)[0]
    return labels


def _new_folder(path: str | Path) -> Path:
    folder = check_new_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})", "choose a writable place") from error
    return folder


def _labels_of(path: Path) -> NDArray[np.uint8]:
    import rasterio

    with rasterio.open(path) as dataset:
        labels: NDArray[np.uint8] = dataset.read(1)
    return labels


def _reference(truth: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[LandCoverClass, ...]]:
    """The truth as the three classes of Potsdam-3, in which a map without labels is usually judged."""
    from geohp.demo.town.legend import THREE_CLASSES, merge_classes

    # The benchmark's own colours are white, blue and green: nothing to look at side by side on white paper.
    shown = tuple(replace(c, colour=colour) for c, colour in zip(THREE_CLASSES, _COLOURS, strict=True))
    return merge_classes(truth), shown


def _score(labels: NDArray[np.uint8], reference: NDArray[np.uint8], classes: int, clusters: int) -> Mapping[str, Any]:
    from geohp.evaluation.metrics import SegmentationMetrics

    metrics = SegmentationMetrics(classes, clusters)
    metrics.update(labels, reference)
    result: Mapping[str, Any] = metrics.compute()
    return result


def _named(labels: NDArray[np.uint8], score: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Each cluster as the class it was matched to."""
    table = np.full(256, NODATA_LABEL, dtype=np.uint8)
    assignment = np.asarray(score["assignment"])
    table[: len(assignment)] = assignment
    named: NDArray[np.uint8] = table[labels]
    return named


def _draw_picture(
    image: NDArray[np.uint8],
    maps: Sequence[NDArray[np.uint8]],
    scores: Sequence[Mapping[str, Any]],
    legend: Sequence[LandCoverClass],
    out: Path,
) -> None:
    """Scene, map, baseline and truth side by side, with a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from geohp.reporting.figures import colourise, legend_handles

    captions = [
        f"{name}\nmIoU {score['miou']:.1f} %" for name, score in zip(("HP", "k-means, RGB"), scores, strict=True)
    ]
    titles = ["orthophoto", *captions, "truth"]
    figure = Figure(figsize=(16, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    shown = [np.moveaxis(image, 0, -1), *(colourise(labels, legend) for labels in maps)]
    for axes, picture, title in zip(figure.subplots(1, len(shown)), shown, titles, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.legend(handles=legend_handles(legend), loc="outside lower center", ncols=len(legend), frameon=False)
    figure.savefig(out, dpi=120)
