"""Names that mean something elsewhere: HTML, XML, SQL, paths, terminals, formats, shells, writing directions.

They are given as class names, file and folder names, layers, attributes, tags and names of reference systems. What is
made has to parse again everywhere and give the same names back, no page may hold an element that its template has not,
and no terminal a command.
"""
# ruff: noqa: E501 - names written out

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import rasterio
import shapely

from benchmarks.reliability.isolation import Ended, Limits, run_command, run_function
from benchmarks.reliability.part import Case, Outcome, Part
from benchmarks.reliability.specimens import CRS, ORIGIN, TINY, specimens
from benchmarks.reliability.verdicts import judge, usual_figures
from geohp.classes import LandCoverClass, classes_from_json, default_classes
from geohp.legend.file import Legend

_LIMITS = Limits(seconds=300)

NAMES = (
    "<script>document.title='taken'</script>", "</script><script>alert(1)</script>", "<!--<script>",
    '"><img src=x onerror="alert(1)">', "' onmouseover='alert(1)", "<svg/onload=alert(1)>", "&lt;b&gt;&amp;&#0;",
    "]]><x/>", '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>&b;', "<style>*{display:none}</style>",
    "javascript:alert(1)", "{{ 7 * 7 }}{% raw %}", "${7*7}#{7*7}", "\\u003cscript\\u003e", "'; DROP TABLE landcover; --",
    "\" OR 1=1; --", "`x` $(touch marker)", "; touch marker #", "| touch marker", "../../marker", "/etc/passwd", "..",
    "C:\\temp\\x", "CON", "~", "%s%n%x", "{0.__class__}{option}", "{option}", "[red]x[/red]", "[link=file:///x]y[/link]",
    "[/]", "\u202eevil\u202c", "zero\u200bwidth\u2060", "\ufeffmark", "e\u0301 é", "🌲👩‍👩‍👧", "ا ب", "=HYPERLINK(\"x\")",
    "-1+1", "@SUM(A1)", "null", "true", "1e5", "0x1", "*a", "&a b", "!!python/name:os", "- x: {y", "# comment", "a: b",
    "x" * 3_000, " blanks ", "tab\there", "new\nline", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "bell\x07", "nul\x00",
    "del\x7f\x9b31m", "\u2028line",
)  # fmt: skip
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _command(*arguments: str | Path, folder: Path) -> Ended:
    return run_command(arguments, folder, _LIMITS)


# --- where names are given --------------------------------------------------------------------------------------


def _class_names(name: str, folder: Path) -> Outcome:
    """A legend with the name, and all that is made of its map."""
    entries = (LandCoverClass(0, name, "#0077bb"), LandCoverClass(1, f"{name}2", "#117733"))
    legend = folder / "legend.yaml"
    document = [{"id": e.id, "name": e.name, "colour": e.colour, "labels": [e.id]} for e in entries]
    legend.write_text(json.dumps({"classes": document}), encoding="utf-8")  # which is YAML, too
    outcome = judge(
        _command("recode", specimens().labels, "--legend", legend, "--qml", "--out", folder / "l.tif", folder=folder)
    )
    if outcome.verdict != "right":
        return outcome
    names = [entry.name for entry in Legend.read(legend).classes]
    if names != [entry.name for entry in entries]:
        return replace(outcome, verdict="failed", detail=f"the legend gives back {names}")
    return _all_of_a_map(folder, folder / "l.tif", specimens().scene, names)


def _all_of_a_map(folder: Path, labels: Path, scene: Path, names: list[str]) -> Outcome:
    """Polygons, page and JSON of a map."""
    commands: Mapping[str, list[str | Path]] = {
        "p.gpkg": ["polygonize", labels, "--out", folder / "p.gpkg"],
        "p.geojson": ["polygonize", labels, "--qml", "--out", folder / "p.geojson"],
        "page.html": ["view", labels, "--scene", scene, "--out", folder / "page.html"],
        "info": ["info", labels, "--json"],
        "plain": ["info", labels],
        "change.tif": ["change", labels, shutil.copy(labels, folder / "later.tif"), "--out", folder / "change.tif"],
    }
    outcome = Outcome("failed", "nothing was tried")
    for out, arguments in commands.items():
        ended = _command(*arguments, folder=folder)
        wrong = _CHECKS.get(Path(out).suffix, lambda path, names: "")

        def mistake(wrong: Any = wrong, out: str = out) -> str:
            return str(wrong(folder / out, names))

        outcome = judge(ended, [folder / out] if "." in out else [], mistake)
        problem = _escapes(ended) or (outcome.detail if outcome.verdict == "failed" else "")
        if problem:
            return Outcome("failed", f"{out}: {problem}", outcome.measures)
    styles = [*folder.glob("*.qml")]
    for style in styles:
        labels_of = _labels_of(style.read_text(encoding="utf-8"))
        if not set(names) <= set(labels_of):
            return Outcome("failed", f"{style.name} gives back {labels_of}")
    return outcome


def _trained_names(name: str, folder: Path) -> Outcome:
    """Names in a configuration, and the report, model, map and STAC Item of the training."""
    names = [name, f"{name}2", "c"]
    settings = [word for s in TINY[1:] for word in ("--set", s)]
    arguments = ["train", "orthophotos-hp", *settings, "--set", f"data.images={specimens().scene}",
                 "--set", f"classes.names={json.dumps(names)}", "--out", folder / "run"]  # fmt: skip
    ended = _command(*arguments, folder=folder)
    outcome = judge(ended, [folder / "run"], lambda: _wrong_page(folder / "run" / "report.html", names))
    if outcome.verdict != "right" or _escapes(ended):
        return Outcome("failed", _escapes(ended), outcome.measures) if _escapes(ended) else outcome
    arguments = ["segment", specimens().scene, "--model", folder / "run", "--stac", "--out", folder / "l.tif"]
    ended = _command(*arguments, folder=folder)
    return judge(ended, [folder / "l.json"], lambda: _escapes(ended) or _wrong_item(folder / "l.json", names))


def _foreign_map(name: str, folder: Path) -> Outcome:
    """The name in a map that another program wrote, unchecked."""
    labels = Path(shutil.copy(specimens().labels, folder / "l.tif"))
    with rasterio.open(labels, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        entries = [{"id": i, "name": f"{name}{i or ''}", "colour": default_classes(3)[i].colour} for i in range(3)]
        dataset.update_tags(1, classes=json.dumps(entries))
        dataset.update_tags(NOTE=name.replace("\0", ""))
    readable = [entry.name for entry in classes_from_json(json.dumps(entries))]
    return _all_of_a_map(folder, labels, specimens().scene, readable)


def _file_names(name: str, folder: Path) -> Outcome:
    """A scene and a folder of that name."""
    name = re.sub("[/\0]", "_", name).encode()[:200].decode(errors="ignore")
    inner = folder / f"d {name}"
    inner.mkdir()
    scene = Path(shutil.copy(specimens().scene, inner / f"{name}.tif"))
    out = inner / f"l {name}.tif"
    ended = _command("segment", scene, "--model", specimens().run, "--stac", "--out", out, folder=folder)
    outcome = judge(ended, [out], lambda: _wrong_item(out.with_suffix(".json"), []))
    if outcome.verdict == "right" and not _escapes(ended):
        page = inner / f"p {name}.html"
        ended = _command("view", out, "--scene", scene, "--out", page, folder=folder)
        outcome = judge(ended, [page], lambda: _wrong_page(page, []))
    return Outcome("failed", _escapes(ended), outcome.measures) if _escapes(ended) else outcome


def _layers(name: str, folder: Path) -> Outcome:
    """A layer of that name, and a field."""
    package = folder / "p.gpkg"
    ended = _command("polygonize", specimens().labels, f"--layer={name}", "--out", package, folder=folder)

    def wrong() -> str:
        layers = [layer for layer, _ in geopandas.list_layers(package).itertuples(index=False)]
        return "" if name in layers else f"layers {layers}"

    outcome = judge(ended, [package], wrong)
    return Outcome("failed", _escapes(ended), outcome.measures) if _escapes(ended) else outcome


def _attributes(name: str, folder: Path) -> Outcome:
    """A reference whose class is the name, in a field of that name: the legend gives it back."""
    x, y = ORIGIN
    shape = shapely.box(x + 2, y - 30, x + 60, y - 2)
    frame = geopandas.GeoDataFrame({name: [name], "other": [0.5]}, geometry=[shape], crs=CRS)
    reference, out = folder / "r.parquet", folder / "legend.yaml"
    frame.to_parquet(reference)
    arguments = ["legend", specimens().labels, "--reference", reference, f"--field={name}", "--out", out]
    ended = _command(*arguments, folder=folder)

    def wrong() -> str:
        names = [entry.name for entry in Legend.read(out).classes]
        return "" if names == [" ".join(name.split())] else f"the legend names {names}"

    outcome = judge(ended, [out], wrong)
    return Outcome("failed", _escapes(ended), outcome.measures) if _escapes(ended) else outcome


def _system(name: str, folder: Path) -> Outcome:
    """A reference system of that name."""
    plain = re.sub('["\0]', "'", name)[:200]
    wkt = rasterio.crs.CRS.from_string(CRS).to_wkt().replace("WGS 84 / UTM zone 33N", plain)
    wkt = re.sub(r',AUTHORITY\["EPSG","32633"\]\]$', "]", wkt)
    scene = Path(shutil.copy(specimens().scene, folder / "scene.tif"))
    try:
        with rasterio.open(scene, "r+") as dataset:
            dataset.crs = wkt
    except Exception:  # no name for a system
        return Outcome("refused", "rasterio does not take it")
    arguments = ["segment", scene, "--model", specimens().run, "--stac", "--polygons", folder / "p.gpkg", "--out", folder / "l.tif"]  # fmt: skip
    ended = _command(*arguments, folder=folder)
    outcome = judge(ended, [folder / "l.tif"], lambda: _wrong_item(folder / "l.json", []))
    return Outcome("failed", _escapes(ended), outcome.measures) if _escapes(ended) else outcome


def _representations(name: str, folder: Path) -> Outcome:
    """What notebooks show of results with the name."""

    def show() -> None:
        from geohp.reporting.summaries import summary

        classes = (LandCoverClass(0, name, "#0077bb"), LandCoverClass(1, name, "#117733"))
        page = summary(name, {name: name, "path": Path(f"x{name}")}, classes)
        elements = Counter(_elements(page)) - Counter(
            _elements(summary("t", {"a": "b", "path": Path("x")}, default_classes(2)))
        )
        if strange := {name for name, _ in elements} - {"tr", "td", "th", "span", "div", "table", "tbody"}:
            raise AssertionError(f"elements {strange}")

    return judge(run_function(show, folder, _LIMITS))


# --- what is right ------------------------------------------------------------------------------------------------


def _escapes(ended: Ended) -> str:
    """Whether a terminal would be commanded."""
    return next(
        (f"a terminal is told {match[0]!r}" for text in (ended.out, ended.err) if (match := _CONTROL.search(text))), ""
    )


def _labels_of(qml: str) -> list[str]:
    return [node.get("label", "") for node in ElementTree.fromstring(qml).iter() if node.get("label") is not None]


def _wrong_package(path: Path, names: list[str]) -> str:
    with closing(sqlite3.connect(path)) as database:
        if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            return "not whole"
        table = [row[0] for row in database.execute("SELECT name FROM classes ORDER BY id")]
        (style,) = database.execute("SELECT styleQML FROM layer_styles").fetchone()
    given = geopandas.read_file(path, layer="landcover")["class_name"]
    if not set(names) <= set(table) or not set(given) <= set(table):
        return f"names {table}, {sorted(set(given))}"
    return "" if set(names) <= set(_labels_of(style)) else f"its style names {_labels_of(style)}"


def _wrong_geojson(path: Path, names: list[str]) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    given = {feature["properties"]["class_name"] for feature in document["features"]}
    return "" if not names or given & set(names) else f"names {given}"


def _wrong_item(path: Path, names: list[str]) -> str:
    text = path.read_text(encoding="utf-8")
    item = json.loads(text)
    shown = json.dumps(item, ensure_ascii=False)
    missing = [name for name in names if json.dumps(name, ensure_ascii=False)[1:-1] not in shown]
    return f"the item lacks {missing[0]!r}" if missing else "" if item["type"] == "Feature" else "no item"


def _wrong_page(path: Path, names: list[str]) -> str:
    """A page with elements that the same page of harmless names has not."""
    text = path.read_text(encoding="utf-8")
    strange = {
        element for element in set(_elements(text)) - _usual_elements() if element[0] in _ACTIVE or _is_active(element)
    }
    return f"an element {sorted(strange)[0]}" if strange else ""


_ACTIVE = ("script", "img", "iframe", "object", "embed", "link", "style", "base", "meta", "form", "svg")


def _is_active(element: tuple[str, tuple[str, ...]]) -> bool:
    return any(attribute.startswith("on") for attribute in element[1])


def _elements(text: str) -> list[tuple[str, tuple[str, ...]]]:
    elements: list[tuple[str, tuple[str, ...]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            elements.append((tag, tuple(name for name, _ in attrs)))

    Reader().feed(text)
    return elements


@cache
def _usual_elements() -> frozenset[tuple[str, tuple[str, ...]]]:
    """Of a page of the viewer and of a report, with harmless names."""
    page = specimens().folder / "usual.html"
    _command("view", specimens().labels, "--scene", specimens().scene, "--out", page, folder=specimens().folder)
    texts = (page.read_text(encoding="utf-8"), (specimens().run / "report.html").read_text(encoding="utf-8"))
    return frozenset(element for text in texts for element in _elements(text))


_CHECKS: Mapping[str, Callable[[Path, list[str]], str]] = {
    ".gpkg": _wrong_package,
    ".geojson": _wrong_geojson,
    ".html": _wrong_page,
}

_PLACES: Mapping[str, tuple[Callable[[str, Path], Outcome], tuple[str, ...]]] = {
    "class of a legend": (_class_names, NAMES[::2]),
    "class of a configuration": (_trained_names, NAMES[::8]),
    "class of a foreign map": (_foreign_map, NAMES[1::4]),
    "file": (_file_names, NAMES[::2]),
    "layer": (_layers, NAMES[1::2]),
    "attribute": (_attributes, NAMES),
    "reference system": (_system, NAMES[::4]),
    "notebook": (_representations, NAMES),
}
_TRIALS = [(place, name) for place, (_, names) in _PLACES.items() for name in names]


def markup(number: int) -> Case:
    """The case of a number."""
    place, name = _TRIALS[number]

    def attack(folder: Path) -> Outcome:
        outcome = _PLACES[place][0](name, folder)
        marks = [path for path in (folder / "marker", folder.parent / "marker", Path("marker")) if path.exists()]
        return Outcome("failed", "a command ran", outcome.measures) if marks else outcome

    return Case(f"{place}: {name[:60]!r}", attack)


PART = Part(
    name="markup",
    title="Names with HTML, XML, SQL, paths, terminal escapes, formats, directions in maps, pages, styles, items, reports",
    case=markup,
    count=len(_TRIALS),
    figures=usual_figures,
)
