"""``geohp probe``: a model that knows the classes of a few polygons or points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geohp.cli import terminal
from geohp.cli.parameters import SCALING, Device, Overwrite, ReferenceField, ReferenceLayer, Seed, Weights, split_bands
from geohp.cli.report import Report


def probe(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] SCENE",
            help="Run folder or model file (none with --backbone), then the scenes that the labels lie on: files, "
            "folders, 'tiles/*.tif'. Without scenes, the images that the model was trained on.",
        ),
    ],
    reference: Annotated[
        str, typer.Option(metavar="FILE", help="What is known: polygons, points, or a raster of classes.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Model to write (.safetensors).")],
    field: ReferenceField = None,
    layer: ReferenceLayer = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Without a model: raw features of aerial3, rcf or a timm vision transformer; NAME+aerial3 for both.",
        ),
    ] = None,
    weights: Weights = None,
    block: Annotated[int | None, typer.Option(help="Block of the backbone, counted from 0; -1 is the last.")] = None,
    bands: Annotated[
        str | None, typer.Option(metavar="LIST", help="By number, name or colour; the model's own by default.")
    ] = None,
    scaling: Annotated[str | None, typer.Option(metavar="RULE", help=SCALING)] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Learn from codes averaged over flips and rotations, and map so: better, 8 times the work."
        ),
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> Report:
    """Teach a model the classes of a few polygons or points, and say how right it will be.

    The model written maps these classes: geohp segment SCENE --model FILE.
    """
    from geohp.inference.probe.run import probe as teach

    model, scenes = (None, sources) if backbone is not None else (sources[0], sources[1:])
    with terminal.progress() as progress:
        result = teach(
            model,
            scenes or None,
            reference,
            field=field,
            layer=layer,
            backbone=backbone,
            weights=weights,
            block=block,
            bands=split_bands(bands),
            scaling=scaling,
            out=out,
            overwrite=overwrite,
            tta=tta,
            device=device,
            seed=seed,
            progress=progress,
        )
    classes = result.segmenter.classes
    text = f"{result.report(terminal.width())}\nwrote {out}: {', '.join(entry.name for entry in classes)}"
    return Report(text, [out], classes, details=result.document())
