"""An experiment from its configuration to its run folder."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.config.data import OrthophotosConfig
from geohp.config.documents import write_yaml
from geohp.config.experiment import Config
from geohp.config.loading import dump_config, load_config, public_config
from geohp.errors import ChangedError, ConfigError, GeohpError, Note, OutputError
from geohp.files.checks import check_name, check_new_folder
from geohp.files.locks import LOCK, FolderLock
from geohp.files.reading import failure_reason
from geohp.files.unfinished import DRAFT, clear_folder, remove_drafts
from geohp.model.runs import (
    BEST_NAME,
    CHECKPOINT_NAME,
    CONFIG_NAME,
    FIGURES_NAME,
    KMEANS_ENTRY,
    MODEL_NAME,
    REPORT_NAME,
    UNFINISHED,
    UNFINISHED_RUN,
)
from geohp.progress import Progress, default_progress
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.read.unchanged import UnchangedFiles
from geohp.training.backbone_notes import backbone_notes
from geohp.training.checks import check_checkpoint, check_experiment
from geohp.training.defaults import resolve
from geohp.training.sweep_request import count_is_given, parse_sweep

if TYPE_CHECKING:
    from geohp.classes import LandCoverClass
    from geohp.data.base import DataSource
    from geohp.training.comparison import KMeansComparison
    from geohp.training.fit import Trained, TrainingData

logger = logging.getLogger(__name__)

_BEGUN = rf"{re.escape(DRAFT)}.*|\..*\.geohp"
"""Names of what was being written."""
_OF_RUNS = re.compile("|".join([*map(re.escape, UNFINISHED_RUN), _BEGUN]))
"""Names in the folder of a run that is not finished."""
_OF_TRAININGS = re.compile("|".join([*map(re.escape, (LOCK, CONFIG_NAME, CHECKPOINT_NAME, BEST_NAME)), r"\d+", _BEGUN]))
"""Names in the folder of what only going on with a training needs."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: holds ``config.yaml`` (all numbers known), ``model.safetensors``, ``report.html``, ``metrics.csv``,
            ``metrics.json`` with the comparison, pictures, and the logs of TensorBoard; where it was scored on labels
            while training, also ``scores.csv`` and ``best_on_labels.safetensors``.
        model: the trained model's file.
        seconds: how long it took.
        warnings: sentences about what looks wrong with the result.
        comparison: with k-means on the same features; ``None`` where it was not asked for (``train.compare_kmeans``),
            where the method is k-means, or the images are too few.
    """

    folder: Path
    model: Path
    seconds: float
    warnings: tuple[str, ...] = ()
    comparison: KMeansComparison | None = None

    def __repr__(self) -> str:
        return f"<Run: {self.folder}{''.join(f'; {warning}' for warning in self.warnings)}>"

    def _repr_html_(self) -> str:
        from geohp.model.card import read_card
        from geohp.reporting.summaries import summary

        facts = {
            "model": self.model,
            "report": self.folder / REPORT_NAME,
            "looks wrong": " ".join(self.warnings),
        }
        return summary(f"Run {self.folder}", facts, read_card(self.model).classes)


def train(
    config: Config | str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    data: Any = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    sweep: str | None = None,
    aoi: str | Path | Sequence[float] | None = None,
    aoi_layer: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a model on imagery; labels, where there are any, only ever teach its linear probe.

    What the user should know (sizes, derived settings, what looks wrong) is logged.

    Args:
        config: a :class:`~geohp.config.experiment.Config`, a YAML file, or the bare name of a packaged configuration.
        overrides: such as ``train.epochs=3``, for a configuration that is read from a file.
        data: what to train on, in place of the images that the configuration names: a
            :class:`~geohp.data.base.DataSource`, an :class:`~geohp.data.base.ImageSet` or one of TorchGeo's data sets.
        out: the run folder, which must not exist; ``runs/<name>-<date>-<time>`` by default, with a number behind it
            where another training of the same second has that.
        resume: instead of all that, the folder of an unfinished run to go on with, from its last checkpoint.
        sweep: numbers of classes to compare after training, ``classes=3..12``; the one recommended is taken, unless
            ``classes.count`` is overridden or the classes have names.
        aoi, aoi_layer: area of interest, of one's own imagery, in place of ``data.area`` and ``data.area_layer``.
        progress: of surveying the images, of computing features and of training; by default bars in a notebook.

    Returns:
        The run folder, complete. One that fails before its first checkpoint leaves nothing behind; later it stays, and
        can be gone on with.

    Raises:
        ConfigError, DataError, SceneError, WeightsError, OutputError, TrainingError: one sentence and its remedy.
    """
    started, progress = time.monotonic(), progress or default_progress()
    config, folder = _resolve_run(config, overrides, out, resume, sweep, None if aoi is None else (aoi, aoi_layer))
    check_experiment(config)
    source = _source(config, data)
    with ExitStack() as stack:
        images = stack.enter_context(closing(source.training(progress)))
        eval_images = None
        if config.train.score_every:
            eval_images = stack.enter_context(closing(source.evaluation(progress)))
        sets = [images] if eval_images is None else [images, eval_images]
        unchanged = UnchangedFiles.joined("a file of the training data", [each.unchanged() for each in sets])
        # Not before: whatever is wrong with configuration and images is found without torch, which takes seconds.
        from geohp.training.fit import TrainingData, fit

        training = TrainingData(images, source.classes, eval_images, source.pixel_size_m, unchanged)
        config, notes = resolve(config, len(training.images))
        seen_m = _seen_pixel_size_m(config, training)
        for note in [*backbone_notes(config.backbone.name, seen_m, config.method.name), *notes]:
            logger.info(note)
        if out is None and resume is None:
            folder = _own_folder(folder)
        stack.enter_context(_run_folder(folder, resumed=resume is not None))
        _write_config(folder, config, unfinished=True)
        with unchanged.explaining():
            trained = fit(config, training, folder, progress)
        seconds = time.monotonic() - started
        model = _write_artifacts(folder, trained, source.classes, seconds)
    return Run(folder, model, seconds, tuple(trained.warnings), trained.comparison)


def _write_config(folder: Path, config: Config, *, unfinished: bool = False) -> None:
    """Write down what is trained, without what gives access to addresses.

    While it is unfinished that is kept, too: to go on needs it, and only its owner may read it. It stays as it was when
    training began, whose checkpoints are of as many clusters.
    """
    if unfinished:
        path = folder / UNFINISHED / CONFIG_NAME
        path.touch(mode=0o600)
        path.write_text(dump_config(config), encoding="utf-8")
    (folder / CONFIG_NAME).write_text(write_yaml(public_config(config)), encoding="utf-8")


def _seen_pixel_size_m(config: Config, data: TrainingData) -> float | None:
    """Of the training patches as the backbone sees them, where it is known."""
    if data.pixel_size_m is None:
        return None
    return data.pixel_size_m * config.data.scene_patch_px / config.data.model_input_px


def _resolve_run(
    config: Config | str | Path | None,
    overrides: Sequence[str],
    out: str | Path | None,
    resume: str | Path | None,
    sweep: str | None,
    area: tuple[str | Path | Sequence[float], str | None] | None,
) -> tuple[Config, Path]:
    """The configuration and the folder of a new run, or of one that is gone on with."""
    if resume is not None:
        if config is not None or overrides or out is not None or sweep is not None or area is not None:
            raise ConfigError(
                f"{resume}: a run goes on with its own configuration", "give nothing beside {option}", option="resume"
            )
        folder = _unfinished_run(Path(resume))
        whole = folder / UNFINISHED / CONFIG_NAME
        return load_config(whole if whole.is_file() else folder / CONFIG_NAME), folder
    if config is None:
        raise ConfigError("no configuration", "give a YAML file, or a packaged one by its name (orthophotos.yaml)")
    if not isinstance(config, Config):
        config = load_config(config, overrides)
    if sweep is not None:
        config = _with_sweep(config, sweep, overrides)
    if area is not None:
        config = _with_area(config, *area)
    if out is None:
        return config, check_name(Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    return config, _new_run(Path(out))


def _new_run(folder: Path) -> Path:
    """Refuse a folder that holds anything but what a training left that was killed before its first checkpoint."""
    _tidy(folder)
    if (folder / UNFINISHED / CHECKPOINT_NAME).is_file():
        problem, remedy = f"{folder}: holds a training that was stopped", "{option} goes on with it"
        raise OutputError(problem, remedy, option="resume", value=str(folder))
    if _is_of_a_training(folder / UNFINISHED) and not _strangers(folder, _OF_RUNS):
        return folder
    return check_new_folder(folder)


def _own_folder(folder: Path) -> Path:
    """A new one by that name, or with a number behind it where trainings of the same second have the others."""
    others = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    for own in chain([folder], others):
        with suppress(OSError):
            own.mkdir(parents=True)
            break
        if not own.is_dir():  # something else is wrong with it, which who takes it tells
            break
    return own


def _tidy(folder: Path) -> None:
    """Remove from a finished run what only going on with its training needed, where it was killed before it did."""
    unfinished = folder / UNFINISHED
    if not (folder / MODEL_NAME).is_file():
        return
    remove_drafts(folder)
    if _is_of_a_training(unfinished):
        FolderLock(unfinished).release()  # nobody is at work there
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_of_a_training(unfinished: Path) -> bool:
    """Whether a training has made it: others may call a folder so, too."""
    return unfinished.is_dir() and not _strangers(unfinished, _OF_TRAININGS)


def _strangers(folder: Path, own: re.Pattern[str]) -> list[Path]:
    """What in a folder is called otherwise."""
    return [path for path in folder.iterdir() if not own.fullmatch(path.name)]


def _unfinished_run(folder: Path) -> Path:
    _tidy(folder)
    if (folder / MODEL_NAME).is_file():
        raise ConfigError(f"{folder}: is finished", "there is nothing to go on with")
    if not (folder / CONFIG_NAME).is_file():
        raise ConfigError(f"{folder}: no unfinished run there", "give the folder of one that was interrupted")
    check_checkpoint(folder / UNFINISHED / CHECKPOINT_NAME)
    return folder


def _with_sweep(config: Config, sweep: str, overrides: Sequence[str]) -> Config:
    comparison = {"sweep": list(parse_sweep(sweep)), "choose": not count_is_given(config.classes, overrides)}
    return config.model_copy(update={"classes": config.classes.model_copy(update=comparison)})


def _with_area(config: Config, aoi: str | Path | Sequence[float], layer: str | None) -> Config:
    """Patches are cut in an area alone."""
    if not isinstance(config.data, OrthophotosConfig):
        problem = f"{{option}}: is for one's own imagery, but data.source is {config.data.source}"
        raise ConfigError(problem, "leave it out", option="aoi")
    area = str(aoi) if isinstance(aoi, (str, Path)) else [float(edge) for edge in aoi]
    AreaOfInterest.of(area, layer)
    data = config.data.model_copy(update={"area": area, "area_layer": layer})
    return config.model_copy(update={"data": data})


def _source(config: Config, data: Any) -> DataSource:
    """The data that the configuration names, or those at hand."""
    from geohp.data.factory import open_data, source_of

    if data is None:
        return open_data(config.data, config.train.seed)
    return source_of(data, config.data, config.train.seed)


@contextmanager
def _run_folder(folder: Path, *, resumed: bool) -> Iterator[None]:
    """The folder of a run that is being made: it goes when the run fails before anything is worth keeping."""
    lock = FolderLock(folder / UNFINISHED)
    try:
        if not resumed:  # of a training that was killed before its first checkpoint
            clear_folder(lock.folder)
            for path in {*folder.iterdir()}.difference(_strangers(folder, _OF_RUNS), [lock.folder]):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        yield
    except BaseException as error:
        lock.release()
        if isinstance(error, ChangedError) and not resumed:  # checkpoints are of files that are no more
            shutil.rmtree(folder, ignore_errors=True)
        elif (folder / UNFINISHED / CHECKPOINT_NAME).is_file():
            text = f"{folder}: kept up to its last checkpoint; {{option}} goes on from there"
            error.add_note(Note(text, option="resume", value=str(folder)))
        elif not resumed:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, GeohpError):
            raise OutputError(
                f"{folder}: the run cannot be written ({failure_reason(error)})", "check space and permissions"
            ) from error
        raise
    lock.release()
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _write_artifacts(folder: Path, trained: Trained, classes: Sequence[LandCoverClass], seconds: float) -> Path:
    """Pictures, report, and last of all the model: where it is, everything is."""
    from geohp.model.file import save_model
    from geohp.training.report import write_run_report

    write_run_report(folder, trained, classes, seconds)
    if trained.comparison is not None:
        document = json.dumps({KMEANS_ENTRY: trained.comparison.document()}, indent=2)
        (folder / FIGURES_NAME).write_text(document, encoding="utf-8")
    if trained.best_on_labels is not None:
        save_model(trained.best_on_labels, folder / BEST_NAME)
    _write_config(folder, trained.config)
    return save_model(trained.model, folder / MODEL_NAME)
