"""Whether a command did what it has to with a hostile raster: the right result alone, or a sentence and nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.reliability.isolation import Ended, Limits, run_function
from benchmarks.reliability.part import Outcome
from benchmarks.reliability.raster_absurd import MARK
from benchmarks.reliability.raster_generated import Subject

NODATA = 255
FOLDER = "maps"
"""Where maps of several scenes go: of those that can be mapped they stay where others cannot."""
_NOISE = re.compile(r"CPLE_|\bERROR \d|\bWarning \d|[A-Z]\w+Warning|Exception|^(?!geohp: |  |$)", re.MULTILINE)
"""What a user is not to see: the words of libraries, and lines that nobody signed."""
_UNCATCHABLE = re.compile(
    r"(?:HDF5-DIAG:|_tiffSeekProc: |Error: Key \w+ |internal_proj_\w+: |.*/resource_tracker\.py:).*\n(?:  .*\n)*"
)
"""What HDF5, libtiff, libgeotiff and PROJ print past GDAL, so that nothing in Python can keep it from the user; and
what Python says of a fork that ends without cleaning up, as only the forks of these runs do."""
_MOST_LETTERS = 4000


@dataclass(frozen=True)
class Attempt:
    """A command on a hostile raster, and what came of it.

    Attributes:
        command: its name; arguments: the rest.
        outputs: files that there are afterwards if it succeeds.
        subject: the raster.
        ended: how the command ended.
        folder: in which it ran.
        before, after: all that lies there, and what lay where temporary files go.
    """

    command: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    subject: Subject
    ended: Ended
    folder: Path
    before: frozenset[str]
    after: frozenset[str]


def judge(attempt: Attempt) -> Outcome:
    """How a command ended."""
    ended = attempt.ended
    measures = {"seconds": round(ended.seconds, 3), "peak_mb": round(max(0.0, ended.peak_mb), 1)}
    complaint = _conduct(attempt)
    if complaint:
        return Outcome("failed", f"{complaint} <- geohp {attempt.command} {' '.join(attempt.arguments)}", measures)
    if ended.code == 2:
        return Outcome("refused", ended.err.strip()[:400], measures)
    wrong = _verify(attempt)
    if wrong:
        return Outcome("failed", f"{wrong} <- geohp {attempt.command} {' '.join(attempt.arguments)}", measures)
    return Outcome("right", attempt.command, measures)


def _conduct(attempt: Attempt) -> str:
    """What is wrong with how it ended, whatever it made; empty for nothing."""
    ended, new = attempt.ended, attempt.after - attempt.before
    if ended.broke:
        return f"broke the limit of {ended.broke} ({ended.seconds:.0f} s, {ended.peak_mb:.0f} MB)"
    if ended.traceback:
        return f"traceback: {ended.err.strip()[-500:]}"
    if MARK in new:
        return "code in the raster was run"
    if attempt.before - attempt.after:
        return f"removed {', '.join(sorted(attempt.before - attempt.after))}"
    if ended.code not in (0, 2):
        return f"exit code {ended.code}: {ended.err[-300:]}"
    partial = new and attempt.outputs == (FOLDER,) and f"{FOLDER}/scene.tif" in new and "gave no map" in ended.err
    if ended.code == 2 and new and not partial:
        return f"refused, and left {', '.join(sorted(new))}: {ended.err[-200:]}"
    if ended.code == 2 and (ended.err.count("geohp: error: ") != 1 or len(ended.err) > _MOST_LETTERS):
        return f"not one sentence: {ended.err[:300]}"
    if ended.code == 0 and {name.split("/")[0] for name in new} != set(attempt.outputs):
        return f"left {', '.join(sorted(new))} instead of {', '.join(attempt.outputs)}"
    noise = _NOISE.search(_UNCATCHABLE.sub("", ended.err))
    return f"noise: {noise.string[noise.start() : noise.start() + 400]}" if noise else ""


def _verify(attempt: Attempt) -> str:
    """What is wrong with the result, looked at apart, in a fork; empty for nothing."""
    check = _CHECKS.get(attempt.command)
    if check is None:
        return ""

    def look() -> None:
        os.chdir(attempt.folder)
        print(json.dumps(check(attempt)))

    ended = run_function(look, attempt.folder, Limits())
    if ended.code or ended.broke:
        return f"the result cannot be checked: {ended.err.strip()[-300:]}"
    return str(json.loads(ended.out.splitlines()[-1]))


def _check_map(attempt: Attempt) -> str:
    """The map lies on the scene's grid, has labels of its classes, and no data exactly where the scene has none.

    In a folder all maps can be read; that of the scene is held against it.
    """
    if attempt.outputs != (FOLDER,):
        return _wrong_map(attempt, attempt.folder / "map.tif")
    for path in (attempt.folder / FOLDER).glob("*.tif"):
        with rasterio.open(path) as made:
            made.read()
    path = attempt.folder / FOLDER / f"{Path(attempt.subject.source).stem}.tif"
    return _wrong_map(attempt, path) if path.exists() and (attempt.folder / attempt.subject.source).is_file() else ""


def _wrong_map(attempt: Attempt, path: Path) -> str:
    with rasterio.open(_path(attempt)) as scene, rasterio.open(path) as made:
        if wrong := _differs(scene, made):
            return wrong
        labels = made.read(1)
        classes = [entry["id"] for entry in json.loads(made.tags(1)["classes"])]
    beyond = set(np.unique(labels).tolist()) - {*classes, NODATA}
    if beyond:
        return f"labels {beyond} beyond the classes"
    valid = attempt.subject.valid
    if valid is not None and not np.array_equal(labels != NODATA, valid):
        wrong = int(((labels != NODATA) != valid).sum())
        return f"{wrong} of {valid.size} pixels are data where the scene has none, or the other way round"
    return ""


def _differs(scene: Any, made: Any) -> str:
    """How the grid of a map differs from that of its scene; of a georeference that places nothing none is left."""
    if made.shape != scene.shape:
        return f"map of {made.shape} for a scene of {scene.shape}"
    points, others = scene.gcps[0], made.gcps[0]
    if not _is_placed(scene):
        left = made.gcps[0] or not made.transform.is_identity
        return f"georeference {made.transform} {made.gcps} for a scene without" if left else ""
    if len(points) != len(others):
        return f"{len(others)} ground control points instead of {len(points)}"
    if not points and not np.allclose(tuple(scene.transform), tuple(made.transform), rtol=1e-9, atol=0):
        return f"transform {tuple(made.transform)} instead of {tuple(scene.transform)}"
    crs, other = (d.gcps[1] if d.gcps[0] else d.crs for d in (scene, made))
    return "" if crs == other or _same_wkt(crs, other) else f"CRS {other} instead of {crs}"


def _is_placed(dataset: Any) -> bool:
    """Whether its georeference places its pixels."""
    from rasterio._err import CPLE_BaseError
    from rasterio.transform import GCPTransformer, from_gcps

    points = dataset.gcps[0]
    if not points:
        return bool(np.isfinite(tuple(dataset.transform)).all() and dataset.transform.determinant)
    try:
        with GCPTransformer(list(points)) as transformer:
            place = transformer.xy([0, 1], [0, 1])
        return bool(np.isfinite(place).all() and from_gcps(points).determinant)
    except CPLE_BaseError:
        return False


def _same_wkt(crs: Any, other: Any) -> bool:
    """Whether two systems are the same as far as a GeoTIFF can say it: of odd ones it keeps the name."""
    if crs is None or other is None:
        return (crs is None and other is None) or "LOCAL_CS" in str(crs) or "ENGCRS" in str(crs) or not crs.is_epsg_code
    return crs.to_wkt().split('"')[1] == other.to_wkt().split('"')[1] or not crs.is_epsg_code


def _check_polygons(attempt: Attempt) -> str:
    """Polygons cover as many pixels of each label as the raster has, and as much area."""
    import geopandas

    frame = geopandas.read_file(attempt.folder / "polygons.gpkg")
    values, valid = attempt.subject.values, attempt.subject.valid
    if values is None or valid is None or len(values) != 1 or {"labels.tif", "--min-area"} & {*attempt.arguments}:
        return ""
    labels = values[0][valid & (values[0] != NODATA)] if _undeclared(attempt) else values[0][valid]
    expected = dict(zip(*(column.tolist() for column in np.unique(labels, return_counts=True)), strict=True))
    got = frame.groupby("class_id")["n_pixels"].sum().to_dict() if len(frame) else {}
    if got != expected:
        return f"pixels by label {got} instead of {expected}"
    with rasterio.open(_path(attempt)) as dataset:
        plain, unit = not dataset.gcps[0], abs(dataset.transform.determinant) if _is_placed(dataset) else 1
    if plain and not np.isclose(frame.geometry.area.sum(), unit * labels.size, rtol=1e-6):
        return f"area {frame.geometry.area.sum()} instead of {unit * labels.size}"
    return ""


def _undeclared(attempt: Attempt) -> bool:
    with rasterio.open(_path(attempt)) as dataset:
        return dataset.nodata is None


def _check_recoded(attempt: Attempt) -> str:
    """The recoded map lies where the map does."""
    with rasterio.open(_path(attempt)) as source, rasterio.open(attempt.folder / "map.tif") as made:
        return _differs(source, made)


def _check_info(attempt: Attempt) -> str:
    """The size told is that of the file; a folder is a run, if it has a model."""
    if (attempt.folder / attempt.subject.source).is_dir():
        return ""
    with rasterio.open(_path(attempt)) as dataset:
        size = f"{dataset.width} x {dataset.height} px"
    said = attempt.ended.out.replace(",", "")
    if "--json" in attempt.arguments:
        said = json.dumps(json.loads(attempt.ended.out, parse_constant=_no_json)["details"])
        size = f'"width": {dataset.width}'
    return "" if size in said else f"{size} not in {attempt.ended.out[:200]}"


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _check_change(attempt: Attempt) -> str:
    """The raster of transitions can be read and has the size of the first date."""
    with (
        rasterio.open(attempt.arguments[0]) as first,
        rasterio.open(attempt.folder / "map.tif") as made,
    ):
        made.read(1)
        return _differs(first, made)


def _check_run(attempt: Attempt) -> str:
    """The model maps the image that it was trained on, or refuses that in a sentence; its classes can be shown."""
    from geohp.classes import class_mistake
    from geohp.errors import GeohpError
    from geohp.inference.map_scene import segment_file
    from geohp.model.card import read_card

    card, target = read_card("run"), attempt.folder.with_name("mapped.tif")
    if mistake := class_mistake(card.classes):
        return mistake
    try:
        segment_file(_path(attempt), target, "run", on_read_error="nodata")
    except GeohpError as error:
        return "" if attempt.subject.valid is None else f"its own image is refused: {error}"
    return _wrong_map(attempt, target)


def _path(attempt: Attempt) -> str:
    source = attempt.subject.source
    return source if source.startswith("/vsi") or ":" in source else str(attempt.folder / source)


_CHECKS: Mapping[str, Callable[[Attempt], str]] = {
    "segment": _check_map,
    "polygonize": _check_polygons,
    "recode": _check_recoded,
    "info": _check_info,
    "change": _check_change,
    "train": _check_run,
}
