"""Much of everything: scenes, polygons, classes, pixels, images, areas of interest."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.reliability.isolation import Limits, run_function
from benchmarks.reliability.part import Case, Outcome, Part, Record
from benchmarks.reliability.scenes import fields, write_raster
from benchmarks.reliability.usage import Usage, slope, usage

SCENES = 2000
_CHUNK = 100
_SCENE_PX = 128
_WARM_UP = 3
"""Measurements that slopes leave out."""
_MOST_MB = 2.0
"""Growth of memory for 1,000 scenes that may be the allocator's; more is a leak."""
_LEAST_MOMENTS = 20
"""Measurements after the first ones without which growth and chance look alike."""
_LIMITS = Limits(seconds=7200, memory_mb=4096)
_RESULT = "measures.json"
_FILLED = ((0, 0), (1_000, 2_000), (100_000, 100_000), (150_000, 30_000), (199_488, 199_488))
_FILLED_PX = 512

Measures = dict[str, float]
Work = Callable[[], Measures]
"""Something that is done in the folder it finds itself in, raises AssertionError where a result is wrong, and gives
figures by name."""


class GrowthError(AssertionError):
    """Something grows.

    Attributes:
        measures: all slopes, also of what does not.
    """

    def __init__(self, growing: Sequence[str], measures: Measures) -> None:
        super().__init__(f"{', '.join(growing)} for 1,000 scenes")
        self.measures = measures


def growth(scenes: Sequence[int], held: Mapping[str, Sequence[Usage]], results_mb: float = 0.0) -> Measures:
    """Slopes for 1,000 scenes with their errors.

    Args:
        scenes: how many were done at each moment.
        held: what was held then, by what the names of measures begin with.
        results_mb: what the results of 1,000 scenes take, for which the caller has asked: memory may grow by it.

    Raises:
        GrowthError: something grows.
    """
    x = [number / 1000 for number in scenes[_WARM_UP:]]
    measures: Measures = {}
    growing = []
    for who, name in product(held, ("trimmed_mb", "handles", "threads", "temporary")):
        line = slope(x, [asdict(moment)[name] for moment in held[who][_WARM_UP:]])
        limit = _MOST_MB + results_mb if name == "trimmed_mb" else 0.5
        if len(x) >= _LEAST_MOMENTS and line.grows and line.value > limit:
            growing.append(f"{who}{name} grows by {line}")
        measures |= {f"{who}{name}_slope": line.value, f"{who}{name}_error": line.error}
    if growing:
        raise GrowthError(growing, measures)
    return measures


def _write_scenes(count: int) -> list[Path]:
    """So many scenes: copies of eight."""
    Path("scenes").mkdir()
    first = [write_raster(Path(f"scenes/{n:05}.tif"), fields(n, _SCENE_PX)[0]) for n in range(min(8, count))]
    copies = [Path(f"scenes/{n:05}.tif") for n in range(len(first), count)]
    for number, path in enumerate(copies):
        shutil.copy(first[number % len(first)], path)
    return [*first, *copies]


def _model(classes: int = 4) -> Path:
    """A model file: classes found on a scene."""
    from geohp.inference.map_options import ModelOptions
    from geohp.inference.segment import resolve_segmenter
    from geohp.model.file import save_model

    scene = write_raster(Path("model.tif"), fields(3, 512)[0])
    return save_model(resolve_segmenter(scene, ModelOptions(classes=classes)).model, Path("model.safetensors"))


def scenes_one_by_one(count: int = SCENES) -> Measures:
    """Every scene by a call of its own, with everything that can be made of it."""
    import geohp

    scenes, model, numbers, held = _write_scenes(min(count, 8)), _model(), [], []
    for number in range(count):
        out = Path(f"{number}.tif")
        geohp.segment_file(
            scenes[number % len(scenes)], out, model, confidence=f"{number}_c.tif", polygons=f"{number}.gpkg", qml=True
        )
        if number % max(1, count // 40) == 0:
            numbers.append(number)
            held.append(usage())
    _check_alike([Path(f"{number}.tif") for number in range(count)], len(scenes))
    return growth(numbers, {"": held})


def scenes_as_a_folder(count: int = SCENES) -> Measures:
    """All scenes by one call."""
    import geohp

    scenes, model, numbers, held = _write_scenes(count), _model(), [], []

    def progress(stage: str, done: int, total: int, detail: str = "") -> None:
        if stage == "segmenting" and done == total and (number := int(Path(detail).stem)) % max(1, count // 40) == 0:
            numbers.append(number)
            held.append(usage())

    result = geohp.segment_files(scenes, "maps", model=model, products=["polygons"], progress=progress)
    assert not result.failed, result.failed
    _check_alike([Path("maps") / scene.name for scene in scenes], 8)
    results_mb = _deep_bytes(result.maps) / count * 1000 / 2**20
    return growth(numbers, {"": held}, results_mb) | {"results_mb": results_mb}


def _deep_bytes(values: Iterable[object]) -> int:
    """What values take with all that they alone hold: no modules, classes, and paths, which were there before."""
    seen: dict[int, int] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) not in seen and not isinstance(value, (type, ModuleType, Path)):
            seen[id(value)] = sys.getsizeof(value)
            waiting += gc.get_referents(value)
    return sum(seen.values())


def scenes_by_dask(count: int = SCENES) -> Measures:
    """All scenes by two workers, in forty calls: what client and workers hold after each."""
    import geohp
    from geohp.inference.cluster.connection import connect

    scenes, model, numbers = _write_scenes(count), _model(), []
    held: dict[str, list[Usage]] = {}
    step = max(1, count // 40)
    with connect(workers=2) as client:
        for first in range(0, count, step):
            maps = geohp.segment_files(scenes[first : first + step], f"maps{first}", model=model, client=client)
            assert not maps.failed, maps.failed
            numbers.append(first + step)
            for number, used in enumerate([usage(), *client.run(usage).values()]):
                held.setdefault("worker_" if number else "client_", []).append(used)
    held["worker_"] = held["worker_"][::2]
    _check_alike([Path(f"maps{n - n % step}") / scene.name for n, scene in enumerate(scenes)], 8)
    return growth(numbers, held)


def _check_alike(maps: Sequence[Path], period: int) -> None:
    """Maps of the same pixels are the same."""
    first = [rasterio.open(path).read() for path in maps[:period]]
    assert all((labels < 255).all() for labels in first)
    for number, path in enumerate(maps):
        with rasterio.open(path) as dataset:
            assert (dataset.read() == first[number % period]).all(), path


def million_polygons(side: int = 1000) -> Measures:
    """Every pixel a polygon of its own."""
    import geohp

    rows, cols = np.indices((side, side))
    values = (2 * (rows % 2) + cols % 2).astype(np.uint8)[None]
    degrees = {"crs": "EPSG:4326", "transform": from_origin(14, 52, 1e-5, 1e-5)}
    labels = write_raster(Path("labels.tif"), values, **degrees)
    count = geohp.polygonize_file(labels, "polygons.gpkg")
    with closing(sqlite3.connect("polygons.gpkg")) as database:
        stored, pixels, area = database.execute(
            "select count(*), sum(n_pixels), sum(area_m2) from landcover"
        ).fetchone()
    assert count == stored == pixels == side**2, (count, stored, pixels)
    expected = _true_area_m2(labels)
    assert abs(area / expected - 1) < 1e-6, (area, expected)
    return {"polygons": count}


def _true_area_m2(path: Path) -> float:
    """Of a raster in degrees, by geodesics so short that they follow its edge."""
    from pyproj import Geod

    with rasterio.open(path) as raster:
        left, bottom, right, top = raster.bounds
    share = np.linspace(0, 1, 101)[:-1]
    x = [left + share * (right - left), right + 0 * share, right - share * (right - left), left + 0 * share]
    y = [top + 0 * share, top - share * (top - bottom), bottom + 0 * share, bottom + share * (top - bottom)]
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(np.concatenate(x), np.concatenate(y))
    return abs(float(area))


def many_classes(classes: int, side_px: int = 512) -> Measures:
    """A map of so many classes, through all that is made of one."""
    import geohp

    image, truth = _palette_scene(classes, side_px)
    scene, reference = write_raster(Path("scene.tif"), image), write_raster(Path("reference.tif"), truth[None])
    result = geohp.segment_file(
        scene, "labels.tif", classes=classes, backbone="rcf", polygons="polygons.gpkg", qml=True, confidence="c.tif"
    )
    with rasterio.open("labels.tif") as dataset:
        labels = dataset.read(1)
    assert len(result.classes) == classes, len(result.classes)
    assert labels.max() < classes
    naming = geohp.name_classes("labels.tif", reference, out="legend.yaml")
    geohp.recode_file("labels.tif", "named.tif", naming.legend)
    with closing(sqlite3.connect("polygons.gpkg")) as database:
        pixels = dict(database.execute("select class_id, sum(n_pixels) from landcover group by class_id").fetchall())
    assert pixels == {int(v): int(n) for v, n in zip(*np.unique(labels, return_counts=True), strict=True)}
    style = Path("labels.qml").read_text()
    page = geohp.view("labels.tif", scene).path.read_text()
    assert all(entry.name in page and entry.name in style for entry in result.classes)
    return {"occurring": float(len(pixels))}


def _palette_scene(colours: int, side_px: int) -> tuple[Any, Any]:
    """Fields of so many colours, with a little noise; and which of 8 groups they belong to."""
    rng = np.random.default_rng(0)
    kinds = (np.arange((side_px // 16) ** 2) % colours).reshape(side_px // 16, -1)
    kinds = rng.permuted(kinds.ravel()).reshape(kinds.shape).repeat(16, 0).repeat(16, 1)
    image = rng.integers(1, 255, (colours, 3))[kinds].transpose(2, 0, 1) + rng.integers(-2, 3, (3, side_px, side_px))
    return np.clip(image, 1, 255).astype(np.uint8), (kinds % 8).astype(np.uint8)


def mostly_empty(*, virtual: bool, side: int = 200_000) -> Measures:
    """A scene of 200,000 x 200,000 px of which little is there, as a sparse GeoTIFF or a virtual raster."""
    import geohp
    from geohp.cli.app import app

    scene = (_virtual if virtual else _sparse)(side)
    app(["info", str(scene)], standalone_mode=False)
    result = geohp.segment_file(scene, "labels.tif", classes=4, confidence="confidence.tif")
    filled = len(_places(side)) * _FILLED_PX**2
    assert sum(area.pixels for area in result.areas) == filled, result.areas
    geohp.polygonize_file("labels.tif", "polygons.gpkg", min_area_m2=4)
    with closing(sqlite3.connect("polygons.gpkg")) as database:
        pixels, count = database.execute("select sum(n_pixels), count(*) from landcover").fetchone()
    assert pixels == filled, (pixels, filled)
    geohp.view("labels.tif", scene)
    size = sum(path.stat().st_size for path in Path().glob("*.tif"))
    return {"polygons": count, "megabytes": size / 1e6}


def _places(side: int) -> list[tuple[int, int]]:
    return [(row, col) for row, col in _FILLED if max(row, col) + _FILLED_PX <= side]


def _sparse(side: int) -> Path:
    size = {"width": side, "height": side, "count": 3, "dtype": "uint8", "nodata": 0}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True}
    place = {"crs": "EPSG:32633", "transform": from_origin(380_000, 5_800_000, 0.5, 0.5), "bigtiff": "YES"}
    with rasterio.open("scene.tif", "w", driver="GTiff", **size, **tiles, **place) as out:
        for number, (row, col) in enumerate(_places(side)):
            out.write(fields(number, _FILLED_PX)[0], window=Window(col, row, _FILLED_PX, _FILLED_PX))
    return Path("scene.tif")


def _virtual(side: int) -> Path:
    sources = dict.fromkeys((1, 2, 3), "")
    for number, (row, col) in enumerate(_places(side)):
        write_raster(Path(f"part{number}.tif"), fields(number, _FILLED_PX)[0])
        size = f'xSize="{_FILLED_PX}" ySize="{_FILLED_PX}"'
        rectangle = f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{col}" yOff="{row}" {size}/>'
        for band in sources:
            name = f'<SourceFilename relativeToVRT="1">part{number}.tif</SourceFilename><SourceBand>{band}</SourceBand>'
            sources[band] += f"<SimpleSource>{name}{rectangle}</SimpleSource>"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>0</NoDataValue>{text}</VRTRasterBand>'
        for band, text in sources.items()
    )
    place = "<SRS>EPSG:32633</SRS><GeoTransform>380000, 0.5, 0, 5800000, 0, -0.5</GeoTransform>"
    Path("scene.vrt").write_text(f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{place}{bands}</VRTDataset>')
    return Path("scene.vrt")


def many_images(count: int = 20_000) -> Measures:
    """A training on a folder of so many images."""
    import geohp

    _write_scenes(count)
    settings = ["data.images=scenes", "data.patches=64", "data.patch_px=64", "method.code_channels=16"]
    run = geohp.train(
        "orthophotos-hp",
        [*settings, "method.pool_size=24", "classes.count=4", "train.max_steps=2", "train.epochs=1"],
        out="run",
    )
    assert run.model.is_file()
    return {"images": count}


def many_areas(count: int = 10_000) -> Measures:
    """An area of interest of so many polygons: every second of a chessboard's fields."""
    import geopandas
    import shapely

    import geohp

    side = int(np.ceil(np.sqrt(2 * count)))
    px = 8
    scene = write_raster(Path("scene.tif"), fields(0, side * px)[0])
    rows, cols = (part[(np.indices((side, side)).sum(0) % 2) == 0][:count] for part in np.indices((side, side)))
    x, y = 380_000 + cols * px / 2, 5_800_000 - rows * px / 2
    areas = geopandas.GeoDataFrame(geometry=shapely.box(x, y - px / 2, x + px / 2, y), crs="EPSG:32633")
    areas.to_file("areas.gpkg")
    result = geohp.segment_file(scene, "labels.tif", classes=4, aoi="areas.gpkg", polygons="polygons.gpkg")
    assert sum(area.pixels for area in result.areas) == count * px**2, result.areas
    inside = geohp.polygonize("labels.tif", aoi="areas.gpkg")
    assert inside["n_pixels"].sum() == count * px**2
    return {"areas": count}


CASES: Mapping[str, Work] = {
    f"{SCENES:,} scenes one by one in one process": scenes_one_by_one,
    f"{SCENES:,} scenes as a folder": scenes_as_a_folder,
    f"{SCENES:,} scenes by dask": scenes_by_dask,
    "a million polygons": million_polygons,
    "50 classes": partial(many_classes, 50),
    "254 classes": partial(many_classes, 254),
    "200,000 x 200,000 px, sparse GeoTIFF": partial(mostly_empty, virtual=False),
    "200,000 x 200,000 px, virtual": partial(mostly_empty, virtual=True),
    "training on a folder of 20,000 images": many_images,
    "10,000 areas of interest": many_areas,
}


def attempt(work: Work, folder: Path, limits: Limits = _LIMITS) -> Outcome:
    """Do some work in a fork, in a folder of its own."""

    def job() -> None:
        os.chdir(folder)
        # Workers get it from the environment. Inside /tmp others come and go.
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
        Path(tempfile.tempdir).mkdir()
        try:
            measures = work()
        except GrowthError as error:
            Path(_RESULT).write_text(json.dumps(error.measures))
            raise
        Path(_RESULT).write_text(json.dumps(measures))

    ended = run_function(job, folder, limits)
    measures = {"seconds": ended.seconds, "peak_mb": ended.peak_mb}
    if (folder / _RESULT).exists():
        measures |= json.loads((folder / _RESULT).read_text())
    if ended.code or ended.broke:
        return Outcome("failed", ended.broke or (ended.err.strip().splitlines() or ["?"])[-1][:300], measures)
    return Outcome("right", measures=measures)


def _case(number: int) -> Case:
    name = list(CASES)[number]
    return Case(name, lambda folder: attempt(CASES[name], folder))


def _figures(records: Sequence[Record]) -> str:
    texts = []
    for record in records:
        measures = record.outcome.measures
        text = f"{record.case}: {measures['seconds']:.0f} s, {measures['peak_mb']:.0f} MiB"
        slopes = [name for name in measures if name.endswith("_slope")]
        grown = [
            f"{name.removesuffix('_slope')} {measures[name]:+.2f} ± {measures[name.replace('_slope', '_error')]:.2f}"
            for name in slopes
        ]
        texts.append(text + (f" (for 1,000 more, memory in MiB: {', '.join(grown)})" if grown else ""))
    return "; ".join(texts)


PART = Part("load", "Much of everything", _case, len(CASES), _figures)
