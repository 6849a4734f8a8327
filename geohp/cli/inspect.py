"""Looking at what there is: ``geohp info``, ``config``, ``doctor`` and ``cache``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from geohp.cli import terminal
from geohp.cli.report import Report, area_table
from geohp.errors import ConfigError

if TYPE_CHECKING:
    from geohp.classes import LandCoverClass
    from geohp.inspection.models import ModelInfo
    from geohp.inspection.rasters import BandInfo, RasterInfo


def info(
    path: Annotated[
        str, typer.Argument(metavar="FILE|RUN|MODEL", help="A raster, a map, a run folder or a model file.")
    ],
) -> Report:
    """Show what a raster, a map or a model holds: bands, place and values; classes, model and areas."""
    from geohp.inspection.models import is_model, model_info

    if is_model(path):
        model = model_info(path)
        return Report(_model_text(model), classes=model.classes, details=asdict(model))
    from geohp.inspection.rasters import raster_info

    raster = raster_info(path)
    return Report(_raster_text(raster), classes=raster.classes, areas=raster.areas, details=asdict(raster))


def config(
    name: Annotated[
        str | None,
        typer.Argument(help="A packaged configuration (potsdam3), or a file; a reference of all keys by default."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Instead: the JSON schema of configurations, for editors.")
    ] = False,
) -> Report:
    """Print a configuration: every key with its default and meaning, or one that ships with geohp."""
    if name is not None and schema:
        raise ConfigError("{option} is of all configurations", "leave the name out", option="schema")
    if name is not None:
        from geohp.config.loading import find_config, packaged_configs, read_text

        path = find_config(name)
        text = read_text(path)
        return Report(text.rstrip("\n"), details={"path": str(path), "text": text, "packaged": [*packaged_configs()]})
    from geohp.config.loading import packaged_configs
    from geohp.config.reference import config_reference, config_schema

    if schema:
        document = config_schema()
        return Report(json.dumps(document, indent=2, ensure_ascii=False), details={"schema": document})
    text = config_reference().rstrip("\n")
    return Report(text, details={"text": text, "packaged": [*packaged_configs()]})


def doctor() -> Report:
    """Check the installation: versions, GPU, whether hubs are reachable, caches; with a remedy where it is amiss."""
    from geohp.inspection.doctor import examine

    checks = list(examine())
    amiss = [check for check in checks if check.remedy]
    lines = [(check.name, f"{check.state}{f': {check.remedy}' if check.remedy else ''}") for check in checks]
    marks = ["!" if check.remedy else " " for check in checks]
    text = "\n".join(f"{mark} {line}" for mark, line in zip(marks, _aligned(lines).splitlines(), strict=True))
    summary = f"{len(amiss)} of these, marked with !, can be mended" if amiss else "all is well"
    return Report(f"{text}\n{summary}", details={"sound": not amiss, "checks": [asdict(check) for check in checks]})


def cache(
    action: Annotated[
        Literal["show", "clear"], typer.Argument(help="clear removes features; fetched weights are only shown.")
    ] = "show",
) -> Report:
    """Show what is kept on disk and where, or clear the features that trainings have kept."""
    from geohp.inspection.caches import caches, clear_features

    if action == "clear":
        cleared = clear_features()
        for folder in cleared.in_use:
            terminal.say(f"{folder} stays: a training writes to it")
        text = f"removed {cleared.removed} sets of features ({_size(cleared.freed_bytes)}) from {cleared.folder}"
        return Report(text, details=asdict(cleared))
    places = caches()
    lines = [(place.name, f"{_size(place.size_bytes)}, {place.files} files in {place.folder}") for place in places]
    return Report(_aligned(lines), details={"caches": [asdict(place) for place in places]})


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.1f} MiB"


def _raster_text(info: RasterInfo) -> str:
    lines = [
        ("raster", f"{info.path} ({info.driver}{', a label map' if info.is_map else ''})"),
        ("size", f"{info.width:,} x {info.height:,} px"),
        ("CRS", _crs(info)),
        ("pixel size", _pixel_size(info)),
        *([("bounds", ", ".join(f"{edge:.10g}" for edge in info.bounds))] if info.bounds else []),
        *[("bands" if band.number == 1 else "", _band(band)) for band in info.bands],
        ("overviews", ", ".join(f"1:{factor}" for factor in info.overviews) or "none"),
        *([("model", f"SHA-256 {info.model_sha256 or 'not told'}")] if info.is_map else []),
        *([("classes", _classes(info.classes))] if info.is_map else []),
    ]
    return "\n".join(filter(None, [_aligned(lines), area_table(info.areas)]))


def _model_text(info: ModelInfo) -> str:
    size = "unknown" if info.pixel_size_m is None else f"{info.pixel_size_m:g} m"
    resized = "" if info.input_px == info.patch_px else f", resized to {info.input_px} px"
    clusters = "" if info.clusters == len(info.classes) else f", of {info.clusters} clusters"
    lines = [
        ("model", f"{info.path} (by geohp {info.geohp_version or 'unknown'})"),
        ("method", f"{info.method}, predicts with its {info.probe} probe"),
        ("backbone", f"{info.backbone}, block {info.block}, weights: {info.weights or 'none of its own'}"),
        ("bands", "red, green, blue" if info.bands is None else ", ".join(map(str, info.bands))),
        ("scaling", info.scaling),
        ("pixel size", f"{size}, patches of {info.patch_px} px{resized}"),
        ("classes", _classes(info.classes) + clusters),
        *([("", info.unmerged)] if info.unmerged else []),
        *([("k-means", str(info.kmeans["sentence"]))] if info.kmeans and "sentence" in info.kmeans else []),
        ("SHA-256", info.sha256),
    ]
    return _aligned(lines)


def _aligned(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _classes(classes: Sequence[LandCoverClass]) -> str:
    return f"{len(classes)}: " + ", ".join(f"{entry.id} {entry.name}" for entry in classes)


def _crs(info: RasterInfo) -> str:
    if info.crs is None:
        return "none declared"
    if info.crs_name and len(info.crs) > len(info.crs_name) * 2:  # a definition in full
        return info.crs_name
    return f"{info.crs} ({info.crs_name})" if info.crs_name else info.crs


def _pixel_size(info: RasterInfo) -> str:
    if info.pixel_size is None:
        return "none: not georeferenced"
    across, down = info.pixel_size
    metres = "" if info.pixel_size_m is None else f", {info.pixel_size_m:.4g} m on the ground"
    return f"{across:.10g} x {down:.10g} in units of the CRS{metres}"


def _band(band: BandInfo) -> str:
    name = f" {band.description}" if band.description else ""
    nodata = "no nodata value" if band.nodata is None else f"nodata {band.nodata}"
    return f"{band.number}{name}: {band.dtype}, {band.colour}, {nodata}"
