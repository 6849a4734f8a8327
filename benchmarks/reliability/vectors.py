"""Polygons that people draw, programs write and disks damage: as areas of interest, as references, as labels.

Where a shape says which pixels it means, the result is held against a count by hand: a pixel lies in a polygon where a
line from its centre crosses the rings an odd number of times.
"""
# ruff: noqa: E501 - files and shapes written out

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
from numpy.typing import NDArray

from benchmarks.reliability.isolation import Limits, run_command, run_function
from benchmarks.reliability.mutations import mutate
from benchmarks.reliability.part import Case, Outcome, Part, case_of_kinds
from benchmarks.reliability.specimens import CRS, ORIGIN, PIXEL_M, SCENE_PX, TINY, specimens
from benchmarks.reliability.verdicts import judge, usual_figures
from geohp.comparison.transitions import NODATA
from geohp.legend.file import Legend

_LIMITS = Limits(seconds=300)
_NAME = "wood"  # the class of all polygons
Command = str  # "segment", "polygonize", "change", "train", "legend", "labels", "probe"


# --- shapes ------------------------------------------------------------------------------------------------------


def _ring(*corners: tuple[float, float]) -> str:
    """A closed ring from columns and rows of the scene."""
    places = ((ORIGIN[0] + col * PIXEL_M, ORIGIN[1] - row * PIXEL_M) for col, row in (*corners, corners[0]))
    return f"({', '.join(f'{x!r} {y!r}' for x, y in places)})"


def _square(col: float, row: float, side: float) -> str:
    return _ring((col, row), (col + side, row), (col + side, row + side), (col, row + side))


_A, _B, _HOLE = _square(10.1, 10.2, 40.33), _square(30.3, 30.1, 40.27), _square(20.1, 20.2, 10.33)
_BOW = _ring((10.1, 10.2), (70.3, 60.1), (70.3, 10.2), (10.1, 60.1))
_SPIKE = _ring((10.1, 10.2), (50.1, 10.2), (50.1, 40.2), (90.1, 40.2), (50.1, 40.2), (50.1, 60.2), (10.1, 60.2))
_THIN = _ring((5.1, 5.1), (120.3, 90.2), (120.301, 90.2))
_FAR = "(0 0, 1 0, 1 1, 0 1, 0 0)"
_XY = f"{ORIGIN[0]} {ORIGIN[1]}"

SHAPES: Mapping[str, tuple[str, ...]] = {
    "a square": (f"POLYGON ({_A})",),
    "a square with a hole": (f"POLYGON ({_A}, {_HOLE})",),
    "two squares that overlap": (f"POLYGON ({_A})", f"POLYGON ({_B})"),
    "a multipolygon whose parts overlap": (f"MULTIPOLYGON (({_A}), ({_B}))",),
    "a multipolygon of twins": (f"MULTIPOLYGON (({_A}), ({_A}))",),
    "a multipolygon of a part within another": (f"MULTIPOLYGON (({_A}), ({_HOLE}))",),
    "a bow tie": (f"POLYGON ({_BOW})",),
    "a spike": (f"POLYGON ({_SPIKE})",),
    "a hole outside": (f"POLYGON ({_A}, {_square(60.1, 60.1, 10.2)})",),
    "a hole across the edge": (f"POLYGON ({_A}, {_square(45.1, 20.1, 15.2)})",),
    "a hole of the whole": (f"POLYGON ({_A}, {_A})",),
    "a hole twice": (f"POLYGON ({_A}, {_HOLE}, {_HOLE})",),
    "a ring of three corners": ("POLYGON (" + _ring((10.1, 10.1), (90.2, 20.1)) + ")",),
    "a ring of one place": ("POLYGON (" + _ring((10.1, 10.1), (10.1, 10.1), (10.1, 10.1)) + ")",),
    "corners doubled": ("POLYGON (" + _ring(*[(10.1, 10.2)] * 5, *[(60.1, 12.2)] * 5, (30.1, 70.2)) + ")",),
    "a sliver": (f"POLYGON ({_THIN})",),
    "beside the scene": (f"POLYGON ({_FAR})",),
    "much larger than the scene": (f"POLYGON ({_square(-1e6, -1e6, 3e6)})",),
    "the other way round": (f"POLYGON ({_ring((10.1, 10.2), (10.1, 50.2), (50.1, 50.2), (50.1, 10.2))})",),
    "less than a pixel": (f"POLYGON ({_square(10.1, 10.2, 0.3)})",),
    "with a height": ("POLYGON Z (" + _A.replace(",", " 7,").replace(")", " 7)") + ")",),
    "with a measure": ("POLYGON M (" + _A.replace(",", " 7,").replace(")", " 7)") + ")",),
    "with both": ("POLYGON ZM (" + _A.replace(",", " 7 8,").replace(")", " 7 8)") + ")",),
    "with heights of NaN": ("POLYGON Z (" + _A.replace(",", " nan,").replace(")", " nan)") + ")",),
    "empty": ("POLYGON EMPTY",),
    "empty beside a square": ("POLYGON EMPTY", f"POLYGON ({_A})"),
    "an empty part": (f"MULTIPOLYGON (({_A}), EMPTY)",),
    "an empty collection": ("GEOMETRYCOLLECTION EMPTY",),
    "a collection": (f"GEOMETRYCOLLECTION (POLYGON ({_A}), POINT ({_XY}))",),
    "collections within": (f"GEOMETRYCOLLECTION (GEOMETRYCOLLECTION (POLYGON ({_A})), POINT ({_XY}))",),
    "a point": (f"POINT ({_XY})",),
    "a line": (f"LINESTRING ({_XY}, {ORIGIN[0] + 20} {ORIGIN[1] - 20})",),
    "a line beside a square": (f"LINESTRING ({_XY}, {ORIGIN[0] + 20} {ORIGIN[1] - 20})", f"POLYGON ({_A})"),
    "a point beside a square": (f"POINT ({_XY})", f"POLYGON ({_A})"),
    "a curve": (f"CIRCULARSTRING ({_XY}, {ORIGIN[0] + 9} {ORIGIN[1] - 9}, {ORIGIN[0] + 18} {ORIGIN[1]})",),
    "a polygon of curves": (
        f"CURVEPOLYGON (CIRCULARSTRING ({ORIGIN[0] + 10} {ORIGIN[1] - 20}, {ORIGIN[0] + 20} {ORIGIN[1] - 10}, "
        f"{ORIGIN[0] + 30} {ORIGIN[1] - 20}, {ORIGIN[0] + 20} {ORIGIN[1] - 30}, {ORIGIN[0] + 10} {ORIGIN[1] - 20}))",
    ),
    "a compound curve": (
        "CURVEPOLYGON (COMPOUNDCURVE ((5 5, 5 0, 0 0, 0 5), CIRCULARSTRING (0 5, 2.5 7.5, 5 5)))",
    ),
    "several surfaces": (f"MULTISURFACE (POLYGON ({_A}))",),
    "a TIN": (f"TIN ((({_XY}, {ORIGIN[0] + 30} {ORIGIN[1]}, {ORIGIN[0]} {ORIGIN[1] - 30}, {_XY})))",),
    "a polyhedron": (f"POLYHEDRALSURFACE (({_A}))",),
    "a triangle": (f"TRIANGLE (({_XY}, {ORIGIN[0] + 30} {ORIGIN[1]}, {ORIGIN[0]} {ORIGIN[1] - 30}, {_XY}))",),
    "a corner of NaN": ("POLYGON ((nan nan, 380010 5799990, 380020 5799980, nan nan))",),
    "one NaN": (f"POLYGON (({_XY}, 380010 nan, 380020 5799980, {_XY}))",),
    "infinity": (f"POLYGON (({_XY}, inf 5799990, 380020 5799980, {_XY}))",),
    "1e308": ("POLYGON ((-1e308 -1e308, 1e308 -1e308, 1e308 1e308, -1e308 1e308, -1e308 -1e308))",),
    "1e308 beside a square": ("POLYGON ((0 0, 1e308 0, 1e308 1e308, 0 0))", f"POLYGON ({_A})"),
    "1e-320": ("POLYGON ((0 0, 1e-320 0, 1e-320 1e-320, 0 0))",),
    "2,000 holes": ("POLYGON (" + ", ".join([_square(1.1, 1.2, 90.3), *(
        _square(3.1 + 2 * (i % 44), 3.2 + 2 * (i // 44), 1.2) for i in range(1_900))]) + ")",),
    "1,000 parts": ("MULTIPOLYGON (" + ", ".join(
        f"({_square(3.1 + 3 * (i % 32), 3.2 + 3 * (i // 32), 2.2)})" for i in range(900)) + ")",),
    "nothing": (),
}  # fmt: skip


def inside(wkts: Sequence[str], finer: int = 1) -> NDArray[np.bool_] | None:
    """Which pixels of the scene, or parts of pixels, polygons mean; ``None`` where they are not plain ones."""
    mask = np.zeros([side * finer for side in SCENE_PX], bool)
    for wkt in wkts:
        if (
            not re.match(r"(MULTI)?POLYGON( Z| M| ZM)? ?\(", wkt)
            or re.search("nan|inf|e308|EMPTY", wkt)
            or f"{_A}, {_A}" in wkt
            or f"{_HOLE}, {_HOLE}" in wkt
        ):
            return None
        for polygon in re.findall(r"\((\([^()]*\)(?:, *\([^()]*\))*)\)", wkt):
            mask |= _odd([_corners(ring) for ring in re.findall(r"\(([^()]*)\)", polygon)], finer)
    return mask if wkts else None


def _corners(ring: str) -> NDArray[np.float64]:
    places = np.array([[float(number) for number in corner.split()[:2]] for corner in ring.split(",")])
    return (places - ORIGIN) * (1 / PIXEL_M, -1 / PIXEL_M)


def _odd(rings: Sequence[NDArray[np.float64]], finer: int) -> NDArray[np.bool_]:
    """Pixels from whose centre a line to the right crosses rings an odd number of times."""
    rows, cols = (np.mgrid[: finer * SCENE_PX[0], : finer * SCENE_PX[1]] + 0.5) / finer
    odd = np.zeros(rows.shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if y0 != y1:
                crosses = (y0 > rows) != (y1 > rows)
                odd ^= crosses & (cols < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return odd


# --- files ---------------------------------------------------------------------------------------------------------

FORMATS = ("vrt", "gpkg", "geojson", "shp", "fgb", "parquet", "gml", "kml", "sqlite", "csv")


def write_shapes(folder: Path, wkts: Sequence[str], suffix: str) -> Path:
    """A file of polygons with a field ``kind``; what a format cannot hold goes into a VRT over a table of WKT."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = shapely.from_wkt(np.array(wkts, object), on_invalid="raise")
            frame = geopandas.GeoDataFrame({"kind": [_NAME] * len(wkts)}, geometry=list(shapes), crs=CRS)
            path = folder / f"shapes.{suffix}"
            if suffix in ("vrt", "csv"):
                raise ValueError
            if suffix == "parquet":
                frame.to_parquet(path)
            else:
                driver = {"kml": "KML", "gml": "GML", "sqlite": "SQLite"}.get(suffix)
                frame.to_crs("EPSG:4326" if suffix == "kml" else CRS).to_file(path, driver=driver)
            return path
    except Exception:  # whatever library does not take it
        return _as_table(folder, wkts)


def _as_table(folder: Path, wkts: Sequence[str]) -> Path:
    lines = ["kind,WKT", *(f'{_NAME},"{wkt}"' for wkt in wkts)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    path = folder / "shapes.vrt"
    path.write_text(
        '<OGRVRTDataSource><OGRVRTLayer name="table"><SrcDataSource relativeToVRT="1">table.csv</SrcDataSource>'
        f"<LayerSRS>{CRS}</LayerSRS><GeometryType>wkbUnknown</GeometryType>"
        '<GeometryField encoding="WKT" field="WKT"/><Field name="kind"/></OGRVRTLayer></OGRVRTDataSource>'
    )
    return path


@cache
def sound_file(suffix: str) -> Path:
    """An undamaged file, with what belongs to it beside it, in a folder of its own."""
    folder = specimens().folder / f"sound-{suffix}"
    folder.mkdir()
    return write_shapes(folder, SHAPES["two squares that overlap"] * 20, suffix)


# --- commands -------------------------------------------------------------------------------------------------------


def attack(command: Command, folder: Path, path: str | Path, mask: NDArray[np.bool_] | None, *more: str) -> Outcome:
    """Give a file to a command, and hold what comes of it against the pixels that are meant.

    Args:
        command: which, and so in which part.
        folder: to work in.
        path: the file.
        mask: pixels that it means; ``None`` where nobody can say.
        more: options.
    """
    made, out = specimens(), folder / {"legend": "legend.yaml", "polygonize": "out.gpkg"}.get(command, "out.tif")
    run, scene = folder / "run", made.scene
    train = [
        "train",
        "orthophotos-hp",
        *(word for s in TINY[1:] for word in ("--set", s)),
        "--set",
        f"data.images={scene}",
    ]
    arguments: Mapping[Command, list[str | Path]] = {
        "segment": ["segment", scene, "--model", made.run, f"--aoi={path}", "--out", out],
        "polygonize": ["polygonize", made.labels, f"--aoi={path}", "--out", out],
        "change": ["change", made.labels, made.later, f"--aoi={path}", "--out", out],
        "train": [*train, f"--aoi={path}", "--out", run],
        "labels": [*train, "--set", f"data.labels={json.dumps([str(path)])}", "--out", run],
        "legend": ["legend", made.labels, f"--reference={path}", "--out", out],
        "probe": ["probe", scene, "--model", made.run, f"--reference={path}", "--out", out.with_suffix(".safetensors")],
    }
    outputs = {"train": [run], "labels": [run], "probe": [out.with_suffix(".safetensors")]}.get(command, [out])
    wrong = {
        "segment": _wrong_labels, "polygonize": _wrong_polygons, "legend": _wrong_legend, "change": _wrong_change,
    }.get(command)  # fmt: skip
    ended = run_command([*arguments[command], *more], folder, _LIMITS)
    return judge(ended, outputs, lambda: "" if wrong is None or mask is None else wrong(out, mask))


def _wrong_labels(path: Path, mask: NDArray[np.bool_]) -> str:
    with rasterio.open(path) as labels, rasterio.open(specimens().labels) as whole:
        values, expected = labels.read(1), whole.read(1)
    differ = (values != 255) != mask
    if differ.any():
        return f"{int(differ.sum())} pixels inside and outside are not those that are meant ({int(mask.sum())})"
    return "" if np.array_equal(values[mask], expected[mask]) else "other labels inside than without an area"


def _wrong_change(path: Path, mask: NDArray[np.bool_]) -> str:
    """Nothing has changed between a map and its copy, inside."""
    with rasterio.open(path) as change, rasterio.open(specimens().labels) as labels:
        values, expected = change.read(1), labels.read(1).astype(int)
        base = int(change.tags()["GEOHP_CHANGE_CODE"].split()[0])
    differ = (values != NODATA) != mask
    if differ.any():
        return f"{int(differ.sum())} pixels inside and outside are not those that are meant ({int(mask.sum())})"
    return "" if np.array_equal(values[mask], (base + 1) * expected[mask]) else "change between a map and its copy"


def _wrong_polygons(path: Path, mask: NDArray[np.bool_]) -> str:
    area = geopandas.read_file(path, layer="landcover").area.sum() / PIXEL_M**2
    meant = mask.mean() * SCENE_PX[0] * SCENE_PX[1]
    return "" if abs(area - meant) <= 0.02 * meant + 20 else f"{area:.0f} pixels' area, where {meant:.0f} are meant"


def _wrong_legend(path: Path, mask: NDArray[np.bool_]) -> str:
    with rasterio.open(specimens().labels) as labels:
        values = labels.read(1)
    legend = Legend.read(path)
    named, meant = set(legend.labels), set(values[mask].tolist()) - {255}
    if {entry.name for entry in legend.classes} - {_NAME}:
        return f"names {[entry.name for entry in legend.classes]}"
    return "" if named == meant else f"names the labels {named}, where {meant} lie in the polygons"


# --- the cases ------------------------------------------------------------------------------------------------------

_COMMANDS = ("polygonize", "legend", "segment", "change")


def _shape(number: int) -> Case:
    place, times = number % len(SHAPES), number // len(SHAPES)
    name, wkts = list(SHAPES.items())[place]
    command, suffix = _COMMANDS[times], FORMATS[(place + 3 * times) % len(FORMATS)]

    def run(folder: Path) -> Outcome:
        mask = inside(wkts, 7 if command == "polygonize" else 1)
        return attack(command, folder, write_shapes(folder, wkts, suffix), mask)

    return Case(f"shape: {name} as {suffix} for {command}", run)


def _mutated(number: int) -> Case:
    """Bytes of a sound file are others, those of its companions too."""
    rng = random.Random(f"vectors mutated {number}")
    suffix, command = FORMATS[number % len(FORMATS)], ("legend", "polygonize")[number // len(FORMATS) % 2]

    def run(folder: Path) -> Outcome:
        source = sound_file(suffix)
        shutil.copytree(source.parent, folder, dirs_exist_ok=True)
        files = sorted(path for path in folder.iterdir() if path.stat().st_size)
        victim = folder / source.name if rng.random() < 0.5 else rng.choice(files)
        victim.write_bytes(mutate(victim.read_bytes(), rng)[1])
        return attack(command, folder, folder / source.name, None)

    return Case(f"mutated {suffix} {number} for {command}", run)


# attributes of references


def _frame(**columns: Any) -> geopandas.GeoDataFrame:
    squares = [shapely.from_wkt(f"POLYGON ({_square(5.1 + 40 * i, 10.2, 35.3)})") for i in range(3)]
    return geopandas.GeoDataFrame(
        {name: pd.Series(values) for name, values in columns.items()}, geometry=squares, crs=CRS
    )


ATTRIBUTES: Mapping[str, Callable[[], geopandas.GeoDataFrame]] = {
    "NaN": lambda: _frame(kind=[np.nan, 1.0, 2.0]),
    "only NaN": lambda: _frame(kind=[np.nan] * 3),
    "infinity": lambda: _frame(kind=[np.inf, -np.inf, 1.0]),
    "1e308": lambda: _frame(kind=[1e308, 5e-324, -0.0]),
    "2^63": lambda: _frame(kind=[2**63 - 1, -(2**63), 0]),
    "fractions": lambda: _frame(kind=[0.1, 0.2, 0.30000000000000004]),
    "nothing": lambda: _frame(kind=[None, None, None]),
    "nothing and texts": lambda: _frame(kind=[None, "a", "b"]),
    "truth": lambda: _frame(kind=[True, False, True]),
    "dates": lambda: _frame(kind=pd.to_datetime(["2024-01-31", "1800-01-01", None])),
    "dates with zones": lambda: _frame(kind=pd.to_datetime(["2024-01-31T10:00Z"] * 3)),
    "bytes": lambda: _frame(kind=[b"abc", b"\0\xff", b""]),
    "lists": lambda: _frame(kind=[["a"], ["b", "c"], []]),
    "mappings": lambda: _frame(kind=[{"a": 1}, {}, None]),
    "blanks": lambda: _frame(kind=["", " ", "\t"]),
    "blanks around": lambda: _frame(kind=[" a", "a ", "a\u00a0"]),
    "line breaks": lambda: _frame(kind=["a\nb", "a\r\nb", "a\u2028b"]),
    "control characters": lambda: _frame(kind=["\x1b[31mred\x1b[0m", "bell\a", "del\x7f"]),
    "right to left": lambda: _frame(kind=["\u202egnp.exe", "\u200bzero", "\ufeffmark"]),
    "the same twice": lambda: _frame(kind=["é", "e\u0301", "É"]),
    "markup": lambda: _frame(kind=["<script>alert(1)</script>", "[red]x[/red]", "&amp;"]),
    "SQL": lambda: _frame(kind=["'; DROP TABLE x; --", '"', "\\"]),
    "paths": lambda: _frame(kind=["../../x", "/etc/passwd", "~"]),
    "formats": lambda: _frame(kind=["{option}", "%s%n", "{0.__class__}"]),
    "YAML": lambda: _frame(kind=["*a", "!!python/name:os", "- x: {y"]),
    "words of YAML": lambda: _frame(kind=["no", "null", "1e5"]),
    "a text of 10 MB": lambda: _frame(kind=["x" * 10_000_000, "b", "c"]),
    "texts of 100 kB": lambda: _frame(kind=["x" * 100_000, "y" * 100_000, "z"]),
    "other text of 10 MB": lambda: _frame(kind=["a", "b", "c"], note=["x" * 10_000_000, "", ""]),
    "2,000 columns": lambda: _frame(kind=["a", "b", "c"], **{f"c{i}": [0.5, 1.5, 2.5] for i in range(1_900)}),
    "no columns": lambda: _frame(),
    "two candidates": lambda: _frame(kind=["a", "b", "c"], sort=["a", "b", "c"]),
    "quotes in a field": lambda: _frame(**{'ki"nd': ["a", "b", "c"]}),
    "a reserved word": lambda: _frame(**{"SELECT": ["a", "b", "c"]}),
    "a field called fid": lambda: _frame(fid=["a", "b", "c"]),
    "a field of blanks": lambda: _frame(**{"the kind": ["a", "b", "c"]}),
    "a field of Unicode": lambda: _frame(**{"ключ🌲": ["a", "b", "c"]}),
    "a field of markup": lambda: _frame(**{"<b>[red]{0}": ["a", "b", "c"]}),
    "a field of 500 characters": lambda: _frame(**{"k" * 500: ["a", "b", "c"]}),
    "a field called geometry": lambda: _frame(kind=["a", "b", "c"]).rename_geometry("kind2"),
    "300 classes": lambda: pd.concat([_frame(kind=[f"{i}a", f"{i}b", f"{i}c"]) for i in range(100)]),
    "categories": lambda: _frame(kind=pd.Categorical(["a", "b", "a"])),
    "complex mixture": lambda: _frame(kind=["1", "1.0", "01"]),
}


def _attribute(number: int) -> Case:
    place, times = number % len(ATTRIBUTES), number // len(ATTRIBUTES)
    name, make = list(ATTRIBUTES.items())[place]
    suffix = ("gpkg", "parquet", "geojson", "shp", "fgb")[(place + times) % 5]

    def run(folder: Path) -> Outcome:
        frame, path = make(), folder / f"shapes.{suffix}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
        except Exception:  # what a format cannot hold goes in by Python
            return _in_python(frame, folder)
        return attack("legend", folder, path, None)

    return Case(f"attribute: {name} as {suffix}", run)


def _in_python(frame: Any, folder: Path) -> Outcome:
    from benchmarks.reliability.verdicts import refusing
    from geohp.legend.naming import name_classes

    out = folder / "legend.yaml"
    ended = run_function(refusing(lambda: name_classes(specimens().labels, frame, out=out)), folder, _LIMITS)
    return judge(ended, [out], lambda: "" if Legend.read(out).classes else "no classes")


# coordinate reference systems

SYSTEMS: Mapping[str, str | None] = {
    "none": None,
    "degrees": "EPSG:4326",
    "degrees read as metres": "EPSG:3857",
    "another zone": "EPSG:32601",
    "polar": "EPSG:3031",
    "of heights": "EPSG:5773",
    "compound": "EPSG:25832+5783",
    "geocentric": "EPSG:4978",
    "engineering": 'LOCAL_CS["here",UNIT["metre",1]]',
    "undefined": 'ENGCRS["Undefined Cartesian SRS",EDATUM["x"],CS[Cartesian,2],AXIS["e",east],AXIS["n",north],'
    'LENGTHUNIT["metre",1]]',
    "feet": "EPSG:2263",
    "of the Moon": "+proj=longlat +R=1737400 +no_defs",
    "a sphere's": "+proj=laea +lat_0=90 +R=6370997",
    "a network's": "+proj=ortho +lat_0=-60 +lon_0=170",
}


def _system(number: int) -> Case:
    place, command = number % len(SYSTEMS), _COMMANDS[number // len(SYSTEMS)]
    name, crs = list(SYSTEMS.items())[place]

    def run(folder: Path) -> Outcome:
        frame = _frame(kind=[_NAME] * 3)
        try:
            moved = frame.set_crs(crs, allow_override=True) if "read as" in name or crs is None else frame.to_crs(crs)
        except Exception:  # nothing to project: the numbers stay
            moved = frame.set_crs(crs, allow_override=True)
        path = folder / "shapes.parquet"
        moved.to_parquet(path)
        return attack(command, folder, path, None)

    return Case(f"system: {name} for {command}", run)


# files by hand


def _geojson(geometry: str, more: str = "") -> str:
    return (
        '{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "EPSG:32633"}}, "features": '
        f'[{{"type": "Feature", "properties": {{"kind": "{_NAME}"{more}}}, "geometry": {geometry}}}]}}'
    )


_SQUARE_JSON = (
    '{"type": "Polygon", "coordinates": [[[380005,5799990],[380025,5799990],[380025,5799970],[380005,5799990]]]}'
)


def _package(change: Callable[[sqlite3.Connection], object]) -> Callable[[Path], Path]:
    """A GeoPackage, changed by SQL."""

    def make(folder: Path) -> Path:
        path = Path(shutil.copy(sound_file("gpkg"), folder / "shapes.gpkg"))
        with sqlite3.connect(path) as connection:
            for function in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
                connection.create_function(function, 1, lambda _: 0.0)
            change(connection)
        connection.close()
        return path

    return make


def _text(name: str, text: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return folder / name

    return make


def _without(suffix: str, *missing: str) -> Callable[[Path], Path]:
    """A shapefile that lacks files."""

    def make(folder: Path) -> Path:
        shutil.copytree(sound_file(suffix).parent, folder, dirs_exist_ok=True)
        for each in missing:
            (folder / f"shapes.{each}").unlink()
        return folder / f"shapes.{suffix}"

    return make


def _blob(content: bytes) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute("UPDATE shapes SET geom = ?", (content,))


_GP = b"GP\0\x01" + struct.pack("<i", 32633)
_DEEP = b"".join([_GP, *(b"\x01\x07\0\0\0\x01\0\0\0" for _ in range(20_000)), b"\x01\x07\0\0\0\0\0\0\0"])
FILES: Mapping[str, Callable[[Path], Path]] = {
    "GeoJSON cut": _text("a.geojson", _geojson(_SQUARE_JSON)[:150]),
    "GeoJSON with twins": _text("a.geojson", _geojson(_SQUARE_JSON, ', "kind": "other"')),
    "GeoJSON of depth 100,000": _text("a.geojson", '{"a":' * 100_000),
    "coordinates of depth 1,000": _text("a.geojson", _geojson('{"type":"Polygon","coordinates":' + "[" * 1_000 + "]" * 1_000 + "}")),
    "properties of depth 100,000": _text("a.geojson", _geojson(_SQUARE_JSON, ', "x": ' + "[" * 100_000 + "]" * 100_000)),
    "a geometry of null": _text("a.geojson", _geojson("null")),
    "a geometry of text": _text("a.geojson", _geojson('"x"')),
    "coordinates of text": _text("a.geojson", _geojson('{"type": "Polygon", "coordinates": [[["a", "b"]]]}')),
    "coordinates of null": _text("a.geojson", _geojson('{"type": "Polygon", "coordinates": null}')),
    "coordinates of one number": _text("a.geojson", _geojson('{"type": "Polygon", "coordinates": [[[1],[2],[3],[1]]]}')),
    "coordinates of 1e400": _text("a.geojson", _geojson('{"type": "Polygon", "coordinates": [[[1e400,0],[1,0],[1,1],[1e400,0]]]}')),
    "coordinates of NaN": _text("a.geojson", _geojson('{"type": "Polygon", "coordinates": [[[NaN,0],[1,0],[1,1],[NaN,0]]]}')),
    "an unknown type": _text("a.geojson", _geojson('{"type": "Blob", "coordinates": []}')),
    "an unknown CRS": _text("a.geojson", _geojson(_SQUARE_JSON).replace("EPSG:32633", "EPSG:999999")),
    "a CRS by address": _text("a.geojson", _geojson(_SQUARE_JSON).replace('"name": "EPSG:32633"', '"href": "http://127.0.0.1:1/"')),
    "a CRS of a path": _text("a.geojson", _geojson(_SQUARE_JSON).replace("EPSG:32633", "/etc/passwd")),
    "GeoJSON in UTF-16": _text("a.geojson", _geojson(_SQUARE_JSON).encode("utf-16")),
    "GeoJSON in Latin-1": _text("a.geojson", _geojson(_SQUARE_JSON).replace(_NAME, "Gehölz").encode("latin-1")),
    "GeoJSON with a mark": _text("a.geojson", "\ufeff" + _geojson(_SQUARE_JSON)),
    "GeoJSON with half characters": _text("a.geojson", _geojson(_SQUARE_JSON).replace(_NAME, "\\ud800")),
    "GeoJSON with NUL": _text("a.geojson", _geojson(_SQUARE_JSON).replace(_NAME, "a\\u0000b")),
    "a geometry alone": _text("a.geojson", _SQUARE_JSON),
    "across the antimeridian": _text("a.geojson", '{"type": "Polygon", "coordinates": [[[170,50],[-170,50],[-170,60],[170,60],[170,50]]]}'),
    "the whole Earth": _text("a.geojson", '{"type": "Polygon", "coordinates": [[[-180,-90],[180,-90],[180,90],[-180,90],[-180,-90]]]}'),
    "beyond the Earth": _text("a.geojson", '{"type": "Polygon", "coordinates": [[[-999,-999],[999,-999],[999,999],[-999,-999]]]}'),
    "no features": _text("a.geojson", '{"type": "FeatureCollection", "features": []}'),
    "features of null": _text("a.geojson", '{"type": "FeatureCollection", "features": [null]}'),
    "a list": _text("a.geojson", "[]"),
    "nothing": _text("a.geojson", ""),
    "blanks": _text("a.geojson", " " * 1_000_000),
    "a web page": _text("a.gpkg", "<!DOCTYPE html><title>404</title>"),
    "text as a shapefile": _text("a.shp", "hello"),
    "zeros as a shapefile": _text("a.shp", bytes(100_000)),
    "a shapefile alone": _without("shp", "dbf", "shx", "prj", "cpg"),
    "a shapefile without dbf": _without("shp", "dbf"),
    "a shapefile without shx": _without("shp", "shx"),
    "a shapefile without prj": _without("shp", "prj"),
    "a shapefile without cpg": _without("shp", "cpg"),
    "a GeoPackage without contents": _package(lambda c: c.execute("DELETE FROM gpkg_contents")),
    "a GeoPackage without systems": _package(lambda c: c.execute("DELETE FROM gpkg_spatial_ref_sys")),
    "a GeoPackage without its table": _package(lambda c: c.execute("DROP TABLE shapes")),
    "a GeoPackage without columns": _package(lambda c: c.execute("DELETE FROM gpkg_geometry_columns")),
    "another application": _package(lambda c: c.execute("PRAGMA application_id = 1")),
    "another version": _package(lambda c: c.execute("PRAGMA user_version = 990000")),
    "a trigger": _package(lambda c: c.execute("CREATE TRIGGER t AFTER INSERT ON shapes BEGIN DELETE FROM shapes; END")),
    "a view": _package(lambda c: c.executescript(
        "CREATE VIEW v AS SELECT * FROM shapes; INSERT INTO gpkg_contents(table_name,data_type,identifier,srs_id) "
        "VALUES('v','features','v',32633); INSERT INTO gpkg_geometry_columns VALUES('v','geom','POLYGON',32633,0,0)")),
    "an endless view": _package(lambda c: c.executescript(
        "ALTER TABLE shapes RENAME TO s; CREATE VIEW shapes AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 "
        "FROM n WHERE i < 300000) SELECT i AS fid, (SELECT geom FROM s LIMIT 1) AS geom, 'wood' AS kind FROM n")),
    "a type that is another": _package(lambda c: c.execute("UPDATE gpkg_geometry_columns SET geometry_type_name='POINT'")),
    "a system of 999999": _package(lambda c: c.execute("UPDATE gpkg_geometry_columns SET srs_id=999999")),
    "undefined Cartesian": _package(lambda c: c.execute("UPDATE gpkg_geometry_columns SET srs_id=-1")),
    "geometries of nothing": _package(_blob(b"")),
    "geometries of text": _package(_blob(b"hello world")),
    "geometries cut": _package(_blob(_GP + b"\x01\x03\0\0\0\x01\0\0\0\x05\0\0\0" + bytes(20))),
    "2^32 rings": _package(_blob(_GP + b"\x01\x03\0\0\0\xff\xff\xff\xff" + bytes(20))),
    "2^32 corners": _package(_blob(_GP + b"\x01\x03\0\0\0\x01\0\0\0\xff\xff\xff\xff" + bytes(20))),
    "collections of depth 20,000": _package(_blob(_DEEP)),
    "an unknown type of geometry": _package(_blob(_GP + b"\x01\x63\0\0\0" + bytes(20))),
    "kinds of NULL": _package(lambda c: c.execute("UPDATE shapes SET kind = NULL")),
    "kinds of bytes": _package(lambda c: c.execute("UPDATE shapes SET kind = x'00ff'")),
    "kinds with NUL": _package(lambda c: c.execute("UPDATE shapes SET kind = 'a' || char(0) || 'b'")),
    "a CSV of points": _text("a.csv", "x,y,kind\n380010,5799990,wood\n"),
    "a CSV of WKT": _text("a.csv", f'kind,WKT\nwood,"POLYGON ({_A})"\n'),
    "a CSV of broken WKT": _text("a.csv", 'kind,WKT\nwood,"POLYGON ((1 2, 3"\n'),
    "KML": _text("a.kml", '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark><name>x</name><Polygon>'
                 "<outerBoundaryIs><LinearRing><coordinates>13.2,52.3 13.3,52.3 13.3,52.4 13.2,52.3</coordinates>"
                 "</LinearRing></outerBoundaryIs></Polygon></Placemark></Document></kml>"),
    "KML with entities": _text("a.kml", '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "' + "&a;" * 50 + '"><!ENTITY c "' + "&b;" * 50
                               + '"><!ENTITY d "' + "&c;" * 50 + '"><!ENTITY e "' + "&d;" * 50 + '">]><kml xmlns='
                               '"http://www.opengis.net/kml/2.2"><Document><name>&e;</name></Document></kml>'),
    "GML with a file": _text("a.gml", '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><gml:FeatureCollection '
                             'xmlns:gml="http://www.opengis.net/gml"><gml:name>&a;</gml:name></gml:FeatureCollection>'),
    "a VRT of itself": _text("a.vrt", '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>a.vrt</SrcDataSource>'
                             "</OGRVRTLayer></OGRVRTDataSource>"),
    "a VRT of a network": _text("a.vrt", '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>'
                                "/vsicurl/http://127.0.0.1:1/x.gpkg</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"),
    "a VRT of nothing": _text("a.vrt", "<OGRVRTDataSource/>"),
    "a folder": lambda folder: folder,
    "an empty folder": lambda folder: (folder / "a.gpkg").mkdir() or folder / "a.gpkg",
    "a link to itself": lambda folder: (folder / "a.gpkg").symlink_to(folder / "a.gpkg") or folder / "a.gpkg",
    "a device": lambda folder: Path("/dev/null"),
    "not there": lambda folder: folder / "nowhere.gpkg",
    "a name of markup": _text("[red]{option}%s.geojson", _geojson(_SQUARE_JSON)),
    "a name of Unicode": _text("\u202e\u200bÄ🌲.geojson", _geojson(_SQUARE_JSON)),
    "a name that is none": _text(b"\xff.geojson".decode("utf-8", "surrogateescape"), _geojson(_SQUARE_JSON)),
    "the scene": lambda folder: specimens().scene,
    "the model": lambda folder: specimens().model,
    "two layers": lambda folder: _two_layers(folder / "a.gpkg"),
    "a million corners": lambda folder: _circle(folder / "a.gpkg", 1_000_000, 1),
    "100,000 polygons": lambda folder: _circle(folder / "a.gpkg", 5, 100_000),
}  # fmt: skip


def _two_layers(path: Path) -> Path:
    for layer in ("one", "two"):
        _frame(kind=[_NAME] * 3).to_file(path, layer=layer)
    return path


def _circle(path: Path, corners: int, count: int) -> Path:
    """Circles around the scene's middle, or small ones all over it."""
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    rng = np.random.default_rng(0)
    middles = np.array(ORIGIN) + rng.uniform(10, 40, (count, 2)) * (1, -1)
    radius = 15 if count == 1 else 0.2
    ring = radius * np.column_stack([np.cos(turns), np.sin(turns)])
    shapes = shapely.polygons([shapely.linearrings(middle + ring) for middle in middles])
    geopandas.GeoDataFrame({"kind": [_NAME] * count}, geometry=shapes, crs=CRS).to_file(path)
    return path


def _file(number: int) -> Case:
    place, command = number % len(FILES), ("legend", "polygonize", "train", "labels")[number // len(FILES)]
    name, make = list(FILES.items())[place]

    def run(folder: Path) -> Outcome:
        inner = folder / "files"
        inner.mkdir()
        return attack(command, folder, make(inner), None)

    return Case(f"file: {name} for {command}", run)


BOXES = (
    "13.2,52.3,13.3,52.4", "1,2,3", "1,2,3,4,5", "a,b,c,d", ",,,", "nan,nan,nan,nan", "inf,inf,inf,inf", "-inf,-inf,inf,inf",
    "1e308,1e308,1e309,1e309", "10,10,10,10", "20,20,10,10", "170,50,-170,60", "-180,-90,180,90", "-999,-999,999,999",
    "0x10,1,2,3", "１,２,３,４", "1;2;3;4", "[1,2,3,4]", "", " ", "-1", "'; touch marker", "http://127.0.0.1:1/a.gpkg",
    "/vsimem/x", "PG:dbname=x", "/dev/stdin", "x" * 5_000, "\u202e", "POLYGON ((0 0, 1 0, 1 1, 0 0))",
    '{"type":"Polygon","coordinates":[]}', "MEM:::DATAPOINTER=1", "SQLITE:/etc/passwd", "ES:127.0.0.1", "WFS:http://127.0.0.1:1",
)  # fmt: skip


def _bounds(number: int) -> Case:
    text, command = BOXES[number % len(BOXES)], ("polygonize", "segment", "legend")[number // len(BOXES)]
    return Case(f"text: {text[:40]!r} for {command}", lambda folder: attack(command, folder, text, None))


def _item(**fields: object) -> dict[str, object]:
    asset = {"href": "scene.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    square = {"type": "Polygon", "coordinates": [[[13, 52], [14, 52], [14, 53], [13, 52]]]}
    return {"type": "Feature", "stac_version": "1.0.0", "id": "i", "geometry": square, "assets": {"a": asset}} | fields


def _asset(**fields: object) -> dict[str, object]:
    return _item(assets={"a": {"href": "scene.tif", "type": "image/tiff", "roles": ["data"]} | fields})


def _catalogue(*links: object, **fields: object) -> dict[str, object]:
    return {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": list(links)} | fields


_ODD: tuple[object, ...] = (None, 7, "x", [], [7], [None], {}, {"a": 7}, {"a": None}, [[]], float("nan"), True)
_HREFS = (
    "scene.tif", "../case/scene.tif", "/etc/passwd", "", ".", "a\0b", "\ud800", "x" * 9_000, "../" * 2_000, "~", "*.tif",
    "http://127.0.0.1:1/x.tif", "/vsimem/x", "file:///etc/passwd", "://", "index.json", "vrt://scene.tif", "a\nb",
    "\x1b[31m", "<script>.tif",
)  # fmt: skip
INDICES: tuple[object, ...] = (
    *(_item(**{name: value}) for name in ("geometry", "assets", "id", "type", "bbox") for value in _ODD),
    *(_asset(**{name: value}) for name in ("href", "type", "roles") for value in _ODD),
    *(_asset(href=href) for href in _HREFS), *(_catalogue({"rel": "item", "href": href}) for href in _HREFS),
    *(_catalogue(link) for link in _ODD), *(_catalogue(links=links) for links in _ODD),
    *({"type": "FeatureCollection", "stac_version": "1.0.0", "features": odd} for odd in _ODD),
    *({"type": "FeatureCollection", "features": [_item(), odd]} for odd in _ODD),
    {"type": "FeatureCollection", "stac_version": "1.0.0"}, {"stac_version": 1}, {"type": "FeatureCollection"},
    {"type": "FeatureCollection", "features": [_item()] * 3_000}, _item(geometry={"type": "Point", "coordinates": []}),
    _item(geometry={"type": "Polygon", "coordinates": [[[1e308, "x"]]]}), _catalogue({"rel": "child", "href": "index.json"}),
)  # fmt: skip
"""Documents that list images, or say that they do."""


def _index(number: int) -> Case:
    """A list of images that is none, or lists what are none."""
    rng = random.Random(f"vectors index {number}")
    document, command = INDICES[number % len(INDICES)], rng.choice(("segment", "segment", "train"))
    damaged, with_area = number >= len(INDICES), rng.random() < 0.3

    def run(folder: Path) -> Outcome:
        shutil.copy(specimens().scene, folder / "scene.tif")
        path, content = folder / "index.json", json.dumps(document).encode()
        path.write_bytes(mutate(content, rng)[1] if damaged else content)
        small = [word for setting in (*TINY[1:-1], "method.name=kmeans") for word in ("--set", setting)]
        call, out = {
            "segment": (["segment", path, "--classes", "2", "--out-dir", folder / "maps"], folder / "maps"),
            "train": (
                ["train", "orthophotos", *small, "--set", f"data.images={path}", "--out", "run"],
                folder / "run",
            ),
        }[command]
        area = [f"--aoi={sound_file('gpkg')}"] if with_area else []
        outcome = judge(run_command([*call, *area], folder, _LIMITS), [out])
        strange = {entry.name for entry in folder.iterdir()} - {path.name, "scene.tif", out.name}
        return Outcome("failed", f"wrote {strange}", outcome.measures) if strange else outcome

    return Case(f"index {json.dumps(document)[:60]!r} for {command}", run)


def _drawn(number: int) -> Case:
    """Polygons of rings that cross themselves and each other, at random places, in any format, for any command."""
    rng = random.Random(f"vectors drawn {number}")
    wkts = [_drawn_shape(rng) for _ in range(rng.choice((1, 1, 2, 5)))]
    suffix = rng.choice(FORMATS)
    command = rng.choice((*_COMMANDS, *_COMMANDS, "probe", "train", "labels"))

    def run(folder: Path) -> Outcome:
        single = all(wkt.count("((") == 1 and "), (" not in wkt for wkt in wkts)
        known = single or suffix != "shp"  # which tells holes from parts by the way they turn
        mask = inside(wkts, 7 if command == "polygonize" else 1) if known else None
        return attack(command, folder, write_shapes(folder, wkts, suffix), mask)

    return Case(f"drawn {len(wkts)} as {suffix} for {command}", run)


def _drawn_shape(rng: random.Random) -> str:
    polygons = [", ".join(_drawn_ring(rng) for _ in range(rng.choice((1, 1, 2, 3)))) for _ in range(rng.choice((1, 3)))]
    return f"POLYGON ({polygons[0]})" if len(polygons) == 1 else f"MULTIPOLYGON (({'), ('.join(polygons)}))"


def _drawn_ring(rng: random.Random) -> str:
    """Corners at random within the scene, beyond it, or within a pixel, some twice; or a square of whole pixels."""
    side = rng.choice((0.4, 5, 60, 60, 120, 300))
    left, top = rng.uniform(-20, 120), rng.uniform(-20, 90)
    if rng.random() < 0.2:  # no other shape: whether a centre on an edge lies inside is nobody's to say
        return _square(round(left), round(top), max(1, round(side)))
    corners = [(left + rng.uniform(0, side), top + rng.uniform(0, side)) for _ in range(rng.choice((3, 4, 5, 12, 40)))]
    return _ring(*(corner for corner in corners for _ in range(rng.choice((1, 1, 1, 1, 2)))))


_KINDS: tuple[tuple[int, Callable[[int], Case]], ...] = (
    (3 * len(SHAPES), _shape), (2 * len(ATTRIBUTES), _attribute), (3 * len(SYSTEMS), _system), (2 * len(FILES), _file),
    (3 * len(BOXES), _bounds), (260, _mutated), (len(SHAPES), lambda number: _shape(number + 3 * len(SHAPES))),
    (len(SYSTEMS), lambda number: _system(number + 3 * len(SYSTEMS))),
)  # fmt: skip


PART = Part(
    name="vectors",
    title="Polygons as areas, references and labels: shapes, attributes, CRS, broken files, mutated bytes",
    case=partial(case_of_kinds, _KINDS, ((0, _drawn), (1_000_000, _drawn), (260, _mutated), (0, _index))),
    count=sum(count for count, _ in _KINDS),
    figures=usual_figures,
    endless=True,
)
