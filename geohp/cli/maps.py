"""What is done with a label map: ``geohp polygonize``, ``geohp legend`` and ``geohp recode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from geohp.cli import terminal
from geohp.cli.parameters import (
    Aoi,
    AoiLayer,
    MinArea,
    Overwrite,
    ReferenceField,
    ReferenceLayer,
    Simplify,
    SimplifyBoundary,
    Smooth,
)
from geohp.cli.report import Report
from geohp.errors import ConfigError

Qml = Annotated[bool, typer.Option("--qml", help="Also write QGIS's style beside it (.qml); GeoPackages have it.")]
Labels = Annotated[str, typer.Argument(metavar="LABELS", help="Label raster, such as geohp segment writes.")]


def polygonize(
    labels: Labels,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="To write: .gpkg, .parquet, .fgb or .geojson.")
    ],
    layer: Annotated[str, typer.Option(metavar="NAME", help="Layer of a GeoPackage.")] = "landcover",
    legend: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names for the labels (YAML); those of one name become one.")
    ] = None,
    min_area: MinArea = 0,
    simplify: Simplify = 0,
    smooth: Smooth = 0,
    simplify_boundary: SimplifyBoundary = False,
    confidence: Annotated[
        str | None, typer.Option(metavar="FILE", help="Confidence raster: adds its mean and minimum.")
    ] = None,
    stats: Annotated[
        list[str] | None,
        typer.Option(metavar="RASTER:LIST", help="Statistics of any raster, e.g. dsm.tif:mean,p90; may be repeated."),
    ] = None,
    any_values: Annotated[
        bool,
        typer.Option("--any-values", help="Also what does not look like labels: quantities, hundreds of values."),
    ] = False,
    aoi: Aoi = None,
    aoi_layer: AoiLayer = None,
    qml: Qml = False,
    overwrite: Overwrite = False,
) -> Report:
    """Turn a label raster into land-cover polygons with class, area and perimeter.

    Statistics: count, sum, mean, std, min, max, median, and p0 to p100 (percentiles).
    """
    from geohp.vector.writing import polygonize_file

    with terminal.progress() as progress:
        count = polygonize_file(
            labels,
            out,
            layer=layer,
            legend=legend,
            min_area_m2=min_area,
            simplify_m=simplify,
            smooth=smooth,
            simplify_boundary=simplify_boundary,
            confidence=confidence,
            stats=stats or (),
            any_values=any_values,
            aoi=aoi,
            aoi_layer=aoi_layer,
            qml=qml,
            overwrite=overwrite,
            progress=progress,
        )
    return Report(f"wrote {out} ({count:,} polygons)", [out], details={"polygons": count})


def legend(
    labels: Labels,
    reference: Annotated[
        str,
        typer.Option(metavar="FILE", help="What is known of some places: polygons, points, or a raster of classes."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Legend to write (YAML).")],
    field: ReferenceField = None,
    layer: ReferenceLayer = None,
    matching: Annotated[
        Literal["majority", "hungarian"],
        typer.Option(help="Each label to the class it overlaps most, or one label a class."),
    ] = "majority",
    overwrite: Overwrite = False,
) -> Report:
    """Name the labels of a map after a reference, several alike.

    More labels than classes make better maps: train with classes.extra_clusters, or segment with more --classes.
    """
    from geohp.legend.naming import name_classes

    with terminal.progress() as progress:
        naming = name_classes(
            labels,
            reference,
            field=field,
            layer=layer,
            matching=matching,
            out=out,
            overwrite=overwrite,
            progress=progress,
        )
    return Report(f"{naming.report(terminal.width())}\nwrote {out}", [out], naming.legend.classes)


def recode(
    source: Annotated[str, typer.Argument(metavar="LABELS|MODEL", help="Label raster, or a model file or run folder.")],
    legend: Annotated[Path, typer.Option(metavar="FILE", help="Names for the labels (YAML).")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="To write: a label raster, or a model (.safetensors).")
    ],
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights of the model's backbone.")] = None,
    qml: Annotated[bool, typer.Option("--qml", help="Also write QGIS's style beside the raster (.qml).")] = False,
    overwrite: Overwrite = False,
) -> Report:
    """Give a map, or a model and so all its maps, the classes of a legend."""
    if Path(source).is_dir() or Path(source).suffix == ".safetensors":
        if qml:
            raise ConfigError("{option}: is for label rasters, not for models", "leave it out", option="qml")
        from geohp.legend.recode_model import recode_model_file

        model = recode_model_file(source, out, legend, weights=weights, overwrite=overwrite)
        names = ", ".join(entry.name for entry in model.card.classes)
        return Report(f"wrote {out}: {names}", [out], model.card.classes)
    if weights is not None:
        raise ConfigError("{option}: is for models, not for label rasters", "leave it out", option="weights")
    from geohp.legend.recode_raster import recode_file
    from geohp.raster.read.labels import open_labels

    with terminal.progress() as progress:
        recode_file(source, out, legend, qml=qml, overwrite=overwrite, progress=progress)
    with open_labels(out) as recoded:  # which has more classes than the legend names
        classes = recoded.classes
    return Report(f"wrote {out}", [out, out.with_suffix(".qml")] if qml else [out], classes)
