"""What models come from: ``geohp train``, ``prepare``, ``import-checkpoint`` and ``quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geohp.cli import terminal
from geohp.cli.parameters import Aoi, AoiLayer, Overrides, Overwrite, Seed
from geohp.cli.report import Report

_NAMED = 20
"""Classes that are named of many."""


def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file, or a packaged one by its name (orthophotos.yaml).")
    ] = None,
    set_: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Run folder; runs/NAME-DATE-TIME by default."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Instead: go on with a run that was interrupted.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="classes=A..B", help="Compare numbers of classes, and take the one that fits best."),
    ] = None,
    aoi: Aoi = None,
    aoi_layer: AoiLayer = None,
) -> Report:
    """Train a model on unlabelled imagery and leave a run folder.

    orthophotos.yaml finds classes by k-means, orthophotos-hp.yaml trains HP: interrupted, that goes on with --resume.
    """
    from geohp.model.card import read_card
    from geohp.training.run import train as run_training

    with terminal.progress() as progress:
        run = run_training(
            config,
            set_ or [],
            out=out,
            resume=resume,
            sweep=sweep,
            aoi=aoi,
            aoi_layer=aoi_layer,
            progress=progress,
        )
    card = read_card(run.model)
    names = [entry.name for entry in card.classes]
    shown = ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])
    text = f"trained in {terminal.duration(run.seconds)}: {run.folder}, with report.html to look at"
    text = "\n".join(filter(None, [text, f"{len(names)} classes: {shown}", card.unmerged]))
    comparison = None if run.comparison is None else run.comparison.document()
    details = {"warnings": list(run.warnings), "kmeans": comparison}
    return Report(text, [run.folder, run.model], card.classes, details=details)


def prepare(
    config: Annotated[str, typer.Argument(help="A configuration whose data are a benchmark (cocostuff27.yaml).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the prepared images go.")],
    set_: Overrides = None,
    jpeg_quality: Annotated[
        int | None,
        typer.Option(min=1, max=95, help="Write crops as JPEG of this quality, as published (75); PNG by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that cut crops; one a processor by default, eight at most.")
    ] = None,
) -> Report:
    """Cut a benchmark's training images once, instead of in every training. Interrupted, it goes on where it was."""
    from geohp.data.prepare import prepare as run_preparation

    with terminal.progress() as progress:
        prepared = run_preparation(config, out, set_ or [], progress, jpeg_quality=jpeg_quality, workers=workers)
    text = f"{prepared.report()}\nTrain on them with --set {prepared.setting}"
    return Report(text, [prepared.folder], details={"written": prepared.written, "existing": prepared.existing})


def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint of HP or STEGO, or the weights of DINO or DINOv2.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Model to write (.safetensors).")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name its transformer as timm does, where its shape is unknown.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(help="What predicts: cluster (default), or linear, which has learned from labels.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--class-names", "--classes", metavar="NAMES", help="Names of the classes in order, separated by commas."
        ),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="METRES", help="Pixel size of the imagery it was trained on.")
    ] = None,
    overwrite: Overwrite = False,
) -> Report:
    """Make a geohp model of a checkpoint that another project released."""
    from geohp.model.importing.checks import check_import

    check_import(checkpoint, out, overwrite=overwrite)
    from geohp.model.importing.convert import import_checkpoint as run_import  # with torch, which takes seconds

    imported = run_import(
        checkpoint,
        out,
        backbone=backbone,
        probe=probe,
        classes=classes.split(",") if classes is not None else None,
        pixel_size_m=pixel_size,
        overwrite=overwrite,
    )
    details = {"kind": imported.kind, "backbone": imported.backbone, "clusters": imported.clusters}
    return Report(imported.report(), [imported.path], details=details)


def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything it makes; must not exist.")],
    seed: Seed = 0,
) -> Report:
    """Draw a small orthophoto, train on it, map it, score the map, and show it all in a picture."""
    from geohp.demo.quickstart import run_quickstart

    with terminal.progress() as progress:
        result = run_quickstart(out, seed=seed, progress=progress)
    return Report(result.report(), [out])
