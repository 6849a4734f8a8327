"""The report of a run: one HTML page that shows what was learned, and needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from geohp.config.experiment import Config
from geohp.config.loading import dump_config
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Method
from geohp.methods.hp.method import HP
from geohp.reporting import figures
from geohp.reporting import pages as html
from geohp.reporting.pages import Markup, element, join
from geohp.reporting.plots import (
    LOSS_TERMS,
    Series,
    as_png,
    as_rgb,
    colourise,
    draw_losses,
    draw_samples,
    predicted_labels,
    read_series,
)
from geohp.training.findings import find_positives
from geohp.training.health import DOMINANT_SHARE
from geohp.training.sample_images import SampleImages, affinities_section, load_sample_images, positives_section
from geohp.training.sweep_result import PICTURE_NAME

if TYPE_CHECKING:
    from geohp.classes import LandCoverClass
    from geohp.evaluation.metrics import SegmentationScores
    from geohp.model.network import LandCoverModel

REPORT_NAME = "report.html"

_SAMPLES = 6
_ANCHORS = 4
_COUNTED_IMAGES = 64
"""Images whose patches are counted for the clusters' shares."""
_ALIKE = 0.95
"""Centroids of a higher cosine are hardly two clusters."""
_NEVER_SPECIFIC = (
    "It stayed 0: the warm-up (method.warmup_steps) is longer than the training, and task-specific positives took no "
    "part in it."
)
_STYLE = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.near { grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.small { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; margin: .6rem 0 1.4rem; }
@media (max-width: 40rem) {
  .near { grid-template-columns: 1fr 1fr; } .small { grid-template-columns: repeat(3, 1fr); }
}
.grid figure { margin: 0; } .grid img { width: 100%; display: block; }
.warnings { background: #fff4d6; border-left: 4px solid #c98a00; padding: .4rem 1rem; }
.warnings ul { margin: .3rem 0; padding-left: 1.2rem; } .facts td + td { overflow-wrap: anywhere; }
.bar { display: block; min-width: 1px; height: .9em; margin-top: .3em; } .bars { width: min(12rem, 25vw); }
#clusters td.words { white-space: nowrap; } .key { white-space: nowrap; margin-right: 1rem; }
pre { overflow-x: auto; font-size: .85rem; background: #f5f5f5; padding: .6rem; }
"""

_LOG: Sequence[tuple[str, Mapping[str, str], str]] = (
    (
        "Contrastive loss",
        {"contrastive": "contrastive"},
        "What the head learns from. It falls, steeply at first, and levels off; as λ grows it may rise, because "
        "task-specific positives join in.",
    ),
    (
        "Consistency",
        {"consistency": "consistency"},
        "Distance between the codes of an image and of its photometrically changed copy, times its weight. It falls.",
    ),
    (
        "Cluster probe",
        {"cluster": "cluster"},
        "Minus the mean cosine of patches with their centroid: it falls towards −1. Its gradient does not reach the "
        "head.",
    ),
    (
        "Linear probe",
        {"linear": "linear"},
        "Cross-entropy on the labels. Its gradient does not reach the head: it only tells what the codes hold.",
    ),
    (
        "λ, weight of task-specific positives",
        {"task_specific_weight": "λ"},
        "0 during the warm-up, then in a straight line towards 1.",
    ),
    (
        "Gradient norm of the head",
        {"gradient_norm": "gradient norm"},
        "Before clipping, whose bound is dashed where it comes near. Peaks are harmless as long as they pass.",
    ),
    (
        "Positives per anchor",
        {"positives_agnostic": "task-agnostic", "positives_specific": "task-specific"},
        "Neither close to 0, where nothing is learned, nor to the number of patches of a batch, where everything is "
        "alike.",
    ),
    (
        "Share of anchors",
        {"anchor_share": "share"},
        "Patches that found a task-agnostic positive, of all; the others are left out of the loss. Close to 1.",
    ),
)
"""Columns of metrics.csv that share a figure, and what to see in it; other columns get figures of their own."""

_SHARES = ("task_specific_weight", "anchor_share")
"""Columns that lie between 0 and 1."""


def write_run_report(
    work: Path,
    config: Config,
    method: Method,
    model: LandCoverModel,
    source: FeatureSampler,
    *,
    seconds: float,
    warnings: Sequence[str] = (),
    scores: Mapping[str, SegmentationScores] | None = None,
    label_classes: Sequence[LandCoverClass] = (),
) -> None:
    """Write ``report.html``, ``samples.png`` and, where there is a ``metrics.csv``, ``loss.png`` into a run folder.

    What does not apply is left out: curves without a ``metrics.csv``, positives and affinities where the method
    discovers none, scores without a ``scores.csv``, confusion without ``scores``.

    Args:
        work: the run folder; ``metrics.csv`` and ``scores.csv`` are read from it.
        config: the experiment.
        method: trained and finished, on the device of the source's backbone.
        model: what the run gives, of the same head and probe.
        source: what it was trained on.
        seconds: how long the run took so far.
        warnings: what was noticed during training, one sentence each.
        scores: how the last epoch does on labels, by readout (``"cluster"``, ``"linear"``).
        label_classes: the classes of those labels.

    Raises:
        DataError, SceneError: no image can be read any more.
        OSError: the folder cannot be written to.
    """
    shown = load_sample_images(source, model, config.train.batch_size)
    examples = shown.spread(_SAMPLES)
    draw_samples([shown.images[place] for place in examples], model, work / "samples.png")
    metrics = work / "metrics.csv"
    if metrics.exists():
        draw_losses(metrics, work / "loss.png")
    parts = [
        element("h1", f"Training run: {config.name}"),
        _warnings(warnings),
        _facts(config, method, model, source, seconds),
        _curves(config, read_series(metrics)),
        _samples(shown, examples, model),
        _clusters(source, model),
        _sweep(work / PICTURE_NAME, len(model.card.classes)),
        *_discovered(config, method, model, shown),
        _scores(read_series(work / "scores.csv", over="epoch"), scores or {}, label_classes),
        _closing(method),
    ]
    page = html.page(f"{config.name}: training run", [part for part in parts if part], _STYLE)
    (work / REPORT_NAME).write_text(page, encoding="utf-8")


def section(name: str, title: str, *parts: str) -> Markup:
    """A part of the page under a heading."""
    return element("section", join([element("h2", title), *parts], "\n"), id=name)


def _warnings(warnings: Sequence[str]) -> Markup:
    if not warnings:
        return Markup("")
    listed = element("ul", join(element("li", warning) for warning in warnings))
    return element(
        "div", join([element("strong", "Noticed during training"), listed]), class_="warnings", id="warnings"
    )


def _facts(config: Config, method: Method, model: LandCoverModel, source: FeatureSampler, seconds: float) -> Markup:
    card, backbone = model.card, model.backbone
    names = {entry.name for entry in card.classes}
    named = names != {f"class {number}" for number in range(len(card.classes))}
    settings = {k: v for k, v in asdict(config.method).items() if k not in ("name", "learning_rates")}
    steps = f"{config.train.epochs} epochs, {config.train.batch_size} images a step" if method.iterative else "no steps"
    pixel = f", {card.pixel_size_m:.3g} m a pixel" if card.pixel_size_m else ""
    cut = f", cut at {card.patch_px} px" if card.patch_px != card.input_px else ""
    block = f", block {backbone.block}" if backbone.block >= 0 else ""
    rows = [
        ("data", f"{config.data.source}, {len(source):,} images of {card.input_px} px{cut}{pixel}"),
        ("bands", "red, green, blue" if card.bands is None else ", ".join(map(str, card.bands))),
        ("labels", "for the linear probe and for scores only" if source.images.labelled else "none"),
        ("backbone", f"{backbone.name}{block}: {backbone.channels} channels, patches of {backbone.patch_size} px"),
        ("method", config.method.name + "".join(f", {k.replace('_', ' ')} {v}" for k, v in settings.items())),
        ("classes", f"{len(card.classes)}" + (": " + ", ".join(c.name for c in card.classes) if named else "")),
        ("training", steps),
        ("seed", f"{config.train.seed}"),
        ("device", f"{model.device.type}, precision {config.train.precision}"),
        ("time", _duration(seconds)),
        ("geohp", card.geohp_version),
    ]
    whole = join([element("summary", "The whole configuration"), element("pre", dump_config(config))])
    facts = element("div", html.table([], rows, words=(0, 1)), class_="facts")
    return element("section", join([facts, element("details", whole)]), id="facts")


def _curves(config: Config, logged: Mapping[str, Series]) -> Markup:
    """A figure for each group of columns, whatever columns there are."""
    told = {name for _, columns, _ in _LOG for name in columns}
    others = [(name.replace("_", " "), {name: name}, "") for name in logged if name not in told and name != "loss"]
    drawn = []
    for title, columns, meaning in (*_LOG, *others):
        lines = {shown: logged[name] for name, shown in columns.items() if name in logged}
        if lines:
            bound = getattr(config.method, "clip_norm", None) if "gradient_norm" in columns else None
            if "task_specific_weight" in columns and not logged["task_specific_weight"][1].any():
                meaning = f"{meaning} {_NEVER_SPECIFIC}"
            shares = not columns.keys().isdisjoint(_SHARES)
            png = figures.draw_curve(title, lines, legend=len(columns) > 1, bound=bound, shares=shares)
            drawn.append(html.picture(png, title, meaning))
    if not drawn:
        return Markup("")
    terms = [name for name in LOSS_TERMS if name in logged]
    intro = f"Thin: each step. Bold: a running mean over a twentieth of the run. The loss is the sum of {_and(terms)}."
    return section("curves", "Curves", element("p", intro), element("div", join(drawn), class_="grid"))


def _samples(shown: SampleImages, examples: Sequence[int], model: LandCoverModel) -> Markup:
    drawn = []
    for place in examples:
        image = shown.images[place]
        found = colourise(predicted_labels(image, model), model.card.classes)
        pictures = (figures.draw_image(as_rgb(image.numpy())), figures.draw_image(found))
        alts = (f"Image {shown.names[place]}", f"Clusters of image {shown.names[place]}")
        drawn.append(element("div", join(map(html.picture, pictures, alts)), class_="pair"))
    intro = (
        "Images the model was trained on, and below each the cluster of every pixel, in the colours of the list that "
        "follows. Healthy: borders follow what is seen, and one colour means the same thing in all images."
    )
    return section("samples", "Samples", element("p", intro), element("div", join(drawn), class_="grid small"))


def _clusters(source: FeatureSampler, model: LandCoverModel) -> Markup:
    """Shares and centroids."""
    classes, centroids = model.card.classes, F.normalize(model.probe.clusters.detach(), dim=1)
    cosines = (centroids @ centroids.T).cpu().numpy()
    shares = _shares(source, model)
    others = cosines - 4 * np.eye(len(cosines), dtype=np.float32)
    rows = []
    for number, entry in enumerate(classes):
        nearest = int(others[number].argmax())
        width = f"width:{100 * shares[number]:.1f}%;background:{entry.colour}"
        rows.append([
            join([html.swatch(entry.colour), entry.name]),
            f"{100 * shares[number]:.1f}",
            element("div", element("span", class_="bar", style=width), class_="bars"),
            classes[nearest].name,
            f"{others[number, nearest]:.2f}",
        ])  # fmt: skip
    head = ["cluster", "% of patches", "", "nearest other", "cosine"]
    shared = (
        f"Shares of the patches of {min(_COUNTED_IMAGES, len(source))} images. Healthy: no cluster is empty, none "
        f"takes nearly all. {_about_shares(shares, classes)}"
    )
    alike = (
        "How alike the centroids are. Healthy: clearly below 1 off the diagonal; two centroids close to 1 are one "
        f"cluster in two halves. {_about_centroids(others, classes)}"
    )
    picture = html.picture(figures.draw_similarity(cosines, classes), "Cosines of the clusters' centroids")
    return join(
        [
            section("clusters", "Clusters", element("p", shared), html.table(head, rows, words=(0, 2, 3))),
            section("similarity", "Centroid similarity", element("p", alike), picture),
        ]
    )


@torch.no_grad()
def _sweep(picture: Path, chosen: int) -> Markup:
    """Where numbers of classes were compared: how, and which was taken."""
    if not picture.exists():
        return Markup("")
    about = (
        f"Without labels, on the trained codes; this model has {chosen} classes. A class counts as found again where "
        "clusterings of other images have it, too."
    )
    return section("sweep", "Numbers of classes", element("p", about), html.picture(picture, "Numbers of classes"))


def _shares(source: FeatureSampler, model: LandCoverModel) -> np.ndarray:
    """Share of each cluster (K,) in the patches of some images."""
    counts = torch.zeros(len(model.probe.clusters))
    for maps in source.sample(_COUNTED_IMAGES):
        found = model.probe.scores(model.head(maps.to(model.device).float())).argmax(1)
        counts += torch.bincount(found.flatten(), minlength=len(counts)).cpu()
    return (counts / counts.sum().clamp_min(1)).numpy()


def _about_shares(shares: np.ndarray, classes: Sequence[LandCoverClass]) -> str:
    empty = [entry.name for entry, share in zip(classes, shares, strict=True) if share == 0]
    said = [f"Empty here: {_and(empty)}."] if empty else ["None is empty here."]
    if shares.max() > DOMINANT_SHARE:
        said.append(f"{classes[int(shares.argmax())].name} takes {100 * shares.max():.0f} %: training collapsed.")
    return " ".join(said)


def _about_centroids(others: np.ndarray, classes: Sequence[LandCoverClass]) -> str:
    first, second = divmod(int(others.argmax()), len(others))
    pair = f"{classes[first].name} and {classes[second].name}, {others[first, second]:.2f}"
    alike = int((np.triu(others, 1) > _ALIKE).sum())
    return f"Closest: {pair}." + (f" {alike} pair(s) above {_ALIKE}." if alike else "")


def _discovered(config: Config, method: Method, model: LandCoverModel, shown: SampleImages) -> Iterator[Markup]:
    """Positives and affinities, where the method has any."""
    if not isinstance(method, HP):
        return
    found = find_positives(
        method,
        shown.patches.features,
        shown.clusters,
        anchors=_ANCHORS,
        seed=config.train.seed,
        labels=shown.labels,
    )
    yield section("positives", "Positives discovered", *positives_section(found, shown, model.card.classes))
    yield section("affinities", "Local affinities", *affinities_section(found, shown))


def _scores(
    by_epoch: Mapping[str, Series], scores: Mapping[str, SegmentationScores], classes: Sequence[LandCoverClass]
) -> Markup:
    drawn = []
    for key, title in (("accuracy", "Accuracy by epoch"), ("miou", "Mean IoU by epoch")):
        lines = {
            shown: by_epoch[f"{probe}_{key}"]
            for probe, shown in (("cluster", "clusters"), ("linear", "linear probe"))
            if f"{probe}_{key}" in by_epoch
        }
        if lines:
            drawn.append(html.picture(figures.draw_scores(title, lines), title))
    confusions = [_confusion(name, one, classes) for name, one in scores.items()]
    if not drawn and not confusions:
        return Markup("")
    intro = (
        "Training does not learn of these labels. Clusters are matched to classes one to one, the linear probe names "
        "them itself. Healthy: the result is the last epoch, and no earlier one is far above it."
    )
    return section(
        "scores",
        "Scores on labels",
        element("p", intro),
        element("div", join(drawn), class_="grid") if drawn else "",
        *confusions,
    )


def _confusion(name: str, scores: SegmentationScores, classes: Sequence[LandCoverClass]) -> Markup:
    from geohp.evaluation.report import draw_confusion

    figure = draw_confusion(scores, classes, name, clusters=name.startswith("cluster"))
    caption = "Rows: true classes, in percent of each. Healthy: dark on the diagonal."
    return html.picture(as_png(figure), f"Confusion, {name}", caption)


def _closing(method: Method) -> Markup:
    paper = element("a", "arXiv 2303.15014", href="https://arxiv.org/abs/2303.15014")
    if isinstance(method, HP):
        return element("p", join(["The method: Hidden Positives, ", paper, "."]))
    left_out = (
        f"{method.name} looks at the data once: it has no steps, no reference pools and no mixing of neighbours, and "
        "so no curves, positives or affinities to show."
    )
    return element("p", left_out, id="left-out")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
