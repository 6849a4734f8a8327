"""Parameters that several commands take, each declared once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer


def panel(title: str) -> Callable[..., Any]:
    """``typer.Option`` for what the help shows in a panel of this title."""
    return partial(typer.Option, rich_help_panel=title)


_polygons = panel("Polygons")
output_panel = panel("Outputs")

SCALING = (
    "auto, type, percentiles:2,98, percentiles-per-band:2,98 or LOW,HIGH; auto by default, or as the model has it."
)
_OVERWRITE = "Replace outputs that exist."
_DEVICE = "auto, cpu, cuda or mps."
_SEED = "Seed of everything random."
_WEIGHTS = "File with the backbone's weights."

Overwrite = Annotated[bool, typer.Option("--overwrite", help=_OVERWRITE)]
OverwriteOutputs = Annotated[bool, output_panel("--overwrite", help=_OVERWRITE)]
Device = Annotated[str, typer.Option(help=_DEVICE)]
Seed = Annotated[int, typer.Option(min=0, help=_SEED)]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help=_WEIGHTS)]
ReferenceField = Annotated[str | None, typer.Option(metavar="NAME", help="Attribute that holds the class.")]
ReferenceLayer = Annotated[
    str | None, typer.Option(metavar="NAME", help="Layer of the reference, where it has several.")
]
MinArea = Annotated[
    float, _polygons(min=0, metavar="M2", help="Smallest polygon in square metres; smaller ones join a neighbour.")
]
Simplify = Annotated[
    float, _polygons(min=0, metavar="METRES", help="Simplify outlines by so much; shared borders stay shared.")
]
Smooth = Annotated[
    int, _polygons(min=0, max=5, metavar="ROUNDS", help="Then cut their corners, so many times; 2 look round.")
]
SimplifyBoundary = Annotated[
    bool,
    _polygons(
        "--simplify-boundary", help="Also the margins of areas without data, which may then be covered a little."
    ),
]
model_panel = panel("Model and classes")

Model = Annotated[
    Path | None, model_panel(metavar="PATH", help="Run folder or model file; the newest run in runs/ by default.")
]
SplitCovers = Annotated[
    bool,
    model_panel(
        "--split-covers",
        help="Let vegetation, open ground and water be as many of these classes as come out, not one each.",
    ),
]
Backbone = Annotated[
    str | None,
    model_panel(
        metavar="NAME",
        help="Features to find them on: rcf (default), aerial3, a timm vision transformer, or NAME+aerial3 for both.",
    ),
]
ModelWeights = Annotated[Path | None, model_panel("--weights", metavar="FILE", help=_WEIGHTS)]
ModelSeed = Annotated[int, model_panel("--seed", min=0, help=_SEED)]
Block = Annotated[int | None, model_panel(help="Block of the backbone, counted from 0; -1 is the last.")]
Legend = Annotated[Path | None, model_panel(metavar="FILE", help="Names for the classes (YAML), see geohp legend.")]

computing_panel = panel("How it is computed")

ComputingDevice = Annotated[str, computing_panel("--device", help=_DEVICE)]
Window = Annotated[
    int | None,
    computing_panel(
        min=1,
        metavar="PIXELS",
        help="Side of a window in pixels of the scene; by default the model's own, at least 448 px as it sees them.",
    ),
]
Overlap = Annotated[float, computing_panel(min=0, max=0.99, help="Share of a window that neighbours share.")]
Restart = Annotated[bool, computing_panel("--restart", help="Begin anew instead of going on with unfinished work.")]

area_panel = panel("Area of interest")

Aoi = Annotated[
    str | None,
    area_panel("--aoi", metavar="FILE", help="Only what lies in these polygons, of any vector file and CRS."),
]
AoiLayer = Annotated[
    str | None, area_panel("--aoi-layer", metavar="NAME", help="Layer of the area, where it has several.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.epochs=3.")
]


def split_bands(text: str | None) -> list[int | str] | None:
    """Bands as they are written in one word: ``4,1,2`` or ``red,green,nir``."""
    if text is None:
        return None
    return [int(part) if re.fullmatch(r"\d{1,9}", part.strip()) else part.strip() for part in text.split(",")]
