"""The report of a run: what was learned, gathered for one HTML page that needs no network."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geohp.classes import LandCoverClass
from geohp.config.documents import write_yaml
from geohp.config.loading import public_config
from geohp.evaluation.metrics import SegmentationScores
from geohp.evaluation.report import confusion_png
from geohp.features.sampler import FeatureSampler
from geohp.methods.hp.method import HP
from geohp.methods.kmeans.covers import Cover, describe_covers
from geohp.model.network import LandCoverModel
from geohp.model.runs import (
    LOSS_PICTURE,
    METRICS_NAME,
    REPORT_NAME,
    SAMPLES_PICTURE,
    SCORES_NAME,
    SWEEP_PICTURE,
)
from geohp.reporting.figures import as_rgb, colourise, draw_image, draw_samples, legend_handles, spread
from geohp.reporting.pages import Picture, render_page
from geohp.reporting.plots import Series, draw_curve, draw_losses, draw_scores, draw_similarity
from geohp.training.discovery import Discovery, show_findings
from geohp.training.findings import find_positives
from geohp.training.fit import Trained
from geohp.training.health import DOMINANT_SHARE
from geohp.training.sample_images import SampleImages, load_sample_images, predict_labels

_SAMPLES = 6
_ANCHORS = 4
_COUNTED_IMAGES = 64
"""Images whose patches are counted for the clusters' shares."""
_ALIKE = 0.95
"""Centroids of a higher cosine are hardly two clusters."""
_PAIRS = ("self", "neighbour", "random")
_LOSS_TERMS = ("contrastive", "consistency", *(f"correspondence_{kind}" for kind in _PAIRS), "cluster", "linear")
_CURVES: tuple[tuple[str, dict[str, str]], ...] = (
    ("Contrastive loss", {"contrastive": "contrastive"}),
    ("Consistency", {"consistency": "consistency"}),
    ("Correspondence loss", {f"correspondence_{kind}": kind for kind in _PAIRS}),
    ("Similarity of codes", {f"similarity_{kind}": kind for kind in _PAIRS}),
    ("Cluster probe", {"cluster": "cluster"}),
    ("Linear probe", {"linear": "linear"}),
    ("λ, weight of task-specific positives", {"task_specific_weight": "λ"}),
    ("Gradient norm of the head", {"gradient_norm": "gradient norm"}),
    ("Positives per anchor", {"positives_agnostic": "task-agnostic", "positives_specific": "task-specific"}),
    ("Share of anchors", {"anchor_share": "share"}),
)
"""Figures by title, whose meaning the page's template knows, and the columns of metrics.csv that share each."""
_SHARES = ("task_specific_weight", "anchor_share")
"""Columns that lie between 0 and 1."""


def write_run_report(work: Path, trained: Trained, label_classes: Sequence[LandCoverClass], seconds: float) -> None:
    """Write ``report.html``, ``samples.png`` and, where there is a ``metrics.csv``, ``loss.png`` into a run folder.

    What does not apply is left out: curves without a ``metrics.csv``, positives and affinities where the method
    discovers none, scores without a ``scores.csv``, confusion where nothing was scored.

    Args:
        work: the run folder; ``metrics.csv`` and ``scores.csv`` are read from it.
        trained: what training has come to, on the device of the source's backbone.
        label_classes: the classes of the labels that it was scored on.
        seconds: how long the run took so far.

    Raises:
        DataError, SceneError: no image can be read any more.
        OSError: the folder cannot be written to.
    """
    config, model = trained.config, trained.model
    samples = load_sample_images(trained.features, model, config.train.batch_size)
    metrics, sweep = work / METRICS_NAME, work / SWEEP_PICTURE
    logged = read_series(metrics)
    terms = {name: logged[name] for name in _LOSS_TERMS if name in logged}
    if metrics.exists():
        (work / LOSS_PICTURE).write_bytes(draw_losses(terms))
    page = render_page(
        "run.html.j2",
        name=config.name,
        method=config.method.name,
        warnings=trained.warnings,
        facts=_facts(trained, seconds),
        config=write_yaml(public_config(config)),
        loss_terms=list(terms),
        curves=list(_curves(logged, trained.method.gradient_bound)),
        never_specific=_never_specific(trained, logged),
        samples=_samples(samples, model, work / SAMPLES_PICTURE),
        clusters=_clusters(trained.features, model),
        comparison=trained.comparison,
        covers=bool(trained.covers),
        sweep=Picture(sweep.read_bytes(), "Numbers of classes") if sweep.exists() else None,
        discovery=_discovery(trained, samples),
        score_curves=list(_score_curves(read_series(work / SCORES_NAME))),
        confusions=[_confusion(probe, scores, label_classes) for probe, scores in trained.scores.items()],
    )
    (work / REPORT_NAME).write_text(page, encoding="utf-8")


def read_series(file: Path) -> dict[str, Series]:
    """The columns of a CSV file that hold finite numbers, over its steps; ``{}`` where there is no such file."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    series: dict[str, Series] = {}
    for name in rows[0] if rows else ():
        values = np.array([(_number(row.get("step")), _number(row.get(name))) for row in rows])
        values = values[np.isfinite(values).all(1)]
        if name not in ("step", "epoch") and len(values):
            series[name] = (values[:, 0], values[:, 1])
    return series


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _facts(trained: Trained, seconds: float) -> list[tuple[str, str]]:
    config, card, backbone, images = trained.config, trained.model.card, trained.model.backbone, trained.features.images
    names = [entry.name for entry in card.classes]
    named = set(names) != {f"class {number}" for number in range(len(names))}
    settings = {k: v for k, v in asdict(config.method).items() if k not in ("name", "learning_rates")}
    length = f"{config.train.epochs} epochs" if config.train.max_steps is None else f"{config.train.max_steps} steps"
    steps = f"{length}, {config.train.batch_size} images a step"
    pixel = f", {card.pixel_size_m:.3g} m a pixel" if card.pixel_size_m else ""
    cut = f", cut at {card.patch_px} px" if card.patch_px != card.input_px else ""
    block = f", block {backbone.block}" if backbone.block >= 0 else ""
    return [
        ("data", f"{config.data.source}, {len(images):,} images of {card.input_px} px{cut}{pixel}"),
        ("bands", "red, green, blue" if card.bands is None else ", ".join(map(str, card.bands))),
        ("labels", "for the linear probe and for scores only" if images.labelled else "none"),
        ("backbone", f"{backbone.name}{block}: {backbone.channels} channels, patches of {backbone.patch_size} px"),
        ("method", config.method.name + "".join(f", {k.replace('_', ' ')} {v}" for k, v in settings.items())),
        ("classes", f"{len(names)}" + (": " + ", ".join(names) if named else "")),
        *([("clusters", card.unmerged)] if card.unmerged else []),
        *([("covers", _covers(trained.covers))] if trained.covers else []),
        ("training", steps if trained.method.iterative else "no steps"),
        ("seed", f"{config.train.seed}"),
        ("device", f"{trained.model.device.type}, precision {config.train.precision}"),
        ("time", _duration(seconds)),
        ("geohp", card.geohp_version),
    ]


def _covers(covers: Sequence[Cover]) -> str:
    """What was gathered, and how it is told apart."""
    return f"{describe_covers(covers)}; classes.split_covers=true tells their kinds apart"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _curves(logged: Mapping[str, Series], clip_norm: float | None) -> Iterator[Picture]:
    """A figure for each group of columns that were logged, and for each column that belongs to none."""
    known = {"loss"}.union(*(columns for _, columns in _CURVES))
    others = [(name.replace("_", " "), {name: name}) for name in logged if name not in known]
    for title, columns in (*_CURVES, *others):
        lines = {label: logged[name] for name, label in columns.items() if name in logged}
        if lines:
            bound = clip_norm if "gradient_norm" in columns else None
            shares = not columns.keys().isdisjoint(_SHARES)
            yield Picture(draw_curve(title, lines, legend=len(columns) > 1, bound=bound, shares=shares), title)


def _samples(samples: SampleImages, model: LandCoverModel, out: Path) -> list[tuple[Picture, Picture]]:
    """Images and their clusters, all of them also in one picture of its own."""
    places, classes = spread(len(samples.images), _SAMPLES), model.card.classes
    photos = [as_rgb(samples.images[place].numpy()) for place in places]
    labels = [colourise(predict_labels(samples.images[place], model), classes) for place in places]
    out.write_bytes(draw_samples([("", photos), ("", labels)], legend_handles(classes)))
    return [
        (
            Picture(draw_image(photo), f"Image {samples.names[place]}"),
            Picture(draw_image(clusters), f"Clusters of image {samples.names[place]}"),
        )
        for place, photo, clusters in zip(places, photos, labels, strict=True)
    ]


@dataclass(frozen=True)
class _Cluster:
    """A line of the table of clusters: ``share`` of the patches in percent, and the nearest other centroid."""

    name: str
    colour: str
    share: float
    nearest: str
    cosine: float


@dataclass(frozen=True)
class _Clusters:
    """All clusters: how many images were counted, how many pairs have a cosine above ``bound``, and all cosines."""

    rows: list[_Cluster]
    images: int
    alike: int
    picture: Picture
    bound: float = _ALIKE
    dominant: float = 100 * DOMINANT_SHARE


def _clusters(source: FeatureSampler, model: LandCoverModel) -> _Clusters:
    names = [entry.name for entry in model.card.classes]
    centroids = model.probe.directions()
    cosines = (centroids @ centroids.T).cpu().numpy()
    others = cosines - 4 * np.eye(len(cosines), dtype=np.float32)
    rows = [
        _Cluster(entry.name, entry.colour, 100 * share, names[row.argmax()], row.max())
        for entry, share, row in zip(model.card.classes, _shares(source, model), others, strict=True)
    ]
    picture = Picture(draw_similarity(cosines, names), "Cosines of the clusters' centroids")
    return _Clusters(rows, min(_COUNTED_IMAGES, len(source)), int((np.triu(others, 1) > _ALIKE).sum()), picture)


@torch.no_grad()
def _shares(source: FeatureSampler, model: LandCoverModel) -> NDArray[np.float32]:
    """Share of each cluster (K,) in the patches of some images."""
    counts = torch.zeros(model.probe.classes)
    for maps in source.sample(_COUNTED_IMAGES):
        clusters = model.probe.scores(model.head(maps.to(model.device).float())).argmax(1)
        counts += torch.bincount(clusters.flatten(), minlength=len(counts)).cpu()
    shares: NDArray[np.float32] = (counts / counts.sum().clamp_min(1)).numpy()
    return shares


def _never_specific(trained: Trained, logged: Mapping[str, Series]) -> bool:
    """Whether task-specific positives were wanted, and never came in."""
    wanted = isinstance(trained.method, HP) and trained.method.settings.task_specific_positives
    return wanted and "task_specific_weight" in logged and not logged["task_specific_weight"][1].any()


def _discovery(trained: Trained, samples: SampleImages) -> Discovery | None:
    """Positives and affinities, where the method has any."""
    if not isinstance(trained.method, HP) or not trained.method.settings.discovers:
        return None
    features, clusters, seed = samples.patches.features, samples.clusters, trained.config.train.seed
    found = find_positives(trained.method, features, clusters, anchors=_ANCHORS, seed=seed, labels=samples.labels)
    return show_findings(found, samples, trained.model.card.classes, trained.method.settings)


def _score_curves(by_step: Mapping[str, Series]) -> Iterator[Picture]:
    for key, title in (("accuracy", "Accuracy on labels"), ("miou", "Mean IoU on labels")):
        lines = {
            name: by_step[f"{probe}_{key}"]
            for probe, name in (("cluster", "clusters"), ("linear", "linear probe"))
            if f"{probe}_{key}" in by_step
        }
        if lines:
            yield Picture(draw_scores(title, lines), title)


def _confusion(probe: str, scores: SegmentationScores, classes: Sequence[LandCoverClass]) -> Picture:
    png = confusion_png(scores, classes, probe, clusters=probe.startswith("cluster"))
    caption = "Rows: true classes, in percent of each. Healthy: dark on the diagonal."
    return Picture(png, f"Confusion, {probe}", caption)
