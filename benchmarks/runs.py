"""Runs of experiments: trained and scored once, each with a result of its own on disk; whoever stops goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from geohp.config.loading import dump_config, load_config
from geohp.errors import ConfigError, OutputError
from geohp.files.atomic import write_text
from geohp.progress import Progress, no_progress

_RESTARTS = 5
"""Of k-means where finer clusters are settled: as many as it has as a method."""
TABLES = Path(__file__).resolve().parents[1] / "configs" / "ablations"


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, what it is, and the overrides that make it."""

    name: str
    title: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Clustering:
    """How trained codes are clustered.

    Attributes:
        clusters: how many there are.
        gathered: large covers are one class each, or, of more clusters than there are classes, a third of those.
    """

    clusters: int
    gathered: bool = False

    @property
    def name(self) -> str:
        """For files."""
        return f"clusters-{self.clusters}{'-gathered' if self.gathered else ''}"


class Refinement(StrEnum):
    """What is done to a model's maps before they are scored."""

    NONE = "none"
    """Every patch is named by itself."""
    SMOOTHED = "smoothed"
    """Neighbours and colour have a say, as ``classes.smooth_scores`` has it."""
    CRF = "crf"
    """The published CRF, on every pixel."""

    @property
    def in_words(self) -> str:
        """For tables."""
        return {
            Refinement.NONE: "as it is",
            Refinement.SMOOTHED: "neighbours and colour have a say",
            Refinement.CRF: "published CRF",
        }[self]


@dataclass(frozen=True)
class Run:
    """A training and its scores.

    Attributes:
        config: a path, or the name of a packaged configuration.
        overrides: of the configuration.
        folder: of the run; what is known of it lies beside, under the same name.
        clusterings: further ones that are settled on the trained codes, by k-means, and scored.
        refinement: of what is scored; of several clusterings only the further ones are refined, since that takes time.
        tta: see :class:`geohp.evaluation.options.EvaluationOptions`.
    """

    config: str
    overrides: tuple[str, ...]
    folder: Path
    clusterings: tuple[Clustering, ...] = ()
    refinement: Refinement = Refinement.NONE
    tta: bool | None = None

    @property
    def result(self) -> Path:
        """Where its scores are."""
        return _beside(self.folder, ".json" if self.refinement == Refinement.NONE else f"-{self.refinement}.json")


@dataclass(frozen=True)
class Reading:
    """Figures in percent of one way of reading a model.

    Attributes:
        probe: ``cluster`` or ``linear``.
        clusters: how many there are, or classes of the linear probe.
        gathered: large covers are one class.
        refinement: of the map.
        accuracy, miou: ``None`` where undefined.
        class_iou: of each class.
        assignment: the class of each cluster.
    """

    probe: str
    clusters: int
    gathered: bool
    refinement: Refinement
    accuracy: float | None
    miou: float | None
    class_iou: tuple[float | None, ...]
    assignment: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """How a run did.

    Attributes:
        judged: what it was judged on, in words.
        readings: one for each number of clusters and way of reading.
        train_seconds: of its training, without those of computing features, which all runs share; ``None`` where it
            had been trained before.
        seconds: of everything, as far as it was done now.
    """

    judged: str
    readings: tuple[Reading, ...]
    train_seconds: float | None
    seconds: float

    def reading(
        self, probe: str, clustering: Clustering | None = None, refinement: Refinement = Refinement.NONE
    ) -> Reading | None:
        """That of a probe, of the training's own clusters unless told; ``None`` where there is none."""
        return next(
            (
                reading
                for reading in self.readings
                if (reading.probe, reading.refinement) == (probe, refinement)
                and clustering in (None, Clustering(reading.clusters, reading.gathered))
            ),
            None,
        )

    @classmethod
    def read(cls, path: Path) -> Scores:
        """What :func:`train_and_score` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        readings = [
            Reading(
                **{
                    **entry,
                    "refinement": Refinement(entry["refinement"]),
                    "class_iou": tuple(entry["class_iou"]),
                    "assignment": tuple(entry["assignment"]),
                }
            )
            for entry in document.pop("readings")
        ]
        return cls(readings=tuple(readings), **document)


class StageClock:
    """Passes progress on, and measures how long one stage takes, from its first report to its last.

    Args:
        progress: of the work.
        stage: that is measured.

    Attributes:
        seconds: that it took so far.
    """

    def __init__(self, progress: Progress, stage: str) -> None:
        self.progress, self.stage, self.seconds = progress, stage, 0.0
        self._reported: float | None = None

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Take note."""
        now = time.monotonic()
        if stage == self.stage and done and self._reported is not None:
            self.seconds += now - self._reported
        self._reported = now if stage == self.stage else None
        self.progress(stage, done, total, detail)


def read_rows(table: str, only: Sequence[str] = ()) -> list[Row]:
    """The rows of a table of ``configs/ablations`` by its name, or of a YAML file, or those of them that are named.

    Raises:
        ConfigError: no such table or row, or one of another form.
    """
    path = Path(table) if Path(table).is_file() else TABLES / f"{table.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in TABLES.glob("*.yaml")))
        raise ConfigError(f"{table}: no such table of rows", f"give a YAML file or one of {known}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = [_row(str(name), entry) for name, entry in document.items()]
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a table of rows", "write NAME: {title: TEXT, set: [key=value, ...]}") from error
    return chosen_rows(rows, only, str(path))


def chosen_rows(rows: Sequence[Row], only: Sequence[str], where: str) -> list[Row]:
    """Those of the rows that are named; all where none is.

    Raises:
        ConfigError: there is no row of that name.
    """
    if unknown := set(only) - {row.name for row in rows}:
        raise ConfigError(f"{where}: no row {min(unknown)}", f"there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not only or row.name in only]


def train_and_score(run: Run, progress: Progress = no_progress) -> Scores:
    """The scores of a run: those that are there; else it is scored, and begun anew where it is not trained.

    Raises:
        GeohpError: it cannot be trained or scored, or was made with other settings.
    """
    _check_settings(run)
    if run.result.is_file():
        return Scores.read(run.result)
    started = time.monotonic()
    trained = _train(run, progress)
    judged, readings = _score(run, progress)
    scores = Scores(judged, tuple(readings), trained, time.monotonic() - started)
    write_text(run.result, json.dumps(asdict(scores)))
    return scores


def model_of(run: Run, clustering: Clustering | None = None) -> Path:
    """The model file of a run, with its own clusters or others."""
    from geohp.model.runs import MODEL_NAME

    return run.folder / (MODEL_NAME if clustering is None else f"{clustering.name}.safetensors")


def scored_model(run: Run, clustering: Clustering | None = None) -> Path:
    """The model file that is scored, of those of a run; the copy in whose maps neighbours have a say is made here."""
    from geohp.model.file import load_model, save_model

    model = model_of(run, clustering)
    if run.refinement != Refinement.SMOOTHED:
        return model
    copy = model.with_name(f"{model.stem}-smoothed{model.suffix}")
    if not copy.is_file():
        smoothed = load_model(model)
        smoothed.card = replace(smoothed.card, smooth_scores=True)
        save_model(smoothed, copy)
    return copy


def _row(name: str, entry: Any) -> Row:
    """A row as the file has it, checked."""
    if set(entry) != {"title", "set"} or not all(isinstance(each, str) for each in entry["set"]):
        raise ValueError(name)
    if Path(name).name != name:  # it names folders
        raise ValueError(name)
    return Row(name, str(entry["title"]), tuple(entry["set"]))


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _check_settings(run: Run) -> None:
    """That a run which is there, or has begun, was asked for with the same settings."""
    record, settings = _beside(run.folder, ".yaml"), dump_config(load_config(run.config, run.overrides))
    if record.is_file() and record.read_text(encoding="utf-8") != settings:
        raise OutputError(f"{record}: was made with other settings", "name another folder with --out")
    record.parent.mkdir(parents=True, exist_ok=True)
    write_text(record, settings)


def _train(run: Run, progress: Progress) -> float | None:
    """Train and settle finer clusters, where that is not done; the seconds that training took."""
    from geohp.training.run import train

    seconds = None
    if not model_of(run).is_file():
        shutil.rmtree(run.folder, ignore_errors=True)
        encoding = StageClock(progress, "computing features")
        seconds = train(run.config, run.overrides, out=run.folder, progress=encoding).seconds - encoding.seconds
    missing = [each for each in run.clusterings if not model_of(run, each).is_file()]
    if missing:
        _settle(run, missing, progress)
    return seconds


def _settle(run: Run, clusterings: Sequence[Clustering], progress: Progress) -> None:
    """Models with other clusters: no head depends on them, so one training serves them all."""
    from geohp.classes import default_classes
    from geohp.data.factory import open_data
    from geohp.features.filling import CacheOptions
    from geohp.features.sampler import FeatureSampler
    from geohp.methods.kmeans.clustering import refit_probe
    from geohp.model.file import load_model, save_model
    from geohp.training.looks import gather_by_look, see_patches

    config = load_config(run.folder / "config.yaml")
    train, count = config.train, config.classes.count
    model: Any = load_model(run.folder)
    card = model.card
    with closing(open_data(config.data, train.seed).training(progress)) as images:
        features = FeatureSampler(images, model.backbone, batch_size=train.batch_size, seed=train.seed)
        features.cache(CacheOptions(train.cache, train.cache_gib * 2**30, train.cache_dir, train.features_dtype))
        seen = see_patches(model.head, features) if any(each.gathered for each in clusterings) else None
        for clustering in sorted(clusterings):
            clusters = clustering.clusters
            if clusters != len(model.probe.clusters) or model.probe.members is not None:
                refit_probe(model, features.sample, clusters, restarts=_RESTARTS, seed=train.seed)
            model.card = replace(card, classes=default_classes(clusters))
            if clustering.gathered and seen is not None:
                classes = config.classes.model_copy(update={"extra_clusters": max(0, clusters - count)})
                gather_by_look(model, seen, classes, train.seed)
            save_model(model, model_of(run, clustering))


def _score(run: Run, progress: Progress) -> tuple[str, list[Reading]]:
    """What it is judged on, and the figures of the last checkpoint; a linear probe is read once."""
    from geohp.evaluation.evaluate import score_models
    from geohp.evaluation.options import EvaluationOptions
    from geohp.evaluation.results import LAST

    gathered = not load_config(run.folder / "config.yaml").classes.split_covers
    ways = {scored_model(run, each): each.gathered for each in run.clusterings}
    if run.refinement == Refinement.NONE or not ways:
        ways = {scored_model(run): gathered} | ways
    smoothed, crf = run.refinement == Refinement.SMOOTHED, run.refinement == Refinement.CRF
    first = next(iter(ways))
    # Neighbours and colour have a say in the clusters alone, so a linear probe would be scored as it was before.
    probes = {"cluster"} if smoothed else {"cluster", "linear"}
    evaluation = score_models(list(ways), EvaluationOptions(crf=crf, tta=run.tta, progress=progress))
    readings = [
        _reading(result, run.refinement, gathered=ways[Path(result.model)])
        for result in evaluation.results
        if result.checkpoint == LAST
        and result.mode.crf == crf
        and result.mode.probe in probes
        and (result.mode.probe == "cluster" or Path(result.model) == first)
    ]
    return evaluation.summary, readings


def _reading(result: Any, refinement: Refinement, *, gathered: bool) -> Reading:
    def figure(value: float) -> float | None:
        return None if value != value else float(value)

    scores = result.scores
    return Reading(
        result.mode.probe,
        len(scores["counts"]),
        gathered and result.mode.probe == "cluster",
        refinement,
        figure(scores["accuracy"]),
        figure(scores["miou"]),
        tuple(figure(value) for value in scores["class_iou"]),
        tuple(int(number) for number in scores["assignment"]),
    )
