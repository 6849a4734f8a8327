"""Trained models on labelled data, by the protocol of the paper, several seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.config.experiment import Config
from geohp.config.loading import load_config, parse_config, with_overrides
from geohp.data import factory
from geohp.errors import DataError, ModelError
from geohp.evaluation.checks import check_models, check_report
from geohp.evaluation.options import EvaluationOptions
from geohp.model.card import read_card
from geohp.model.device import check_device
from geohp.model.runs import find_model
from geohp.options import keywords

if TYPE_CHECKING:
    from geohp.evaluation.results import Evaluation


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
            :class:`geohp.evaluation.options.EvaluationOptions`.

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
    check_device(options.device)
    check_models(files, options.weights)
    config = _data_config(options.data, options.overrides, files[0])
    source = factory.open_data(config.data, config.train.seed)
    with closing(source.evaluation(options.progress)) as images:
        if not len(images):
            raise DataError("no labelled image to evaluate on", "check the lists of the data set")
        # Not before: whatever is wrong with models and data is found without torch, which takes seconds.
        from geohp.evaluation.judging import judge

        return judge(files, config, source, images, options)


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
