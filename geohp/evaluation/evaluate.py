"""``geohp evaluate``: trained models on labelled data, by the protocol of the paper, several seeds together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.config.experiment import Config
from geohp.config.loading import load_config, parse_config, with_overrides
from geohp.errors import DataError, ModelError
from geohp.evaluation.confusion import ConfusionCounts, count_confusion
from geohp.evaluation.metrics import SegmentationScores
from geohp.evaluation.predict import BEST, LAST, PredictionMode, Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from geohp.classes import LandCoverClass
    from geohp.data.base import EvaluationProtocol, ImageSet
    from geohp.model.network import LandCoverModel

Progress = Callable[..., None]
BEST_NAME = "best_on_labels.safetensors"
"""The file in a run folder with the model of the epoch that scored best on the labels."""


@dataclass(frozen=True)
class Result:
    """How one model does, read one way.

    Attributes:
        model: the model's file.
        checkpoint: ``"last checkpoint"``, which is the result, or ``"best on labels"``, whose choice looked at the
            labels it is scored on.
        mode: how its classes were read.
        scores: accuracy, mean IoU, IoU by class, assignment, confusion.
    """

    model: Path
    checkpoint: str
    mode: PredictionMode
    scores: SegmentationScores


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        results: one for each model, checkpoint and mode.
        classes: of the labels.
        protocol: how the data are evaluated, and what differs from what was published.
        images: how many were judged.
        side_px: their side.
        notes: what a reader of the figures should know.
        settings: crf, tta and what else was asked for.
    """

    results: tuple[Result, ...]
    classes: tuple[LandCoverClass, ...]
    protocol: EvaluationProtocol
    images: int
    side_px: int
    notes: tuple[str, ...]
    settings: dict[str, Any]

    def of(self, checkpoint: str, mode: PredictionMode) -> list[Result]:
        """The results of every model for one checkpoint and mode: one for each seed."""
        return [r for r in self.results if r.checkpoint == checkpoint and r.mode == mode]

    @property
    def rows(self) -> list[tuple[str, PredictionMode]]:
        """Checkpoints and modes there are, the last checkpoint first."""
        return list(dict.fromkeys((r.checkpoint, r.mode) for r in self.results))

    @property
    def class_shares(self) -> npt.NDArray[np.float64]:
        """Share of each class in the labelled pixels."""
        scores = self.results[0].scores
        pixels = scores["counts"].sum(0) + scores["unlabelled"]
        shares: npt.NDArray[np.float64] = pixels / max(1, pixels.sum())
        return shares

    @property
    def labelled_px(self) -> int:
        """How many labelled pixels there are."""
        scores = self.results[0].scores
        return int(scores["counts"].sum() + scores["unlabelled"].sum())

    def report(self, width: int = 100) -> str:
        """All figures as tables of text, beside those published for the same benchmark."""
        from geohp.evaluation.tables import written

        return written(self, width)

    def as_dict(self) -> dict[str, Any]:
        """All figures in plain lists and numbers, for JSON."""
        from geohp.evaluation.tables import as_dict

        return as_dict(self)


def evaluate(
    models: str | Path | Sequence[str | Path],
    data: Config | str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    crf: bool = False,
    tta: bool = False,
    report: str | Path | None = None,
    overwrite: bool = False,
    weights: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 16,
    workers: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Score trained models on labelled data.

    Every image is seen whole; codes are upsampled to the labels' size, read by the cluster probe (clusters matched to
    classes by the Hungarian algorithm on the counts of the whole set) and, where the model has one, by the linear
    probe. Models of several seeds are summed up by mean and deviation. Interrupted, the same call goes on where it
    was: counts are kept in a hidden file beside the model until it is complete.

    Args:
        models: run folders or model files. A run folder with a ``best_on_labels.safetensors`` gives a second result
            under that name.
        data: a configuration whose data section tells what to judge on; the first model's own by default.
        overrides: such as ``data.root=potsdam``.
        crf: refine by the dense CRF as well: the published figures do.
        tta: average over the image and its mirror image.
        report: a folder for tables (JSON, CSV), pictures and an HTML page.
        overwrite: replace a report that exists.
        weights: the backbone's weights, where they are no longer where the training found them.
        device: auto, cpu, cuda or mps.
        batch_size: images at a time.
        workers: processes that read images.
        progress: told of the stages.

    Raises:
        ConfigError, DataError, ModelError, WeightsError, OutputError: one sentence and its remedy.
    """
    from geohp.data.factory import open_data
    from geohp.evaluation.report import check_report, write_report
    from geohp.model.device import torch_device
    from geohp.model.runs import find_model

    files = [find_model(model) for model in ([models] if isinstance(models, (str, Path)) else models)]
    if not files:
        raise ModelError("no model to evaluate; give a run folder or a model file")
    tell, chosen = progress or (lambda *_: None), torch_device(device)
    if report is not None:
        check_report(Path(report), overwrite=overwrite)
    config = _data_config(data, overrides, files[0])
    source = open_data(config.data, config.train.seed)
    with closing(source.evaluation(lambda done, total: tell("surveying images", done, total))) as images:
        if not len(images):
            raise DataError("no labelled image to evaluate on; check the lists of the data set")
        jobs = _jobs(files, config, images, crf=crf, tta=tta)
        results: list[Result] = []
        notes: dict[str, None] = {}
        shown: Predictor | None = None
        for number, job in enumerate(jobs, start=1):
            stage = "evaluating" if len(jobs) == 1 else f"evaluating {number}/{len(jobs)}"
            predictor = _predictor(load_checked(job.file, images, weights).to(chosen), crf=crf, tta=tta)
            shown = shown or predictor
            notes.update(dict.fromkeys(_remarks(predictor, config.data.evaluation_px)))
            counted = count_confusion(
                predictor,
                images,
                ConfusionCounts(len(source.classes), len(predictor.probe.clusters), predictor.modes),
                device=chosen,
                batch_size=batch_size,
                workers=workers,
                keep=job.keep,
                progress=lambda done, total, stage=stage: tell(stage, done, total),  # type: ignore[misc]
            )
            results += [Result(job.file, job.checkpoint, r, counted.scores(r)) for r in predictor.modes]
        made = Evaluation(
            tuple(results),
            source.classes,
            source.protocol,
            len(images),
            config.data.evaluation_px,
            tuple(notes),
            {"crf": crf, "tta": tta, "data": config.data.model_dump(mode="json")},
        )
        if report is not None and shown is not None:
            write_report(made, Path(report), images, shown, chosen)
    for job in jobs:
        if job.keep is not None:
            job.keep.unlink(missing_ok=True)
    return made


def load_checked(file: Path, images: ImageSet, weights: str | Path | None) -> LandCoverModel:
    """A model that fits the images.

    Raises:
        ModelError: it takes another number of bands.
    """
    from geohp.model.file import load_model

    model = load_model(file, weights=weights)
    if model.backbone.in_channels != images.channels:
        raise ModelError(
            f"{file}: takes {model.backbone.in_channels} band(s), the data give {images.channels}; "
            "name the bands it was trained on with --set data.bands=[...]"
        )
    return model


@dataclass(frozen=True)
class _Job:
    """One model file to score.

    Attributes:
        file: the model.
        checkpoint: under which name its figures go.
        keep: file for the counts of an unfinished evaluation; ``None`` where the folder cannot be written to.
    """

    file: Path
    checkpoint: str
    keep: Path | None


def _jobs(files: Sequence[Path], config: Config, images: ImageSet, **settings: bool) -> list[_Job]:
    """Every file, and the one that scored best on labels in the same run folder."""
    named = [(file, LAST) for file in files]
    named += [(best, BEST) for file in files if (best := file.with_name(BEST_NAME)).is_file() and best != file]
    names = [images.name(index) for index in range(len(images))]
    told = {"data": config.data.model_dump(mode="json"), "names": names, **settings}
    same = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    jobs = []
    for file, checkpoint in named:
        key = hashlib.sha256(same.encode() + file.read_bytes()).hexdigest()[:16]
        writable = os.access(file.parent, os.W_OK)
        jobs.append(_Job(file, checkpoint, file.with_name(f".evaluation-{key}.npz") if writable else None))
    return jobs


def _data_config(data: Config | str | Path | None, overrides: Sequence[str], model: Path) -> Config:
    """The configuration that tells what to judge on."""
    from geohp.model.file import read_card

    if isinstance(data, Config):
        return data
    if data is not None:
        return load_config(data, overrides)
    document = read_card(model).config
    if not document:
        raise ModelError(f"{model}: does not tell what it was trained on; name labelled data with --data potsdam3.yaml")
    return parse_config(with_overrides(document, overrides), str(model))


def _predictor(model: LandCoverModel, *, crf: bool, tta: bool) -> Predictor:
    return Predictor(model.codes, model.probe, model.linear_probe, patch_px=model.backbone.patch_size, crf=crf, tta=tta)


def _remarks(predictor: Predictor, side: int) -> list[str]:
    """What a reader of the figures should know of how they came about."""
    remarks = []
    if predictor.input_px(side) != side:
        remarks.append(
            f"images of {side} px are resized to {predictor.input_px(side)} px, a multiple of the backbone's patch of "
            f"{predictor.patch_px} px"
        )
    if predictor.linear_probe is None:
        remarks.append("the model has no linear probe: it was trained without labels")
    return remarks
