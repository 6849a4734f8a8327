"""Models on the images of a data set, one after the other, and what comes of them all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from geohp.classes import NODATA_LABEL, LandCoverClass, one_spelling
from geohp.config.experiment import Config, TrainConfig
from geohp.config.loading import public_config
from geohp.data.base import DataSource, ImageSet
from geohp.errors import ChangedError, ModelError
from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.confusion import count_confusion
from geohp.evaluation.mask_clusters import score_mask_clusters
from geohp.evaluation.options import EvaluationOptions
from geohp.evaluation.predict import MASKS, Predictor, whole_patches_px
from geohp.evaluation.report import write_report
from geohp.evaluation.results import BEST, LAST, Evaluation, Result
from geohp.evaluation.stored_features import StoredCodes, store_features
from geohp.features.filling import CacheOptions
from geohp.methods.factory import METHODS
from geohp.model.card import ModelCard
from geohp.model.device import torch_device
from geohp.model.file import load_model
from geohp.model.network import LandCoverModel
from geohp.model.runs import BEST_NAME
from geohp.raster.read.unchanged import UnchangedFiles


def judge(
    files: Sequence[Path], config: Config, source: DataSource, images: ImageSet, options: EvaluationOptions
) -> Evaluation:
    """Score model files on labelled images, and write the report that is asked for.

    Args:
        files: the models.
        config: tells how the images are seen.
        source: whose classes and protocol count.
        images: the labelled images, not none.
        options: see :func:`geohp.evaluate`.

    Raises:
        ChangedError: images or labels have changed meanwhile.
    """
    unchanged = UnchangedFiles.joined("a file of the labelled data", [images.unchanged()])
    device = torch_device(options.device)
    settings = {"crf": options.crf, "tta": options.tta, "data": public_config(config)["data"]}
    jobs = list(_jobs(files, images, {**settings, "files": unchanged.states}))
    results: list[Result] = []
    notes: list[str] = []
    predictors: list[Predictor] = []
    try:
        with unchanged.explaining():
            for number, job in enumerate(jobs, start=1):
                stage = "evaluating" if len(jobs) == 1 else f"evaluating {number}/{len(jobs)}"
                predictor, scored, told = _score(job, config, source, images, options, unchanged, stage)
                unchanged.check()
                predictors = predictors or [predictor]
                results += scored
                notes += [*_notes(predictor, config.data.evaluation_px, options), *told]
    except ChangedError:
        _forget_counts(jobs)
        raise
    side_px, unique = config.data.evaluation_px, tuple(dict.fromkeys(notes))
    evaluation = Evaluation(tuple(results), source.classes, source.protocol, len(images), side_px, unique, settings)
    if options.report is not None:
        write_report(evaluation, Path(options.report), images, predictors[0], device)
    _forget_counts(jobs)
    return evaluation


@dataclass(frozen=True)
class _Job:
    """A model file to score, under which checkpoint its figures go, and the counts of an unfinished evaluation.

    There are no counts (``None``) where the folder cannot be written to.
    """

    model: Path
    checkpoint: str
    counts_file: Path | None


def _score(
    job: _Job,
    config: Config,
    source: DataSource,
    images: ImageSet,
    options: EvaluationOptions,
    unchanged: UnchangedFiles,
    stage: str,
) -> tuple[Predictor, list[Result], list[str]]:
    """What reads a model's labels, how it does in each way of reading, and what is to be said of its classes."""
    model = _model(job.model, images, options)
    predictor = _predictor(model, options)
    told: list[str] = []
    if model.card.probe == "linear":
        predictor.linear_classes, told = match_by_name(model.card, source.classes)
    stored = _stored_codes(model, predictor, images, unchanged, config.train, options)
    coded = CodedImages(
        images=images,
        predictor=predictor,
        stored=stored,
        batch_size=options.batch_size,
        workers=options.workers,
    )
    count, progress = len(source.classes), options.progress
    counts = count_confusion(coded, count, counts_file=job.counts_file, stage=stage, progress=progress)
    results = [Result(job.model, job.checkpoint, mode, scores) for mode, scores in counts.scores().items()]
    if images.segmented:
        results.append(Result(job.model, job.checkpoint, MASKS, score_mask_clusters(coded, count, progress)))
    return predictor, results, told


def match_by_name(card: ModelCard, labels: Sequence[LandCoverClass]) -> tuple[Tensor | None, list[str]]:
    """Which of the labels' classes each class of a linear probe is that predicts: the one of the same name.

    Returns:
        (K,) int64, 255 for those that no label is called; ``None`` where all are so, and numbers have to tell. And what
        readers of the figures should know.
    """
    names = {entry.id: one_spelling(entry.name) for entry in card.classes}
    numbers = {one_spelling(entry.name).casefold(): place for place, entry in enumerate(labels)}
    found = [numbers.get(names[number].casefold(), NODATA_LABEL) for number in card.cluster_to_class or names]
    strangers = [name for name in names.values() if name.casefold() not in numbers]
    if len(strangers) == len(names):
        return None, ["the linear probe's classes are called otherwise than the labels', and compared by their numbers"]
    told = f"the linear probe also finds {', '.join(strangers)}, which no label is called, and counts as wrong there"
    return torch.tensor(found), [told] if strangers else []


def _forget_counts(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.counts_file is not None:
            job.counts_file.unlink(missing_ok=True)


def _jobs(files: Sequence[Path], images: ImageSet, settings: Mapping[str, object]) -> Iterator[_Job]:
    """Every file, and the one that scored best on labels in the same run folder; counts are of the same settings."""
    named = [(file, LAST) for file in files]
    named += [(best, BEST) for file in files if (best := file.with_name(BEST_NAME)).is_file() and best != file]
    names = [images.name(index) for index in range(len(images))]
    identity = hashlib.sha256(json.dumps({**settings, "names": names}, sort_keys=True).encode()).hexdigest()
    for file, checkpoint in named:
        key = hashlib.sha256(identity.encode() + file.read_bytes()).hexdigest()[:16]
        writable = os.access(file.parent, os.W_OK)
        yield _Job(file, checkpoint, file.with_name(f".evaluation-{key}.npz") if writable else None)


def _model(file: Path, images: ImageSet, options: EvaluationOptions) -> LandCoverModel:
    """A model that fits the images, on its device."""
    model = load_model(file, weights=options.weights)
    if model.backbone.in_channels != images.channels:
        raise ModelError(
            f"{file}: takes {model.backbone.in_channels} band(s), the data give {images.channels}",
            "name the bands it was trained on with data.bands",
        )
    return model.to(torch_device(options.device))


def _predictor(model: LandCoverModel, options: EvaluationOptions) -> Predictor:
    tta = options.tta
    if tta is None:
        tta = model.card.method in METHODS and METHODS[model.card.method][0].mirrored
    return Predictor.of_model(model, crf=options.crf, tta=tta)


def _stored_codes(
    model: LandCoverModel,
    predictor: Predictor,
    images: ImageSet,
    unchanged: UnchangedFiles,
    settings: TrainConfig,
    options: EvaluationOptions,
) -> StoredCodes | None:
    """The images' codes by features that are kept on disk, where training would keep its own."""
    # Judged in full precision, whatever it was trained in.
    dtype = "float32" if settings.cache_dtype == "auto" else settings.cache_dtype
    cache = CacheOptions(settings.cache, 0, settings.cache_dir, dtype, one_pass=True)
    features = store_features(
        images,
        model.backbone,
        cache,
        mirrored=predictor.tta,
        batch_size=options.batch_size,
        workers=options.workers,
        unchanged=unchanged,
        progress=options.progress,
    )
    return None if features is None else StoredCodes(features, model.head)


def _notes(predictor: Predictor, side_px: int, options: EvaluationOptions) -> Iterator[str]:
    """What a reader of the figures should know of how they came about."""
    if predictor.tta and options.tta is None:
        yield "codes are averaged with those of the mirrored image, as the figures of this method are published"
    input_px = whole_patches_px(side_px, predictor.patch_px)
    if input_px != side_px:
        yield (
            f"images of {side_px} px are resized to {input_px} px, a multiple of the backbone's patch of "
            f"{predictor.patch_px} px"
        )
    if predictor.linear_probe is None:
        yield "the model has no linear probe: it was trained without labels"
