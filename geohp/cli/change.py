"""``geohp change``: two dates of a place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geohp.cli import terminal
from geohp.cli.parameters import (
    SCALING,
    Aoi,
    AoiLayer,
    Backbone,
    Block,
    ComputingDevice,
    Legend,
    Model,
    ModelSeed,
    ModelWeights,
    Overlap,
    OverwriteOutputs,
    Restart,
    Simplify,
    SimplifyBoundary,
    Smooth,
    SplitCovers,
    Window,
    area_panel,
    computing_panel,
    model_panel,
    output_panel,
    panel,
    split_bands,
)
from geohp.cli.report import Report
from geohp.options import OnReadError, Refinement

if TYPE_CHECKING:
    from geohp.comparison.change import ChangeResult
    from geohp.comparison.matrix import Amount

_output = output_panel
_noise = panel("What counts as change")


def change(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Scene of the first date, or its label map.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Scene of the second date, or its label map.")],
    out: Annotated[Path, _output("--out", "-o", metavar="FILE", help="Raster of transitions to write.")],
    polygons: Annotated[
        Path | None, _output(metavar="FILE", help="Also polygons of change (.gpkg, .parquet, .fgb or .geojson).")
    ] = None,
    matrix: Annotated[Path | None, _output(metavar="FILE", help="Also the areas by class then and now (.csv).")] = None,
    picture: Annotated[
        Path | None, _output(metavar="FILE", help="Also a picture of both dates and change (.png).")
    ] = None,
    maps: Annotated[Path | None, _output(metavar="FOLDER", help="Keep the maps of both dates there.")] = None,
    qml: Annotated[bool, _output("--qml", help="Also write QGIS's style beside the raster (.qml).")] = False,
    overwrite: OverwriteOutputs = False,
    min_confidence: Annotated[
        float, _noise(min=0, max=1, metavar="SHARE", help="Both dates must be at least so sure of their class.")
    ] = 0.0,
    min_area: Annotated[
        float, _noise(min=0, metavar="M2", help="Regions of change that are smaller count as no change.")
    ] = 0,
    confidence: Annotated[
        tuple[str, str] | None, _noise(metavar="OLD NEW", help="Of label maps: the rasters of their confidence.")
    ] = None,
    model: Model = None,
    classes: Annotated[
        int | None, model_panel(min=2, max=254, help="Find this many classes on both dates together, without a model.")
    ] = None,
    split_covers: SplitCovers = False,
    backbone: Backbone = None,
    weights: ModelWeights = None,
    block: Block = None,
    legend: Legend = None,
    labels: Annotated[
        bool, model_panel("--labels", help="OLD and NEW are label maps, also where they do not say so.")
    ] = False,
    bands: Annotated[
        str | None, computing_panel(metavar="LIST", help="By number, name or colour; the model's own by default.")
    ] = None,
    scaling: Annotated[str | None, computing_panel(metavar="RULE", help=SCALING)] = None,
    per_date_scaling: Annotated[
        bool,
        computing_panel("--per-date-scaling", help="Measure percentiles of each date by itself, not of both together."),
    ] = False,
    pixel_size: Annotated[
        float | None, computing_panel(min=0, metavar="METRES", help="Pixel size at which the model sees the scenes.")
    ] = None,
    window: Window = None,
    overlap: Overlap = 0.25,
    tta: Annotated[bool, computing_panel("--tta", help="Average over flips and rotations; 8 times the work.")] = False,
    refine: Annotated[Refinement | None, computing_panel(help="Fit the maps to the scenes' own outlines.")] = None,
    on_read_error: Annotated[
        OnReadError, computing_panel(help="Stop where a scene cannot be read, or leave such parts out.")
    ] = "stop",
    device: ComputingDevice = "auto",
    seed: ModelSeed = 0,
    restart: Restart = False,
    aoi: Aoi = None,
    aoi_layer: AoiLayer = None,
    crop: Annotated[bool, area_panel("--crop", help="Rasters that hold the area alone.")] = False,
    simplify: Simplify = 0,
    smooth: Smooth = 0,
    simplify_boundary: SimplifyBoundary = False,
) -> Report:
    """Compare two dates of a place: what has become what, where, and how much.

    Scenes are mapped by one model with one scaling; label maps must be of one model.
    """
    from geohp.comparison.change import change as compare

    with terminal.progress() as progress:
        result = compare(
            old,
            new,
            out,
            model,
            polygons=polygons,
            matrix=matrix,
            picture=picture,
            qml=qml,
            maps=maps,
            overwrite=overwrite,
            min_confidence=min_confidence,
            min_area_m2=min_area,
            confidence=confidence,
            classes=classes,
            split_covers=split_covers,
            backbone=backbone,
            weights=weights,
            block=block,
            legend=legend,
            labels=labels,
            bands=split_bands(bands),
            scaling=scaling,
            per_date_scaling=per_date_scaling,
            pixel_size_m=pixel_size,
            window_px=window,
            overlap=overlap,
            tta=tta,
            refine=refine,
            on_read_error=on_read_error,
            device=device,
            seed=seed,
            restart=restart,
            aoi=aoi,
            aoi_layer=aoi_layer,
            crop=crop,
            simplify_m=simplify,
            smooth=smooth,
            simplify_boundary=simplify_boundary,
            progress=progress,
        )
    return _report(result)


def _report(result: ChangeResult) -> Report:
    from geohp.comparison.matrix import matrix_table

    matrix = result.matrix
    changed, compared = matrix.changed, matrix.compared
    share = changed.pixels / max(1, compared.pixels)
    lines = [
        f"{_amount(changed)} of {_amount(compared)} have changed ({100 * share:.1f} %)",
        f"suppressed as noise: {100 * matrix.suppressed_share:.1f} % of the pixels that differ "
        f"({_amount(matrix.unsure)} not sure enough, {_amount(matrix.small)} in regions too small)",
        matrix_table(matrix, terminal.width()),
    ]
    polygons = "" if result.polygons is None else f" ({result.polygons:,} polygons)"
    files = ", ".join(str(path) for path in result.files)
    text = "\n".join([*filter(None, lines), f"wrote {files}{polygons}"])
    details = {"matrix": matrix.as_dict(), "polygons": result.polygons}
    return Report(text, result.files, result.classes, (), result.model, details)


def _amount(amount: Amount) -> str:
    return f"{amount.pixels:,} px" if amount.area_ha is None else f"{amount.area_ha:,.2f} ha"
