"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geohp.cli import maps as map_commands
from geohp.cli import segment as segment_command
from geohp.cli import terminal
from geohp.errors import GeohpError
from geohp.version import __version__


class _Commands(TyperGroup):
    """The commands; an interrupt is told before typer, which would pass over it in silence, leaves with code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            terminal.say_interrupted(interrupt)
            raise typer.Exit(130) from interrupt


app = typer.Typer(
    cls=_Commands,
    name="geohp",
    help="Land-cover maps from orthophotos, without a single label.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geohp {__version__}")
        raise typer.Exit


@app.callback()
def _geohp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Land-cover maps from orthophotos, without a single label."""


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file, or a packaged one by its name (orthophotos.yaml).")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.epochs=3.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME-DATE-TIME by default.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Instead: go on with a run that was interrupted.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="classes=A..B", help="Compare numbers of classes, and take the one that fits best."),
    ] = None,
) -> None:
    """Train a model on unlabelled imagery and leave a run folder.

    Interrupted, it goes on with --resume.
    """
    from geohp.training.run import train as run_training

    with terminal.progress() as progress:
        run = run_training(
            config,
            set_ or [],
            out=out,
            resume=resume,
            sweep=sweep,
            progress=terminal.Stages(progress),
        )
    typer.echo(f"trained in {terminal.duration(run.seconds)}: {run.folder} (model, report, metrics, pictures)")


@app.command()
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
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. data.root=potsdam.")
    ] = None,
    crf: Annotated[
        bool, typer.Option("--crf", help="Refine by the dense CRF as well; the published figures do.")
    ] = False,
    tta: Annotated[bool, typer.Option("--tta", help="Average over the image and its mirror image.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write tables (JSON, CSV), pictures and an HTML page.")
    ] = None,
    overwrite: Overwrite = False,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="File with the backbone's weights.")] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
) -> None:
    """Score models on labelled data by the protocol of the paper, beside the published figures."""
    from geohp.evaluation.evaluate import evaluate as run_evaluation
    from geohp.model.runs import newest_run
    from geohp.options import EvaluationOptions

    models: list[Path] = model or [run for run in [newest_run()] if run is not None]
    options = EvaluationOptions(
        crf=crf,
        tta=tta,
        report=report,
        overwrite=overwrite,
        weights=weights,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    with terminal.progress() as progress:
        evaluation = run_evaluation(models, data, set_ or [], options, progress=terminal.Stages(progress))
    typer.echo(evaluation.report(terminal.width()), nl=False)
    if report is not None:
        typer.echo(f"wrote {report / 'index.html'}")


@app.command()
def prepare(
    config: Annotated[str, typer.Argument(help="A configuration whose data are a benchmark (cocostuff27.yaml).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the prepared images go.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. data.root=coco.")
    ] = None,
    jpeg_quality: Annotated[
        int | None,
        typer.Option(min=1, max=95, help="Write crops as JPEG of this quality, as published (75); PNG by default."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that cut.")] = None,
) -> None:
    """Cut a benchmark's training images once, instead of in every training. Interrupted, it goes on where it was."""
    from geohp.data.prepare import prepare as run_preparation

    with terminal.progress() as progress:
        made = run_preparation(
            config, out, set_ or [], terminal.Stages(progress), jpeg_quality=jpeg_quality, workers=workers
        )
    typer.echo(made.report())


app.command()(segment_command.segment)


for command in (map_commands.polygonize, map_commands.legend, map_commands.recode):
    app.command()(command)


@app.command("import-checkpoint")
def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint of HP or STEGO, or the weights of DINO or DINOv2.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write (.safetensors).")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name its transformer as timm does, where its shape is unknown.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(help="What predicts: cluster (default), or linear, which has learned from labels.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Names of the classes in their order, separated by commas.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="Pixel size of the imagery it was trained on, in metres.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a geohp model of a checkpoint that another project released."""
    from geohp.model.importing.convert import import_checkpoint as run_import

    imported = run_import(
        checkpoint,
        out,
        backbone=backbone,
        probe=probe,
        classes=classes.split(",") if classes is not None else None,
        pixel_size_m=pixel_size,
        overwrite=overwrite,
    )
    typer.echo(imported.report())


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything it makes; must not exist.")],
    seed: Seed = 0,
) -> None:
    """Draw a small orthophoto, train on it, map it, score the map, and show it all in a picture."""
    from geohp.demo.quickstart import run_quickstart

    with terminal.progress() as progress:
        result = run_quickstart(out, seed=seed, progress=terminal.Stages(progress))
    typer.echo(result.report())


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, an interrupt exit code 130."""
    logging.basicConfig(format="geohp: %(message)s", level=logging.WARNING)
    logging.getLogger("geohp").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        # A cluster warns that it closes when it is told to.
        handler.addFilter(lambda record: record.levelno >= logging.ERROR or not record.name.startswith("distributed"))
    # Threads that spin while they wait stall one another wherever cores are shared with other work: up to twenty
    # times slower. Has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except GeohpError as error:
        terminal.say_error(error)
        sys.exit(2)
