"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geohp.errors import GeohpError
from geohp.version import __version__

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(
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
    config: Annotated[str, typer.Argument(help="A YAML file, or a packaged one by its name (orthophotos.yaml).")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.epochs=3.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME-DATE-TIME by default.")] = None,
) -> None:
    """Train a model on unlabelled imagery and leave a run folder."""
    from geohp.experiment import train as run_training

    with _progress() as progress:
        run = run_training(config, set_ or [], out=out, progress=_Stages(progress))
    typer.echo(f"trained in {_duration(run.seconds)}: {run.folder} (model, metrics, pictures)")


@app.command()
def segment(
    scene: Annotated[str, typer.Argument(help="Any raster GDAL opens: a file, a VRT, a URL.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Label raster to write (cloud-optimised GeoTIFF).")],
    model: Annotated[
        Path | None, typer.Option(help="Run folder or model file; the newest run in runs/ by default.")
    ] = None,
    polygons: Annotated[Path | None, typer.Option(help="Also write land-cover polygons (GeoPackage).")] = None,
    confidence: Annotated[Path | None, typer.Option(help="Also write a confidence raster.")] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, max=254, help="Find this many classes on the scene itself, without a model.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Features to find them on: rcf (default) or a timm vision transformer.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="File with the backbone's weights.")] = None,
    block: Annotated[int | None, typer.Option(help="Block of the backbone, counted from 0; -1 is the last.")] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands by number, name or colour, e.g. 4,1,2; red,green,blue by default.")
    ] = None,
    scaling: Annotated[str | None, typer.Option(help="auto, type, percentiles, percentiles:2,98 or LOW,HIGH.")] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.99, help="Share of a window that neighbours share.")] = 0.25,
    window: Annotated[int | None, typer.Option(min=1, help="Side of a window in pixels of the scene.")] = None,
    min_area: Annotated[float, typer.Option(min=0, help="Smallest polygon, in square metres.")] = 0,
    simplify: Annotated[float, typer.Option(min=0, help="Simplify outlines by this many metres.")] = 0,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Turn a scene into a georeferenced land-cover map."""
    from geohp.inference.segment import choose_segmenter, segment_file
    from geohp.outputs import check_output
    from geohp.vector import check_target

    for path in (out, confidence):
        if path is not None:
            check_output(path, overwrite=overwrite, inputs=[scene])
    if polygons is not None:
        check_target(polygons, overwrite=overwrite)
    segmenter = choose_segmenter(
        scene,
        model,
        classes=classes,
        backbone=backbone,
        weights=weights,
        block=block,
        bands=_bands(bands),
        scaling=scaling,
        device=device,
        seed=seed,
    )
    _say(f"using {segmenter.origin}")
    with _progress() as progress:
        stages = _Stages(progress)
        segment_file(
            scene,
            out,
            segmenter,
            confidence=confidence,
            overlap=overlap,
            window_px=window,
            overwrite=overwrite,
            progress=lambda done, total: stages("segmenting", done, total),
        )
    written = [str(out)] + ([str(confidence)] if confidence else [])
    if polygons is not None:
        written.append(_polygons(out, polygons, min_area, simplify, overwrite))
    typer.echo(f"{len(segmenter.classes)} classes: wrote {', '.join(written)}")


@app.command()
def polygonize(
    labels: Annotated[Path, typer.Argument(help="Label raster, such as geohp segment writes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="GeoPackage to write.")],
    min_area: Annotated[
        float, typer.Option(min=0, help="Smallest polygon in square metres; smaller ones join a neighbour.")
    ] = 0,
    simplify: Annotated[
        float, typer.Option(min=0, help="Simplify outlines by this many metres; shared borders stay shared.")
    ] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Turn a label raster into land-cover polygons with class, area and perimeter."""
    typer.echo(f"wrote {_polygons(labels, out, min_area, simplify, overwrite)}")


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
    from geohp.checkpoints import import_checkpoint as run_import

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
    from geohp.quickstart import run_quickstart

    with _progress() as progress:
        result = run_quickstart(out, seed=seed, progress=_Stages(progress))
    typer.echo(result.report())


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    logging.basicConfig(format="geohp: %(message)s", level=logging.WARNING)
    # Threads that spin while they wait stall one another wherever cores are shared with other work: up to twenty
    # times slower. Has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except GeohpError as error:
        typer.echo(f"geohp: error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("geohp: interrupted; nothing unfinished was left behind", err=True)
        sys.exit(130)


class _Stages:
    """Shows named stages of work, one bar each, as they report."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, detail="")
        self._progress.update(self._tasks[stage], completed=done, total=total, detail=detail)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:>20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
        disable=not _interactive(),
    )


def _interactive() -> bool:
    return sys.stderr.isatty()


def _say(text: str) -> None:
    typer.echo(f"geohp: {text}", err=True)


def _polygons(labels: Path, out: Path, min_area: float, simplify: float, overwrite: bool) -> str:
    from geohp.vector import polygonize as make_polygons
    from geohp.vector import write_polygons

    polygons = make_polygons(labels, min_area_m2=min_area, simplify_m=simplify)
    write_polygons(polygons, out, overwrite=overwrite)
    return f"{out} ({len(polygons):,} polygons)"


def _bands(text: str | None) -> list[int | str] | None:
    if text is None:
        return None
    return [int(part) if part.strip().isdigit() else part.strip() for part in text.split(",")]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
