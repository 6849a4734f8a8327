"""Trained models on labelled data, by the protocol of the paper, several seeds together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from geohp.config.experiment import Config
from geohp.config.loading import load_config, parse_config, with_overrides
from geohp.data import factory
from geohp.data.base import ImageSet
from geohp.errors import DataError, ModelError
from geohp.evaluation.confusion import count_confusion
from geohp.evaluation.mask_clusters import score_mask_clusters
from geohp.evaluation.predict import MASKS, Predictor
from geohp.evaluation.report import check_report, write_report
from geohp.evaluation.results import BEST, BEST_NAME, LAST, Evaluation, Result
from geohp.methods.factory import METHODS
from geohp.model.device import torch_device
from geohp.model.file import load_model, read_card
from geohp.model.runs import find_model
from geohp.options import keywords
from geohp.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How models are scored on labelled data.

    Attributes:
        data: a configuration whose data section tells what to judge on; the first model's own by default.
        overrides: such as ``data.root=potsdam``.
        crf: refine by the dense CRF as well: the published figures do.
        tta: average over the image and its mirror image; by default as the figures of the model's method are published.
        report: a folder for tables (JSON, CSV), pictures and an HTML page.
        overwrite: replace a report that exists.
        weights: the backbone's weights, where they are no longer where the training found them.
        device: auto, cpu, cuda or mps.
        batch_size: images at a time.
        workers: processes that read images.
        progress: of each model.
    """

    data: Config | str | Path | None = None
    overrides: Sequence[str] = ()
    crf: bool = False
    tta: bool | None = None
    report: str | Path | None = None
    overwrite: bool = False
    weights: str | Path | None = None
    device: str = "auto"
    batch_size: int = 16
    workers: int = 0
    progress: Progress = no_progress


@keywords(EvaluationOptions)
def evaluate(models: str | Path | Sequence[str | Path], options: EvaluationOptions) -> Evaluation:
    """Score trained models on labelled data.

    Of every image the middle square is seen; codes are upsampled to the labels' size, read by the cluster probe
    (clusters matched to classes by the Hungarian algorithm on the counts of the whole set) and, where the model has
    one, by the linear probe. Models of several seeds are summed up by mean and deviation. Interrupted, the same call
    goes on where it was: counts are kept in a hidden file beside the model until it is complete.

    Args:
        models: run folders or model files. A run folder with a ``best_on_labels.safetensors`` gives a second result
            under that name.
        data, overrides, crf, tta, report, overwrite, weights, device, batch_size, workers, progress: see
            :class:`EvaluationOptions`.

    Raises:
        ConfigError, DataError, ModelError, WeightsError, OutputError: one sentence and its remedy.
    """
    return score_models(models, options)


def score_models(models: str | Path | Sequence[str | Path], options: EvaluationOptions) -> Evaluation:
    """:func:`evaluate` with its options as an object."""
    files = [find_model(model) for model in ([models] if isinstance(models, (str, Path)) else models)]
    if not files:
        raise ModelError("no model to evaluate", "give a run folder or a model file")
    if options.report is not None:
        check_report(Path(options.report), overwrite=options.overwrite)
    device = torch_device(options.device)
    config = _data_config(options.data, options.overrides, files[0])
    source = factory.open_data(config.data, config.train.seed)
    with closing(source.evaluation(options.progress)) as images:
        if not len(images):
            raise DataError("no labelled image to evaluate on", "check the lists of the data set")
        settings = {"crf": options.crf, "tta": options.tta, "data": config.data.model_dump(mode="json")}
        jobs = list(_jobs(files, images, settings))
        results: list[Result] = []
        notes: list[str] = []
        first: Predictor | None = None
        for number, job in enumerate(jobs, start=1):
            predictor = _predictor(job.model, images, options)
            first = first or predictor
            counts = count_confusion(
                predictor,
                images,
                len(source.classes),
                device=device,
                batch_size=options.batch_size,
                workers=options.workers,
                counts_file=job.counts_file,
                stage="evaluating" if len(jobs) == 1 else f"evaluating {number}/{len(jobs)}",
                progress=options.progress,
            )
            results += [Result(job.model, job.checkpoint, mode, scores) for mode, scores in counts.scores().items()]
            if images.segmented:
                scores = score_mask_clusters(
                    predictor,
                    images,
                    len(source.classes),
                    device=device,
                    batch_size=options.batch_size,
                    workers=options.workers,
                    progress=options.progress,
                )
                results.append(Result(job.model, job.checkpoint, MASKS, scores))
            notes += _notes(predictor, config.data.evaluation_px, options)
        side_px, unique = config.data.evaluation_px, tuple(dict.fromkeys(notes))
        evaluation = Evaluation(tuple(results), source.classes, source.protocol, len(images), side_px, unique, settings)
        if options.report is not None and first is not None:
            write_report(evaluation, Path(options.report), images, first, device)
    for job in jobs:
        if job.counts_file is not None:
            job.counts_file.unlink(missing_ok=True)
    return evaluation


@dataclass(frozen=True)
class _Job:
    """A model file to score, under which checkpoint its figures go, and the counts of an unfinished evaluation.

    There are no counts (``None``) where the folder cannot be written to.
    """

    model: Path
    checkpoint: str
    counts_file: Path | None


def _jobs(files: Sequence[Path], images: ImageSet, settings: Mapping[str, object]) -> Iterator[_Job]:
    """Every file, and the one that scored best on labels in the same run folder."""
    named = [(file, LAST) for file in files]
    named += [(best, BEST) for file in files if (best := file.with_name(BEST_NAME)).is_file() and best != file]
    names = [images.name(index) for index in range(len(images))]
    identity = hashlib.sha256(json.dumps({**settings, "names": names}, sort_keys=True).encode()).hexdigest()
    for file, checkpoint in named:
        key = hashlib.sha256(identity.encode() + file.read_bytes()).hexdigest()[:16]
        writable = os.access(file.parent, os.W_OK)
        yield _Job(file, checkpoint, file.with_name(f".evaluation-{key}.npz") if writable else None)


def _data_config(data: Config | str | Path | None, overrides: Sequence[str], model: Path) -> Config:
    """The configuration that tells what to judge on."""
    if isinstance(data, Config):
        return data
    if data is not None:
        return load_config(data, overrides)
    document = read_card(model).config
    if not document:
        raise ModelError(
            f"{model}: does not tell what it was trained on",
            "name labelled data with {option}",
            option="data",
            value="potsdam3.yaml",
        )
    return parse_config(with_overrides(document, overrides), str(model))


def _predictor(file: Path, images: ImageSet, options: EvaluationOptions) -> Predictor:
    """Of a model that fits the images."""
    model = load_model(file, weights=options.weights)
    if model.backbone.in_channels != images.channels:
        raise ModelError(
            f"{file}: takes {model.backbone.in_channels} band(s), the data give {images.channels}",
            "name the bands it was trained on with data.bands",
        )
    model.to(torch_device(options.device))
    patch_px, tta = model.backbone.patch_size, options.tta
    if tta is None:
        tta = model.card.method in METHODS and METHODS[model.card.method][0].mirrored
    return Predictor(model.codes, model.probe, model.linear_probe, patch_px=patch_px, crf=options.crf, tta=tta)


def _notes(predictor: Predictor, side_px: int, options: EvaluationOptions) -> Iterator[str]:
    """What a reader of the figures should know of how they came about."""
    if predictor.tta and options.tta is None:
        yield "codes are averaged with those of the mirrored image, as the figures of this method are published"
    input_px = predictor.input_px(side_px)
    if input_px != side_px:
        yield (
            f"images of {side_px} px are resized to {input_px} px, a multiple of the backbone's patch of "
            f"{predictor.patch_px} px"
        )
    if predictor.linear_probe is None:
        yield "the model has no linear probe: it was trained without labels"
