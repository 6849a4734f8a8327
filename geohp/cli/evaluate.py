"""``geohp evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geohp.cli import terminal
from geohp.cli.parameters import Device, Overrides, Overwrite, Weights
from geohp.cli.report import Report


def evaluate(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            metavar="PATH",
            help="Run folder or model file, repeated for several seeds; the newest run by default.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG", help="Configuration whose data are judged on (potsdam3.yaml); the model's own by default."
        ),
    ] = None,
    set_: Overrides = None,
    crf: Annotated[
        bool, typer.Option("--crf", help="Refine by the dense CRF as well; the published figures do.")
    ] = False,
    tta: Annotated[
        bool | None,
        typer.Option(
            "--tta/--no-tta", help="Average over the image and its mirror image; by default for STEGO, as published."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write tables (JSON, CSV), pictures and an HTML page.")
    ] = None,
    overwrite: Overwrite = False,
    weights: Weights = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
) -> Report:
    """Score models on labelled data by the protocol of the paper, beside the published figures."""
    from geohp.evaluation.evaluate import score_models
    from geohp.evaluation.options import EvaluationOptions
    from geohp.model.runs import newest_run

    models: list[Path] = model or [run for run in [newest_run()] if run is not None]
    with terminal.progress() as progress:
        options = EvaluationOptions(
            data=data,
            overrides=set_ or (),
            crf=crf,
            tta=tta,
            report=report,
            overwrite=overwrite,
            weights=weights,
            device=device,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
        evaluation = score_models(models, options)
    text = evaluation.report(terminal.width()).rstrip("\n")
    if report is None:
        return Report(text, classes=evaluation.classes, details=evaluation.as_dict())
    page = report / "index.html"
    return Report(f"{text}\nwrote {page}", [report, page], evaluation.classes, details=evaluation.as_dict())
