r"""What every method is worth on labelled overhead imagery: trained on some places, scored on others, several seeds.

    python -m benchmarks.accuracy --data dubai --images ../shared/data/dubai --weights FILE --out accuracy/dubai
    python -m benchmarks.accuracy --data drone --images ../shared/data/drone --features rcf --out accuracy/drone

Split by place, both ways (:mod:`benchmarks.places`); no label reaches training but that of the linear probe. Every
method is trained by ``geohp.train`` on the same windows, whose features are computed once for all of them, and scored
as ``geohp evaluate`` does: with as many clusters as there are classes, and with three times as many, settled by k-means
on the same codes and matched many to one; both as they come out, and with large covers gathered. What a user gets who
asks for as many classes, covers gathered, is then refined: neighbours and colour have a say, as the recipes have it,
or the published CRF does (``--refine``). What hp ours is, configs/orthophotos-hp.yaml says; the rows are
:data:`METHODS`.

The first seed of everything comes first. Hours are announced from what was measured so far, and with every run anew.
A run is a JSON; one that was interrupted is begun anew, all others are kept. OUT holds results.csv (a line a run and
reading), results.md (mean and deviation over the seeds, of the mean of both directions) and picture.png (images, what
each method makes of them with as many clusters as classes, covers gathered, refined where that is done, truth), which
grow with every run.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.places import COLOURS, PLACES, Fold, LabelledPlaces, images_of_places
from benchmarks.runs import (
    Clustering,
    Reading,
    Refinement,
    Row,
    Run,
    Scores,
    chosen_rows,
    scored_model,
    train_and_score,
)
from geohp.cli import terminal
from geohp.config.loading import load_config
from geohp.data.base import ImageSet
from geohp.errors import ConfigError, GeohpError
from geohp.evaluation.tables import percent
from geohp.files.atomic import write_bytes, write_text
from geohp.progress import Progress, no_progress

CONFIG = "orthophotos-hp"
"""What all rows are overrides of; with ``method.name=kmeans`` it is orthophotos.yaml."""
FINER = 3
"""Times as many clusters as classes."""
_PATCH_PX = 14
_PUBLISHED = ("code_channels", "temperature", "consistency_weight", "keep_rate", "pool_size", "ema_momentum",
              "warmup_steps", "renew_interval", "refit_probe")  # fmt: skip
_NO_COLOUR = "backbone.colour_share=0"
_AS_THEY_ARE = ("backbone.remove_position_bias=false", _NO_COLOUR)
_SHOWN, _TITLE = 5, 24
"""Images of a picture, and characters of a line beside them."""


def published_hp() -> tuple[str, ...]:
    """Overrides that make HP what potsdam3.yaml has, features as they are."""
    method = load_config("potsdam3").method
    settings = {"name": "hp", **{name: getattr(method, name) for name in _PUBLISHED}}
    return (f"method={json.dumps(settings)}", *_AS_THEY_ARE)


METHODS = (
    Row("hp", "HP, ours", ()),
    Row("hp-local", "HP, with local positives", ("method.local_positives=true",)),
    Row("hp-published", "HP, as published", published_hp()),
    Row("stego", "STEGO", ("method.name=stego",)),
    # Shifts are tuned by data set; these are near the mean cosines of such features (docs/methods.md).
    Row(
        "stego-shifted",
        "STEGO, larger shifts",
        ("method={name: stego, self_shift: 0.45, neighbour_shift: 0.4, random_shift: 0.35}",),
    ),
    Row("maskcontrast", "MaskContrast", ("method.name=maskcontrast",)),
    Row("probes", "raw features, probes", ("method.name=probes",)),
    Row("kmeans", "k-means", ("method.name=kmeans",)),
    Row("kmeans-plain", "k-means, no colour beside", ("method.name=kmeans", _NO_COLOUR)),
    Row("kmeans-position", "k-means, features as they are", ("method.name=kmeans", *_AS_THEY_ARE)),
    Row(
        "kmeans-colour",
        "k-means on colours",
        (
            f"backbone={{name: colour, options: {{patch_size: {_PATCH_PX}}}}}",
            "method={name: kmeans, standardise: true}",
        ),
    ),
)
OF_TRANSFORMERS, OF_NO_FEATURES = ("kmeans-plain", "kmeans-position"), "kmeans-colour"
"""Methods that make a difference with one kind of features alone."""


@dataclass(frozen=True)
class Study:
    """Everything that is compared on a data set.

    Attributes:
        data: its name.
        folders: that hold its places.
        out: the folder for everything.
        features: overrides of the configuration by the name of the features.
        methods: rows of the table.
        overrides: for all runs, after those of the data and before those of features and rows.
        refinements: in which what a user gets of every run is scored again, after all others.
    """

    data: str
    folders: tuple[Path, ...]
    out: Path
    features: dict[str, tuple[str, ...]]
    methods: tuple[Row, ...]
    overrides: tuple[str, ...] = ()
    refinements: tuple[Refinement, ...] = (Refinement.SMOOTHED,)

    @property
    def places(self) -> LabelledPlaces:
        """What is compared on."""
        return PLACES[self.data]

    @property
    def clusterings(self) -> tuple[Clustering, ...]:
        """How every run is read; the first as training leaves it."""
        classes = len(self.places.classes)
        return tuple(Clustering(count, gathered) for count in (classes, FINER * classes) for gathered in (False, True))

    @property
    def shown(self) -> Clustering:
        """The clustering of the picture: what a user gets who asks for so many classes."""
        return self.clusterings[1]

    def cells(self) -> Iterator[Cell]:
        """What has scores of its own in the table."""
        for number, features in enumerate(self.features):
            for method in self.methods:
                if method.name in OF_TRANSFORMERS and features in ("aerial", "rcf"):
                    continue
                if method.name != OF_NO_FEATURES or number == 0:
                    yield Cell(features, method)

    def jobs(self, seeds: int) -> Iterator[Job]:
        """All runs, in the order in which they are made."""
        for refinement in (Refinement.NONE, *self.refinements):
            for seed in range(seeds):
                for cell in self.cells():
                    for fold in self.places.folds:
                        yield Job(cell, fold, seed, self._run(cell, fold, seed, refinement))

    def columns(self) -> Iterator[Column]:
        """The figures of a line of the table."""
        for clustering in self.clusterings:
            for refinement in (Refinement.NONE, *(self.refinements if clustering == self.shown else ())):
                yield Column("cluster", clustering, refinement)
        yield Column("linear", None)
        if Refinement.CRF in self.refinements:
            yield Column("linear", None, Refinement.CRF)

    def _run(self, cell: Cell, fold: Fold, seed: int, refinement: Refinement) -> Run:
        places = self.places
        test = [str(path) for path in images_of_places(self.folders, fold.test)]
        images = [*(str(path) for path in images_of_places(self.folders, fold.train)), *test]
        overrides = (
            f"data.images={json.dumps(images)}",
            f"data.test_images={json.dumps(test)}",
            'data.labels=["{stem}_labels.png"]',
            f"data.label_classes={json.dumps(places.classes)}",
            f"data.patch_px={places.window_px}",
            f"data.input_px={places.input_px}",
            "data.layout=grid",  # the same windows for every seed
            f"data.stride_px={places.stride_px}",
            f"classes.count={len(places.classes)}",
            "classes.split_covers=true",  # gathered they are read afterwards, from the same training
            "classes.smooth_scores=false",  # as the papers read theirs; refined they are afterwards
            "train.cache=disk",
            f"train.cache_dir={json.dumps(str(self.out / 'features'))}",
            *self.features[cell.features],
            *self.overrides,
            *cell.method.overrides,
            f"train.seed={seed}",
        )
        folder = self.out / f"{cell.features}-{cell.method.name}-{fold.name}-seed{seed}"
        # All methods are seen alike: none is averaged over mirrored images.
        read = self.clusterings[1:] if refinement == Refinement.NONE else (self.shown,)
        return Run(CONFIG, overrides, folder, read, refinement, tta=False)


@dataclass(frozen=True)
class Cell:
    """Features and a method: a line of the table."""

    features: str
    method: Row


@dataclass(frozen=True)
class Job:
    """A run and what it is of."""

    cell: Cell
    fold: Fold
    seed: int
    run: Run

    @property
    def kind(self) -> tuple[str, str, Refinement]:
        """Runs of a kind take equally long."""
        return self.cell.features, self.cell.method.name, self.run.refinement


@dataclass(frozen=True)
class Column:
    """What is told of every line of the table."""

    probe: str
    clustering: Clustering | None
    refinement: Refinement = Refinement.NONE

    @property
    def title(self) -> str:
        """In words."""
        if self.clustering is None:
            way = "linear probe"
        else:
            gathered = "covers gathered" if self.clustering.gathered else "as they come out"
            way = f"{self.clustering.clusters} clusters, {gathered}"
        return way if self.refinement == Refinement.NONE else f"{way}, {self.refinement.in_words}"

    def of(self, scores: Sequence[Scores]) -> Reading | None:
        """The reading among the scores of a training."""
        readings = (each.reading(self.probe, self.clustering, self.refinement) for each in scores)
        return next((reading for reading in readings if reading is not None), None)


def feature_overrides(names: Sequence[str], weights: Path | None) -> dict[str, tuple[str, ...]]:
    """Overrides that choose features, by name.

    Raises:
        ConfigError: an unknown name, or a transformer without its weights.
    """
    own = {name: (f"backbone={{name: {name}, options: {{patch_size: {_PATCH_PX}}}}}",) for name in ("aerial", "rcf")}
    known = {**own, "vit": ()}
    for name in names:
        if name not in known:
            raise ConfigError(f"--features {name}: unknown", f"there are {', '.join(sorted(known))}")
    if "vit" in names:
        if weights is None:
            raise ConfigError("--features vit: needs weights", "give the file of vit_small_patch14_dinov2 as --weights")
        known["vit"] = (
            "backbone.name=vit_small_patch14_dinov2",
            f"backbone.weights={json.dumps(str(weights))}",
            "backbone.block=5",
        )
    return {name: known[name] for name in names}


def refinements_of(names: str) -> tuple[Refinement, ...]:
    """The refinements that are named, with commas between.

    Raises:
        ConfigError: an unknown name.
    """
    known = [each.value for each in Refinement if each != Refinement.NONE]
    for name in (chosen := [name for name in names.split(",") if name]):
        if name not in known:
            raise ConfigError(f"--refine {name}: unknown", f"there are {', '.join(known)}")
    return tuple(Refinement(name) for name in dict.fromkeys(chosen))


def hours_left(jobs: Sequence[Job]) -> tuple[int, float | None]:
    """How many runs there are left, and how long they take by what runs of their kinds have taken, in hours.

    Kinds of which there is no run yet are taken for as long as the mean of the others; ``None`` where nothing is known.
    """
    seconds: dict[tuple[str, str, Refinement], list[float]] = {}
    for job in jobs:
        if job.run.result.is_file():
            seconds.setdefault(job.kind, []).append(Scores.read(job.run.result).seconds)
    left = [job for job in jobs if not job.run.result.is_file()]
    if not seconds:
        return len(left), 0.0 if not left else None
    means = {kind: statistics.mean(values) for kind, values in seconds.items()}
    usual = statistics.mean(means.values())
    return len(left), sum(means.get(job.kind, usual) for job in left) / 3600


def announce(jobs: Sequence[Job]) -> str:
    """What is left to do, in a sentence."""
    left, hours = hours_left(jobs)
    if hours is None:
        return f"{left} of {len(jobs)} runs left; how long they take is known when the first of each kind is through"
    return f"{left} of {len(jobs)} runs left, about {hours:.1f} hours"


def run_study(study: Study, seeds: int, progress: Progress = no_progress) -> Iterable[tuple[Job, Scores]]:
    """Make every run that is not there yet; tables grow with each.

    Raises:
        GeohpError: a run that cannot be trained or scored, or was made with other settings.
    """
    jobs = list(study.jobs(seeds))
    for job in jobs:
        fresh = not job.run.result.is_file()
        scores = train_and_score(job.run, progress)
        if fresh:
            write_tables(study, jobs)
        yield job, scores


def write_tables(study: Study, jobs: Sequence[Job]) -> None:
    """``results.csv`` and ``results.md``, of the runs that are there."""
    done = [(job, Scores.read(job.run.result)) for job in jobs if job.run.result.is_file()]
    study.out.mkdir(parents=True, exist_ok=True)
    write_text(study.out / "results.csv", _csv(study, done))
    write_text(study.out / "results.md", _markdown(study, done))


def write_picture(study: Study) -> Path | None:
    """Images, what each method of the first features makes of them, covers gathered, and the truth.

    Of the first fold and seed, where it has runs; of the images of which most classes are to be seen.
    """
    from geohp.classes import LandCoverClass
    from geohp.data.factory import open_data
    from geohp.reporting.figures import Pixels, as_rgb, colourise, draw_samples, legend_handles

    classes = [LandCoverClass(number, name, COLOURS[name]) for number, name in enumerate(study.places.classes)]
    jobs = [
        job
        for job in study.jobs(1)
        if (job.fold, job.cell.features) == (study.places.folds[0], next(iter(study.features)))
        and job.run.result.is_file()
    ]
    if not jobs:
        return None
    # As users see them, where that has been scored.
    scored = {job.run.refinement for job in jobs}
    refinement = next((each for each in study.refinements if each in scored), Refinement.NONE)
    jobs = [job for job in jobs if job.run.refinement == refinement]
    config = load_config(jobs[0].run.config, jobs[0].run.overrides)
    images = open_data(config.data, config.train.seed).evaluation()
    items = [images[index] for index in most_diverse(images)]
    rows: list[tuple[str, Sequence[Pixels]]] = [("image", [as_rgb(item["image"].numpy()) for item in items])]
    for job in jobs:
        title = textwrap.fill(job.cell.method.title, _TITLE)
        rows.append((title, [colourise(_classes_of(job, study.shown, item["image"]), classes) for item in items]))
    rows.append(("truth", [colourise(item["mask"].numpy().astype(np.uint8), classes) for item in items]))
    return write_bytes(study.out / "picture.png", draw_samples(rows, legend_handles(classes)))


def most_diverse(images: ImageSet) -> list[int]:
    """The numbers of images that show most classes (a hundredth of the image or more), one of each file."""
    best: dict[str, tuple[int, int]] = {}
    for index in range(len(images)):
        mask = images[index]["mask"]
        shown = sum(int((mask == number).sum()) >= mask.numel() / 100 for number in range(255))
        file = images.name(index).partition(" row ")[0]
        best[file] = max(best.get(file, (0, -index)), (shown, -index))
    return sorted(-index for _, index in sorted(best.values(), reverse=True)[:_SHOWN])


def _classes_of(job: Job, clustering: Clustering, image: Tensor) -> NDArray[np.uint8]:
    """Classes (H, W) of an image (bands, H, W) by a run's clusters, matched as they are scored."""
    from geohp.evaluation.predict import PredictionMode, Predictor
    from geohp.model.file import load_model

    model = load_model(scored_model(job.run, clustering))
    reading = Scores.read(job.run.result).reading("cluster", clustering, job.run.refinement)
    assert reading is not None
    mode = PredictionMode("cluster", crf=job.run.refinement == Refinement.CRF)
    labels = Predictor.of_model(model, crf=mode.crf)(image[None])[mode]
    classes: NDArray[np.uint8] = np.array(reading.assignment, np.uint8)[labels[0].numpy()]
    return classes


def _csv(study: Study, done: Sequence[tuple[Job, Scores]]) -> str:
    """A line for each run and reading."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    ious = [f"iou {name}" for name in study.places.classes]
    writer.writerow(["features", "method", "judged", "seed", "probe", "clusters", "gathered", "refinement",
                     "accuracy", "miou", *ious, "train_seconds"])  # fmt: skip
    for job, scores in done:
        seconds = "" if scores.train_seconds is None else f"{scores.train_seconds:.0f}"
        for reading in scores.readings:
            figures = ["" if x is None else f"{x:.2f}" for x in (reading.accuracy, reading.miou, *reading.class_iou)]
            writer.writerow([job.cell.features, job.cell.method.name, job.fold.name, job.seed, reading.probe,
                             reading.clusters, int(reading.gathered), reading.refinement.value, *figures,
                             seconds])  # fmt: skip
    return lines.getvalue()


def _markdown(study: Study, done: Sequence[tuple[Job, Scores]]) -> str:
    """A table of the figures of every method, and for every clustering one of the IoU of every class."""
    columns = list(study.columns())
    pairs = [part for column in columns for part in (f"{column.title}: accuracy", "mIoU")]
    table = [["features", "method", "seeds", *pairs, "seconds of training"]]
    of_classes = {column: [["features", "method", *study.places.classes]] for column in columns if column.clustering}
    for cell in study.cells():
        seeds = _by_seed(study, [(job, scores) for job, scores in done if job.cell == cell])
        if not seeds:
            continue
        features = "colour" if cell.method.name == OF_NO_FEATURES else cell.features
        figures = [_mean(seeds, column, name) for column in columns for name in ("accuracy", "miou")]
        times = [scores.train_seconds for folds in seeds for fold in folds for scores in fold]
        trained = [seconds for seconds in times if seconds is not None]
        seconds = f"{statistics.mean(trained):.0f}" if trained else ""
        table.append([features, cell.method.title, str(len(seeds)), *figures, seconds])
        for column, lines in of_classes.items():
            numbers = range(len(study.places.classes))
            lines.append([features, cell.method.title, *(_mean(seeds, column, number) for number in numbers)])
    judged = "; ".join(dict.fromkeys(scores.judged for _, scores in done))
    by_class = "\n".join(
        f"IoU of each class, {column.title}:\n\n{_table(lines)}" for column, lines in of_classes.items()
    )
    return (
        f"{_table(table)}\nMean and sample deviation over the seeds, in percent; a seed's figure is the mean of "
        f"{len(study.places.folds)} direction(s). Judged: {judged}.\n\n{by_class}"
    )


def _by_seed(study: Study, done: Sequence[tuple[Job, Scores]]) -> list[list[list[Scores]]]:
    """By seed and fold the scores of a training, refined ones among them, of every seed that has all folds."""
    seeds: dict[int, dict[Fold, list[Scores]]] = {}
    for job, scores in done:
        seeds.setdefault(job.seed, {}).setdefault(job.fold, []).append(scores)
    return [list(folds.values()) for _, folds in sorted(seeds.items()) if len(folds) == len(study.places.folds)]


def _mean(seeds: Sequence[Sequence[Sequence[Scores]]], column: Column, figure: str | int) -> str:
    """Mean and deviation over seeds of the mean over folds; empty where a run has no such figure."""
    return percent([statistics.fmean(_figure(column.of(scores), figure) for scores in folds) for folds in seeds])


def _figure(reading: Reading | None, figure: str | int) -> float:
    if reading is None:
        return float("nan")
    value = reading.class_iou[figure] if isinstance(figure, int) else getattr(reading, figure)
    return float("nan") if value is None else float(value)


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rest])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, choices=sorted(PLACES))
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="FOLDER", help="that hold the places")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--methods", default="", metavar="NAMES", help=f"of {', '.join(row.name for row in METHODS)}")
    parser.add_argument("--features", default="vit,aerial,rcf", metavar="NAMES")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of vit_small_patch14_dinov2, for vit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--refine",
        default="smoothed",
        metavar="NAMES",
        help="of smoothed and crf: score what a user gets so refined, too; crf takes hours more on a CPU",
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all runs"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what there is to do, and for how long; tabulate and draw what is done",
    )
    args = parser.parse_args()
    try:
        study = _study(args)
        jobs = list(study.jobs(args.seeds))
        print(announce(jobs), flush=True)
        if not args.dry_run:
            with terminal.progress() as progress:
                for job, scores in run_study(study, args.seeds, progress):
                    print(f"{time.strftime('%H:%M:%S')} {_line(job, scores)}; {announce(jobs)}", flush=True)
        write_tables(study, jobs)
        picture = write_picture(study)
    except GeohpError as error:
        terminal.show_error(error)
        return 2
    print(f"wrote {study.out / 'results.csv'}, {study.out / 'results.md'}{f' and {picture}' if picture else ''}")
    return 0


def _study(args: argparse.Namespace) -> Study:
    names = [name for name in args.features.split(",") if name]
    methods = chosen_rows(METHODS, [name for name in args.methods.split(",") if name], "--methods")
    return Study(
        args.data,
        tuple(args.images),
        args.out,
        feature_overrides(names, args.weights),
        tuple(methods),
        tuple(args.overrides),
        refinements_of(args.refine),
    )


def _line(job: Job, scores: Scores) -> str:
    """A run and its mean IoU, in a line."""
    shown = [
        f"{reading.probe} {reading.clusters}{' gathered' if reading.gathered else ''}: {reading.miou:.1f}"
        for reading in scores.readings
        if reading.miou is not None
    ]
    refined = "" if job.run.refinement == Refinement.NONE else f", {job.run.refinement}"
    return f"{job.cell.features} {job.cell.method.name} seed {job.seed}, {job.fold.name}{refined}: {', '.join(shown)}"


if __name__ == "__main__":
    sys.exit(main())
