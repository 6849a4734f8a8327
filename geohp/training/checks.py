"""What can be known to be wrong with an experiment before anything is computed, or torch imported."""

from __future__ import annotations

import os
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.backbones.names import check_backbone
from geohp.errors import ConfigError, ModelError
from geohp.model.device import check_device

if TYPE_CHECKING:
    from geohp.config.experiment import Config, TrainConfig


def check_experiment(config: Config) -> None:
    """Refuse settings that this machine cannot serve, and a backbone that there is not.

    Raises:
        ConfigError: a backbone that nobody knows, or settings of training that cannot be served.
        WeightsError: a file of weights that is missing or none.
        ModelError: a device that is not there.
    """
    settings = config.train
    check_backbone(config.backbone.name, config.backbone.weights)
    check_device(settings.device)
    if settings.devices > 1 and (hasattr(sys, "ps1") or sys.flags.interactive):  # which Lightning refuses
        problem = f"train.devices = {settings.devices}: a notebook or an interactive Python cannot begin processes"
        raise ConfigError(problem, "train on one device, or with geohp train")
    if settings.device == "cpu":
        check_cpu(settings)
    for name in settings.loggers:
        if find_spec(name) is None:
            raise no_logger(name)


def check_cpu(settings: TrainConfig) -> None:
    """Refuse what a CPU cannot serve: half precision, and more processes than processors (two can be tried anywhere).

    Raises:
        ConfigError: one of these.
    """
    processors = os.cpu_count() or 1
    if settings.devices > max(2, processors):
        problem = f"train.devices = {settings.devices}: this machine has {processors} processor(s)"
        raise ConfigError(problem, "ask for fewer")
    if settings.precision == "fp16":
        raise ConfigError("train.precision = fp16: a CPU has no use for it", "take 32")


def check_checkpoint(path: Path) -> None:
    """Refuse to go on from a checkpoint that is cut off.

    Raises:
        ModelError: it is no whole file of torch's.
    """
    if path.is_file() and not zipfile.is_zipfile(path):
        raise damaged_checkpoint(path, "it is cut off")


def damaged_checkpoint(path: Path, reason: str) -> ModelError:
    """A checkpoint that nothing can go on from."""
    return ModelError(
        f"{path}: the checkpoint is damaged ({reason})",
        "remove it, and {option} trains the run from its beginning",
        option="resume",
    )


def no_logger(name: str) -> ConfigError:
    """A service to log to is asked for whose package is not there."""
    return ConfigError(f"train.loggers: {name} is not installed", f"pip install {name}, or leave it out")
