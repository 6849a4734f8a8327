"""``geohp segment``: its options become objects, and what came of it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    MinArea,
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
from geohp.cli.report import Report, area_table
from geohp.errors import ConfigError, GeohpError
from geohp.options import OnReadError, Refinement

if TYPE_CHECKING:
    from distributed import Client

    from geohp.inference.folder_maps import BatchResult
    from geohp.inference.map_scene import SceneResult

_output = output_panel
_reading = panel("Reading")
_scaling_out = panel("Scaling out")


def segment(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE",
            help="Any raster GDAL opens: a file, a VRT, a URL. With --out-dir several, also folders and 'tiles/*.tif'.",
        ),
    ],
    out: Annotated[
        Path | None, _output("--out", "-o", metavar="FILE", help="Label raster to write (cloud-optimised).")
    ] = None,
    out_dir: Annotated[
        Path | None,
        _output(metavar="FOLDER", help="Instead, for any number of scenes: NAME.tif each, and mosaic.vrt."),
    ] = None,
    products: Annotated[
        str | None,
        _output(
            "--products",
            metavar="LIST",
            help="Of each scene of --out-dir also: confidence, entropy, probabilities, polygons, qml, stac.",
        ),
    ] = None,
    polygons: Annotated[
        Path | None,
        _output(metavar="FILE", help="Also write land-cover polygons (.gpkg, .parquet, .fgb or .geojson)."),
    ] = None,
    confidence: Annotated[Path | None, _output(metavar="FILE", help="Also write the winning class's share.")] = None,
    entropy: Annotated[Path | None, _output(metavar="FILE", help="Also write how undecided the classes are.")] = None,
    probabilities: Annotated[
        Path | None, _output(metavar="FILE", help="Also write every class's share, a band each.")
    ] = None,
    stac: Annotated[bool, _output("--stac", help="Also write a STAC Item beside the labels (.json).")] = False,
    datetime: Annotated[
        str | None,
        _output(
            metavar="TIME", help="When the scenes were taken, for STAC: 2024-07-31, or FIRST/LAST. Else as they say."
        ),
    ] = None,
    qml: Annotated[bool, _output("--qml", help="Also write QGIS's styles beside the rasters (.qml).")] = False,
    overwrite: OverwriteOutputs = False,
    model: Model = None,
    classes: Annotated[
        int | None,
        model_panel(
            min=2,
            max=254,
            help="Find this many classes on the scenes, without a model; 6 where there is none.",
        ),
    ] = None,
    split_covers: SplitCovers = False,
    backbone: Backbone = None,
    weights: ModelWeights = None,
    block: Block = None,
    legend: Legend = None,
    seed: ModelSeed = 0,
    bands: Annotated[
        str | None,
        _reading(
            metavar="LIST",
            help="By number, name or colour, e.g. 4,1,2 or nir=4,red=1,green=2; red,green,blue by default.",
        ),
    ] = None,
    scaling: Annotated[str | None, _reading(metavar="RULE", help=SCALING)] = None,
    aoi: Aoi = None,
    aoi_layer: AoiLayer = None,
    crop: Annotated[
        bool, area_panel("--crop", help="Maps that hold the area alone, on the scene's pixels, not all of the scene.")
    ] = False,
    on_read_error: Annotated[
        OnReadError, _reading(help="Stop where the scene cannot be read, or leave such parts out as nodata.")
    ] = "stop",
    pixel_size: Annotated[
        float | None,
        computing_panel(
            min=0,
            metavar="METRES",
            help="Pixel size at which the model sees the scene; the model's own by default, 0 for the scene's own.",
        ),
    ] = None,
    window: Window = None,
    overlap: Overlap = 0.25,
    tta: Annotated[
        bool, computing_panel("--tta", help="Average over flips and rotations of each window; 8 times the work.")
    ] = False,
    refine: Annotated[
        Refinement | None,
        computing_panel(help="Fit the map to the scene's own outlines by a dense CRF; some seconds a megapixel."),
    ] = None,
    device: ComputingDevice = "auto",
    restart: Restart = False,
    min_area: MinArea = 0,
    simplify: Simplify = 0,
    smooth: Smooth = 0,
    simplify_boundary: SimplifyBoundary = False,
    dask: Annotated[
        str | None, _scaling_out(metavar="ADDRESS", help="Share the work out to a dask cluster, tcp://host:8786.")
    ] = None,
    workers: Annotated[
        int | None, _scaling_out(min=1, help="Share the work out to this many processes on this machine.")
    ] = None,
) -> Report:
    """Turn scenes into georeferenced land-cover maps.

    Interrupted, the same command goes on where it was.
    """
    from geohp.inference.batch import map_scenes
    from geohp.inference.map_options import MapOptions
    from geohp.inference.map_scene import map_scene
    from geohp.inference.products import Products

    files = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities, "polygons": polygons}
    _check_outputs(out, out_dir, products, files)
    with terminal.progress() as progress, _workers(dask, workers) as client:
        options = MapOptions(
            model=model,
            classes=classes,
            split_covers=split_covers,
            backbone=backbone,
            weights=weights,
            block=block,
            legend=legend,
            seed=seed,
            bands=split_bands(bands),
            scaling=scaling,
            aoi=aoi,
            aoi_layer=aoi_layer,
            crop=crop,
            on_read_error=on_read_error,
            pixel_size_m=pixel_size,
            window_px=window,
            overlap=overlap,
            tta=tta,
            refine=refine,
            device=device,
            restart=restart,
            min_area_m2=min_area,
            simplify_m=simplify,
            smooth=smooth,
            simplify_boundary=simplify_boundary,
            datetime=datetime,
            overwrite=overwrite,
            client=client,
            progress=progress,
        )
        if out is None:
            kinds = [kind for kind in (products or "").split(",") if kind.strip()] + ["stac"] * stac + ["qml"] * qml
            return _report_of_maps(map_scenes(scenes, out_dir or "", kinds, options), out_dir)
        target = Products(out, qml=qml, stac=stac, **files)
        return _report_of_map(map_scene(_only(scenes), target, options), polygons)


def _check_outputs(
    out: Path | None, out_dir: Path | None, products: str | None, files: Mapping[str, Path | None]
) -> None:
    """Refuse what does not go together."""
    if out_dir is None:
        if products is not None:
            raise ConfigError("--products: goes with --out-dir; for one map name the files, e.g. --confidence FILE")
        if out is None:
            raise ConfigError("no output: give --out FILE for one scene, or --out-dir FOLDER for any number")
        return
    if out is not None:
        raise ConfigError("--out and --out-dir: give one of them, a file for one scene or a folder for any number")
    for name, path in files.items():
        if path is not None:
            raise ConfigError(f"--{name}: names a single file; with --out-dir say --products {name}")


def _only(patterns: Sequence[str]) -> str:
    """The one scene that is meant."""
    from geohp.raster.sources.find import find_images

    scenes = find_images(patterns)
    if len(scenes) != 1:
        raise ConfigError(f"--out: names one map, but there are {len(scenes)} scenes; give --out-dir FOLDER instead")
    return scenes[0]


def _workers(address: str | None, workers: int | None) -> AbstractContextManager[Client | None]:
    """A client of the workers asked for, or none."""
    if address is None and workers is None:
        return nullcontext()
    from geohp.inference.cluster.connection import connect

    return connect(address=address, workers=workers)


def _report_of_map(result: SceneResult, polygons: Path | None) -> Report:
    terminal.show_skipped(result.scene, result.skipped)
    files = [f"{path} ({result.polygons:,} polygons)" if path == polygons else str(path) for path in result.files]
    classes = f"{len(result.classes)} classes" if result.classes else f"no data in {result.scene}, so no classes"
    text = f"{classes}: wrote {', '.join(files)}"
    table = area_table(result.areas)
    return Report(
        f"{text}\n{table}" if table else text,
        result.files,
        result.classes,
        result.areas,
        result.model,
        {"scenes": [_details(result)]},
    )


def _report_of_maps(batch: BatchResult, folder: Path | None) -> Report:
    """What there is of many scenes; a failure where one has failed."""
    from geohp.inference.map_scene import MapModel

    for result in batch.maps:
        terminal.show_skipped(result.scene, result.skipped)
    complete = len(batch.maps) - len(batch.failed)
    outputs = [path for result in batch.maps for path in result.files]
    text = ""
    if complete:
        if isinstance(batch.mosaic, str):
            terminal.say(f"no mosaic: {batch.mosaic}")
        mosaic = f", and {batch.mosaic}" if isinstance(batch.mosaic, Path) else ""
        outputs += [batch.mosaic] if isinstance(batch.mosaic, Path) else []
        earlier = sum(result.made_earlier for result in batch.maps)
        made_earlier = f" ({earlier} of them made earlier)" if earlier else ""
        text = f"{len(batch.classes)} classes: {complete} map(s) in {folder}{made_earlier}{mosaic}"
        text = "\n".join(filter(None, [text, area_table(batch.areas)]))
    failure = None
    if batch.failed:
        unreadable = any(result.unreadable for result in batch.failed)
        forgiving = ", or map what can be read of them with --on-read-error nodata" if unreadable else ""
        failure = ScenesFailedError(
            f"{len(batch.failed)} of {len(batch.maps)} scenes gave no map",
            f"mend them or leave them out{forgiving}, and run the same command again for what is missing",
        )
    model = MapModel(batch.origin, batch.model_sha256)
    details = {"scenes": [_details(result) for result in batch.maps]}
    return Report(text, outputs, batch.classes, batch.areas, model, details, failure)


def _details(result: SceneResult) -> dict[str, Any]:
    """A scene in the report for programs."""
    return {
        "scene": result.scene,
        "outputs": [str(path) for path in result.files],
        "areas": [asdict(area) for area in result.areas],
        "polygons": result.polygons,
        "skipped": [asdict(part) for part in result.skipped],
        "made_earlier": result.made_earlier,
        "error": result.error,
    }


class ScenesFailedError(GeohpError):
    """Some of many scenes could not be mapped; the others were."""
