"""A map as a page: ``geohp view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geohp.cli import terminal
from geohp.cli.maps import Labels
from geohp.cli.parameters import Overwrite, split_bands
from geohp.cli.report import Report


def view(
    labels: Labels,
    scene: Annotated[str, typer.Option(metavar="FILE", help="The image that it is a map of.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Page to write (.html); beside the labels by default."),
    ] = None,
    polygons: Annotated[Path | None, typer.Option(metavar="FILE", help="Polygons to draw as outlines.")] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Layer of the polygons, where there are several.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Confidence raster; the labels' own is taken where it lies beside them."),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(metavar="LIST", help="Bands of the image to show as red, green and blue, as in 4,1,2.")
    ] = None,
    scaling: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="How its values become colours: auto, type, percentiles:2,98, percentiles-per-band:2,98 or LOW,HIGH.",
        ),
    ] = "auto",
    overwrite: Overwrite = False,
) -> Report:
    """Write a map as a page for the browser: to swipe over its image, and to name its classes by looking at them."""
    from geohp.viewer.view import view as write_view

    with terminal.progress() as progress:
        page = write_view(
            labels,
            scene,
            out=out,
            polygons=polygons,
            layer=layer,
            confidence=confidence,
            bands=split_bands(bands),
            scaling=scaling,
            overwrite=overwrite,
            progress=progress,
        )
    size = page.path.stat().st_size
    shown = "in full resolution" if page.factor == 1 else f"at 1 pixel of {page.factor} x {page.factor}"
    text = f"wrote {page} ({size / 1e6:.1f} MB, {shown}): open it in a browser"
    details = {"size_bytes": size, "shown_factor": page.factor}
    return Report(text, [page.path], page.classes, page.areas, details=details)
