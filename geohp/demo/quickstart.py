"""The quick start: an orthophoto with known truth, mapped without looking at the truth, and scored against it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.config.loading import load_config
from geohp.files.atomic import write_bytes, write_failure
from geohp.files.checks import check_new_folder
from geohp.progress import Progress, no_progress

if TYPE_CHECKING:
    from geohp.evaluation.metrics import SegmentationScores

_SIDE_PX = 1200
_MIN_AREA_M2 = 4
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
    hp: SegmentationScores
    rgb: SegmentationScores
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
    from geohp.demo.town.drawing import draw_orthophoto
    from geohp.demo.town.geotiff import write_orthophoto
    from geohp.inference.map_scene import segment_file
    from geohp.training.run import train

    started = time.monotonic()
    folder = check_new_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(folder, error) from error
    scene = folder / "scene.tif"
    progress("drawing", 0, 1)
    drawn = draw_orthophoto(side_px, side_px, seed=seed)
    write_orthophoto(drawn, scene, folder / "truth.tif")
    progress("drawing", 1, 1)
    images = json.dumps(str(scene), ensure_ascii=False)  # which is YAML, and quotes what a path may hold
    config = load_config("quickstart.yaml", [f"data.images={images}", f"train.seed={seed}", *overrides])
    run = train(config, out=folder / "run", progress=progress)
    result = segment_file(
        scene,
        folder / "labels.tif",
        run.folder,
        confidence=folder / "confidence.tif",
        polygons=folder / "landcover.gpkg",
        min_area_m2=_MIN_AREA_M2,
        progress=progress,
    )
    hp = _read_labels(folder / "labels.tif")
    rgb = cluster_pixels(drawn.image, drawn.truth != NODATA_LABEL, len(result.classes), seed)
    scores = _score_and_show(drawn.image, drawn.truth, (hp, rgb), len(result.classes), folder / "picture.png")
    return QuickstartResult(folder, *scores, result.polygons or 0, time.monotonic() - started)


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


def _read_labels(path: Path) -> NDArray[np.uint8]:
    import rasterio

    with rasterio.open(path) as dataset:
        labels: NDArray[np.uint8] = dataset.read(1)
    return labels


def _score_and_show(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    maps: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    clusters: int,
    picture: Path,
) -> tuple[SegmentationScores, SegmentationScores]:
    """Hold both maps against the three classes of Potsdam-3, in which a map without labels is usually judged."""
    from geohp.demo.town.town_classes import THREE_CLASSES, merge_classes

    # The benchmark's own colours are white, blue and green: nothing to look at side by side on white paper.
    legend = [replace(c, colour=colour) for c, colour in zip(THREE_CLASSES, _COLOURS, strict=True)]
    reference = merge_classes(truth)
    hp, rgb = (_score(labels, reference, len(legend), clusters) for labels in maps)
    named = [_named(labels, scores) for labels, scores in zip(maps, (hp, rgb), strict=True)]
    captions = [f"{name}\nmIoU {scores['miou']:.1f} %" for name, scores in (("HP", hp), ("k-means, RGB", rgb))]
    panels = dict(zip(captions, named, strict=True)) | {"truth": reference}
    write_bytes(picture, _draw_panels(image, panels, legend))
    return hp, rgb


def _score(labels: NDArray[np.uint8], reference: NDArray[np.uint8], classes: int, clusters: int) -> SegmentationScores:
    from geohp.evaluation.metrics import SegmentationMetrics

    metrics = SegmentationMetrics(classes, clusters)
    metrics.update(labels, reference)
    return metrics.compute()


def _named(labels: NDArray[np.uint8], scores: SegmentationScores) -> NDArray[np.uint8]:
    """Each cluster as the class it was matched to."""
    table = np.full(256, NODATA_LABEL, dtype=np.uint8)
    table[: len(scores["assignment"])] = scores["assignment"]
    named: NDArray[np.uint8] = table[labels]
    return named


def _draw_panels(
    image: NDArray[np.uint8], maps: dict[str, NDArray[np.uint8]], legend: Sequence[LandCoverClass]
) -> bytes:
    """The scene and maps of it side by side, with a legend, as a PNG."""
    from geohp.reporting.figures import colourise, legend_handles
    from geohp.reporting.plots import as_png, new_figure

    figure = new_figure(16, 5.2)
    panels = {"orthophoto": np.moveaxis(image, 0, -1)} | {t: colourise(labels, legend) for t, labels in maps.items()}
    for axes, (title, pixels) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.legend(handles=legend_handles(legend), loc="outside lower center", ncols=len(legend), frameon=False)
    return as_png(figure, dpi=120)
