"""What can be asked of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geohp.config.experiment import Config
from geohp.progress import Progress, default_progress


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How models are scored on labelled data.

    Attributes:
        data: a configuration whose data section tells what to judge on; the first model's own by default.
        overrides: such as ``data.root=potsdam``. Features of the images are kept on disk for coming evaluations as
            ``train.cache`` and its kin say: by default where computing them takes more than a minute.
        crf: refine by the dense CRF as well: the published figures do.
        tta: average over the image and its mirror image; by default as the figures of the model's method are published.
        report: a folder for tables (JSON, CSV), pictures and an HTML page.
        overwrite: replace a report that exists.
        weights: the backbone's weights, where they are no longer where the training found them.
        device: auto, cpu, cuda or mps.
        batch_size: images at a time.
        workers: processes that read images.
        progress: of each model; by default bars in a notebook.
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
    progress: Progress = field(default_factory=default_progress)
