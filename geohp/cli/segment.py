"""``geohp segment``: its options, and what is said about its results."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geohp.cli import terminal
from geohp.errors import ConfigError, GeohpError

if TYPE_CHECKING:
    from geohp.inference.batch import BatchResult
    from geohp.inference.outputs import Outputs

_OUTPUTS = "Outputs"
_MODEL = "Model and classes"
_READING = "Reading"
_COMPUTING = "How it is computed"
_POLYGONS = "Polygons"
_WORKERS = "Scaling out"


class OnReadError(StrEnum):
    """What becomes of parts of a scene that cannot be read."""

    stop = "stop"
    nodata = "nodata"


class Refine(StrEnum):
    """What a map is refined by."""

    crf = "crf"


@dataclass(frozen=True)
class _Wishes:
    """What goes for one scene and for many.

    Attributes:
        model: arguments of ``resolve_segmenter``.
        run: arguments of ``segment_file`` besides its outputs.
        shapes: arguments of ``polygonize``.
        legend: names for the classes.
        qml: styles beside the labels.
        dask, workers: who shall do it.
    """

    model: dict[str, Any]
    run: dict[str, Any]
    shapes: dict[str, Any]
    legend: Path | None
    qml: bool
    dask: str | None
    workers: int | None

    @property
    def overwrite(self) -> bool:
        return bool(self.run["overwrite"])

    def connected(self) -> Any:
        """A client of the workers asked for, or none."""
        if self.dask is None and self.workers is None:
            return nullcontext()
        from geohp.inference.cluster.client import connect

        return connect(address=self.dask, workers=self.workers)


def _option(panel: str, *names: str, **given: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **given)


def segment(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="Any raster GDAL opens: a file, a VRT, a URL. With --out-dir several, also folders and 'tiles/*.tif'.",
        ),
    ],
    out: Annotated[
        Path | None, _option(_OUTPUTS, "--out", "-o", metavar="FILE", help="Label raster to write (cloud-optimised).")
    ] = None,
    out_dir: Annotated[
        Path | None,
        _option(_OUTPUTS, metavar="FOLDER", help="Instead, for any number of scenes: NAME.tif each, and mosaic.vrt."),
    ] = None,
    products: Annotated[
        str | None,
        _option(
            _OUTPUTS,
            "--products",
            metavar="LIST",
            help="What else there of each scene: confidence, entropy, probabilities, polygons, stac.",
        ),
    ] = None,
    polygons: Annotated[
        Path | None,
        _option(_OUTPUTS, metavar="FILE", help="Also write land-cover polygons (.gpkg, .parquet, .fgb or .geojson)."),
    ] = None,
    confidence: Annotated[
        Path | None, _option(_OUTPUTS, metavar="FILE", help="Also write the winning class's share.")
    ] = None,
    entropy: Annotated[
        Path | None, _option(_OUTPUTS, metavar="FILE", help="Also write how undecided the classes are.")
    ] = None,
    probabilities: Annotated[
        Path | None, _option(_OUTPUTS, metavar="FILE", help="Also write every class's share, a band each.")
    ] = None,
    stac: Annotated[
        bool, _option(_OUTPUTS, "--stac", help="Also write a STAC Item beside the labels (.json).")
    ] = False,
    qml: Annotated[bool, _option(_OUTPUTS, "--qml", help="Also write QGIS's style beside the labels (.qml).")] = False,
    overwrite: Annotated[bool, _option(_OUTPUTS, "--overwrite", help="Replace outputs that exist.")] = False,
    model: Annotated[
        Path | None,
        _option(_MODEL, metavar="PATH", help="Run folder or model file; the newest run in runs/ by default."),
    ] = None,
    classes: Annotated[
        int | None,
        _option(_MODEL, min=2, max=254, help="Find this many classes on the scenes themselves, without a model."),
    ] = None,
    backbone: Annotated[
        str | None,
        _option(_MODEL, metavar="NAME", help="Features to find them on: rcf (default) or a timm vision transformer."),
    ] = None,
    weights: Annotated[Path | None, _option(_MODEL, metavar="FILE", help="File with the backbone's weights.")] = None,
    block: Annotated[int | None, _option(_MODEL, help="Block of the backbone, counted from 0; -1 is the last.")] = None,
    legend: Annotated[
        Path | None, _option(_MODEL, metavar="FILE", help="Names for the classes (YAML), see geohp legend.")
    ] = None,
    seed: Annotated[int, _option(_MODEL, min=0, help="Seed of everything random.")] = 0,
    bands: Annotated[
        str | None,
        _option(_READING, metavar="LIST", help="By number, name or colour, e.g. 4,1,2; red,green,blue by default."),
    ] = None,
    scaling: Annotated[
        str | None,
        _option(_READING, metavar="RULE", help="auto, type, percentiles, percentiles:2,98 or LOW,HIGH."),
    ] = None,
    on_read_error: Annotated[
        OnReadError, _option(_READING, help="Stop where the scene cannot be read, or leave such parts out as nodata.")
    ] = OnReadError.stop,
    pixel_size: Annotated[
        float | None,
        _option(
            _COMPUTING,
            min=0,
            metavar="METRES",
            help="Pixel size at which the model sees the scene; the model's own by default, 0 for the scene's own.",
        ),
    ] = None,
    window: Annotated[
        int | None, _option(_COMPUTING, min=1, metavar="PIXELS", help="Side of a window in pixels of the scene.")
    ] = None,
    overlap: Annotated[
        float, _option(_COMPUTING, min=0, max=0.99, help="Share of a window that neighbours share.")
    ] = 0.25,
    tta: Annotated[
        bool, _option(_COMPUTING, "--tta", help="Average over flips and rotations of each window; 8 times the work.")
    ] = False,
    refine: Annotated[
        Refine | None,
        _option(_COMPUTING, help="Fit the map to the scene's own outlines by a dense CRF; some seconds a megapixel."),
    ] = None,
    device: Annotated[str, _option(_COMPUTING, help="auto, cpu, cuda or mps.")] = "auto",
    restart: Annotated[
        bool, _option(_COMPUTING, "--restart", help="Begin anew instead of going on with unfinished work.")
    ] = False,
    min_area: Annotated[float, _option(_POLYGONS, min=0, metavar="M2", help="Smallest polygon, in square metres.")] = 0,
    simplify: Annotated[
        float, _option(_POLYGONS, min=0, metavar="METRES", help="Simplify outlines by this many metres.")
    ] = 0,
    smooth: Annotated[
        int, _option(_POLYGONS, min=0, max=5, metavar="ROUNDS", help="Then cut their corners, so many times.")
    ] = 0,
    dask: Annotated[
        str | None, _option(_WORKERS, metavar="ADDRESS", help="Share the work out to a dask cluster, tcp://host:8786.")
    ] = None,
    workers: Annotated[
        int | None, _option(_WORKERS, min=1, help="Share the work out to this many processes on this machine.")
    ] = None,
) -> None:
    """Turn scenes into georeferenced land-cover maps.

    Interrupted, the same command goes on where it was.
    """
    wishes = _Wishes(
        model={
            "model": model,
            "classes": classes,
            "backbone": backbone,
            "weights": weights,
            "block": block,
            "bands": _bands(bands),
            "scaling": scaling,
            "device": device,
            "seed": seed,
        },
        run={
            "overlap": overlap,
            "window_px": window,
            "pixel_size_m": pixel_size,
            "tta": tta,
            "refine": None if refine is None else refine.value,
            "on_read_error": on_read_error.value,
            "restart": restart,
            "overwrite": overwrite,
        },
        shapes={"min_area_m2": min_area, "simplify_m": simplify, "smooth": smooth},
        legend=legend,
        qml=qml,
        dask=dask,
        workers=workers,
    )
    rasters = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities}
    if out_dir is None:
        if products is not None:
            raise ConfigError(
                "--products: goes with --out-dir; for a single map name the files, e.g. --confidence FILE"
            )
        if out is None:
            raise ConfigError("no output: give --out FILE for one scene, or --out-dir FOLDER for any number")
        _one(scenes, out, rasters, polygons, stac, wishes)
        return
    if out is not None:
        raise ConfigError("--out and --out-dir: give one of them, a file for one scene or a folder for any number")
    if qml:
        raise ConfigError("--qml: goes with --out; maps in a folder carry colour tables, and their GeoPackages styles")
    for name, path in (rasters | {"polygons": polygons}).items():
        if path is not None:
            raise ConfigError(f"--{name}: names a single file; with --out-dir say --products {name}")
    _many(scenes, out_dir, [*(products or "").split(","), "stac" if stac else ""], wishes)


def _one(
    given: list[str], out: Path, rasters: dict[str, Any], polygons: Path | None, stac: bool, wishes: _Wishes
) -> None:
    from geohp.files import check_output
    from geohp.inference.outputs import Outputs
    from geohp.inference.segment import resolve_segmenter, segment_file
    from geohp.raster.sources.resolve import find_images
    from geohp.vector.writing import check_target

    scenes = find_images(given)
    if len(scenes) != 1:
        raise ConfigError(f"--out: names one map, but there are {len(scenes)} scenes; give --out-dir FOLDER instead")
    scene = scenes[0]
    outputs = Outputs(out, **rasters)
    outputs.check(overwrite=wishes.overwrite, inputs=[scene])
    item = out.with_suffix(".json")
    if wishes.qml:
        check_output(out.with_suffix(".qml"), overwrite=wishes.overwrite)
    if stac:
        check_output(item, overwrite=wishes.overwrite, inputs=[scene])
    if polygons is not None:
        check_target(polygons, overwrite=wishes.overwrite)
    segmenter = resolve_segmenter(
        scene, errors_as_nodata=wishes.run["on_read_error"] == OnReadError.nodata, **wishes.model
    )
    if wishes.legend is not None:
        segmenter = segmenter.named(wishes.legend)
    terminal.say(f"using {segmenter.origin}")
    with terminal.progress() as progress, wishes.connected() as client:
        stages = terminal.Stages(progress)
        skipped = segment_file(
            scene, out, segmenter, client=client, progress=stages.of("segmenting"), **rasters, **wishes.run
        )
        written = [str(path) for path in outputs.paths.values()]
        try:
            if polygons is not None:
                count = _polygonize(outputs, polygons, wishes, stages)
                written.append(f"{polygons} ({count:,} polygons)")
            if wishes.qml:
                from geohp.style import write_styles

                written.append(str(write_styles(out, segmenter.classes, overwrite=wishes.overwrite)))
            if stac:
                from geohp.inference.stac import write_item

                vectors = {} if polygons is None else {"polygons": polygons}
                written.append(str(write_item(item, outputs.paths | vectors, scene)))
        except BaseException as error:
            error.add_note(f"{', '.join(written)}: complete; only what was to be made of it is missing")
            raise
    terminal.say_skipped(scene, skipped)
    typer.echo(f"{len(segmenter.classes)} classes: wrote {', '.join(written)}")


def _polygonize(outputs: Outputs, polygons: Path, wishes: _Wishes, stages: terminal.Stages) -> int:
    from geohp.vector.writing import polygonize_file

    return polygonize_file(
        outputs.labels,
        polygons,
        overwrite=wishes.overwrite,
        confidence=outputs.confidence,
        progress=stages,
        **wishes.shapes,
    )


def _many(given: list[str], folder: Path, products: list[str], wishes: _Wishes) -> None:
    from geohp.inference.batch import segment_files

    with terminal.progress() as progress, wishes.connected() as client:
        made = segment_files(
            given,
            folder,
            products=[name for name in products if name.strip()],
            legend=wishes.legend,
            client=client,
            progress=terminal.Stages(progress),
            **wishes.model,
            **wishes.run,
            **wishes.shapes,
        )
    for one in made.maps:
        terminal.say_skipped(one.scene, one.skipped)
    _tell(made, folder)


def _tell(made: BatchResult, folder: Path) -> None:
    """Say what there is, and fail where a scene has failed."""
    done = len(made.maps) - len(made.failed)
    there = sum(one.was_there for one in made.maps)
    if isinstance(made.mosaic, Path):
        mosaic = f", and {made.mosaic}"
    else:
        mosaic = ""
        if done:
            terminal.say(f"no mosaic: {made.mosaic}")
    if done:
        terminal.say(f"used {made.origin}")
        earlier = f" ({there} of them made earlier)" if there else ""
        typer.echo(f"{len(made.classes)} classes: {done} map(s) in {folder}{earlier}{mosaic}")
    if made.failed:
        raise ScenesFailedError(
            f"{len(made.failed)} of {len(made.maps)} scenes gave no map; "
            "mend them or leave them out, and run the same command again for what is missing"
        )


class ScenesFailedError(GeohpError):
    """Some of many scenes could not be mapped; the others were."""


def _bands(text: str | None) -> list[int | str] | None:
    if text is None:
        return None
    return [int(part) if part.strip().isdigit() else part.strip() for part in text.split(",")]
