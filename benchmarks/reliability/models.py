"""Models, checkpoints, legends and unfinished work that are not what somebody saved.

What is accepted has to give the map, or the model, that the undamaged files give; what says something else on purpose
(cards rewritten, legends) has to give a sound label map. Nothing in a file may run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.reliability import bombs, unfinished
from benchmarks.reliability.isolation import Limits, run_command
from benchmarks.reliability.mutations import mutate
from benchmarks.reliability.part import Case, Outcome, Part, case_of_kinds
from benchmarks.reliability.specimens import ORIGIN, PIXEL_M, SCENE_PX, specimens
from benchmarks.reliability.unfinished import Unfinished
from benchmarks.reliability.verdicts import judge, usual_figures
from geohp.classes import class_mistake, classes_from_json

_LIMITS = Limits(seconds=300)

Header = dict[str, Any]


# --- model files -------------------------------------------------------------------------------------------------


def _damaged_model(number: int) -> Case:
    rng = random.Random(f"models damaged {number}")
    return _segment(f"model damaged {number}", lambda: mutate(specimens().model.read_bytes(), rng)[1], map_of="model")


def _damaged_beside(number: int) -> Case:
    """Of the model with colour beside, or of the weights of its transformer."""
    rng = random.Random(f"models damaged beside {number}")

    def content() -> bytes:
        return mutate(specimens().beside.read_bytes(), rng)[1]

    return _segment(f"model beside damaged {number}", content, map_of="beside")


HEADERS: Mapping[str, Callable[[Header, bytes], bytes]] = {
    "a length of 2^63": lambda header, data: struct.pack("<Q", 1 << 63) + data,
    "a length of 2^64 - 1": lambda header, data: b"\xff" * 8 + data,
    "a length of 0": lambda header, data: bytes(8) + data,
    "a length of 99 MB": lambda header, data: struct.pack("<Q", 99_000_000) + data,
    "a length of the file's": lambda header, data: struct.pack("<Q", len(data)) + data,
    "no JSON": lambda header, data: _packed(b"hello world", data),
    "a list": lambda header, data: _packed(b"[1, 2]", data),
    "a number": lambda header, data: _packed(b"7", data),
    "UTF-16": lambda header, data: _packed(json.dumps(header).encode("utf-16"), data),
    "NUL": lambda header, data: _packed(bytes(100), data),
    "brackets of depth 100,000": lambda header, data: _packed(b"[" * 100_000, data),
    "objects of depth 100,000": lambda header, data: _packed(b'{"a":' * 100_000, data),
    "10 MB of names": lambda header, data: _packed(_json(header | _many(100_000)), data),
    "twins": lambda header, data: _packed(_json(header)[:-1] + b"," + _json(header)[1:], data),
    "all data overlap": lambda header, data: _packed(_json({n: _moved(v, 0) for n, v in header.items()}), data),
    "data beyond the end": lambda header, data: _packed(_json(_changed(header, offset=1 << 40)), data),
    "data before the beginning": lambda header, data: _packed(_json(_changed(header, offset=-8)), data),
    "data end before they begin": lambda header, data: _packed(_json(_changed(header, data_offsets=[8, 0])), data),
    "data of a fraction": lambda header, data: _packed(_json(_changed(header, data_offsets=[0.5, 4.5])), data),
    "a shape of 2^62": lambda header, data: _packed(_json(_changed(header, shape=[1 << 62, 4])), data),
    "a shape below zero": lambda header, data: _packed(_json(_changed(header, shape=[-1, 3])), data),
    "a shape of nothing": lambda header, data: _packed(_json(_changed(header, shape=[0])), data),
    "a shape of 1,000 sides": lambda header, data: _packed(_json(_changed(header, shape=[1] * 1_000)), data),
    "a shape of text": lambda header, data: _packed(_json(_changed(header, shape="many")), data),
    "a type that there is not": lambda header, data: _packed(_json(_changed(header, dtype="F99")), data),
    "a type of eight bits": lambda header, data: _packed(_json(_changed(header, dtype="U8")), data),
    "a type of four bits": lambda header, data: _packed(_json(_changed(header, dtype="F4")), data),
    "the type of another": lambda header, data: _packed(_json(_changed(header, dtype="I32")), data),
    "no type": lambda header, data: _packed(_json(_changed(header, dtype=None)), data),
    "bytes behind the data": lambda header, data: _packed(_json(header), data + b"more"),
    "bytes missing": lambda header, data: _packed(_json(header), data[:-4]),
    "no metadata": lambda header, data: _packed(_json({n: v for n, v in header.items() if n != "__metadata__"}), data),
    "metadata of a number": lambda header, data: _packed(_json(header | {"__metadata__": 7}), data),
    "metadata of numbers": lambda header, data: _packed(_json(header | {"__metadata__": {"geohp": 7}}), data),
    "an empty card": lambda header, data: _packed(_json(header | {"__metadata__": {"geohp": ""}}), data),
    "a card of depth 100,000": lambda header, data: _packed(_json(header | _with_card("[" * 100_000)), data),
    "a card of 50 MB": lambda header, data: _packed(_json(header | _with_card('"' + "x" * 50_000_000 + '"')), data),
    "a card that is a list": lambda header, data: _packed(_json(header | _with_card("[]")), data),
    "a card that is null": lambda header, data: _packed(_json(header | _with_card("null")), data),
    "a card of NaN": lambda header, data: _packed(_json(header | _with_card("NaN")), data),
    "a card of 10^5 figures": lambda header, data: _packed(_json(header | _with_card("9" * 100_000)), data),
    "half a character": lambda header, data: _packed(_json(header | _with_card('{"method": "\\ud800"}')), data),
    "only a header": lambda header, data: _packed(_json(header), b""),
    "nothing": lambda header, data: b"",
    "eight bytes": lambda header, data: b"12345678",
    "a pickle": lambda header, data: b"\x80\x02}q\x00.",
    "a web page": lambda header, data: b"<!DOCTYPE html><title>404</title>" * 100,
    "a pointer of Git LFS": lambda header, data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


def _header(number: int) -> Case:
    name, change = list(HEADERS.items())[number]
    return _segment(f"header: {name}", lambda: change(*_sound()), map_of="model" if name == "twins" else "")


CARD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 10**9, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "x", "../../x", "\x1b[31m",
    "x" * 10_000, [], [1], ["x"], [None], {}, {"a": 1}, [[1]], "<script>alert(1)</script>", "auto", [10**9], [0.5] * 3,
    [float("nan")] * 3, "vit_giant_patch14_dinov2", "linear",
)  # fmt: skip


def _card(number: int) -> Case:
    """A card that says something else, in a file without a checksum, as they were before."""
    return _segment(f"card changed {number}", lambda: _with_changed_card(f"models card {number}", number))


def _card_beside(number: int) -> Case:
    """The same of a model with covers, clusters to spare, and colour beside a transformer's features."""

    def content() -> bytes:
        return _with_changed_card(f"models card beside {number}", number, specimens().beside, ("classes", "backbone"))

    return _segment(f"card beside changed {number}", content)


def _with_changed_card(seed: str, number: int, path: Path | None = None, sections: Sequence[str] = ()) -> bytes:
    """A model whose card says something else, also in sections of its configuration."""
    rng = random.Random(seed)
    header, data = _sound(path)
    card = json.loads(header["__metadata__"]["geohp"])
    paths: list[tuple[Any, ...]] = [*((name,) for name in card), *(("backbone", name) for name in card["backbone"])]
    paths += [("backbone", "options", name) for name in card["backbone"]["options"]]
    paths += [("classes", place, name) for place in (0, 2) for name in ("id", "name", "colour")]
    paths += [("config", section, name) for section in sections for name in card["config"][section]]
    steps, value = paths[number % len(paths)], rng.choice(CARD_VALUES)
    node: Any = card
    for step in steps[:-1]:
        node = node[step]
    if rng.random() < 0.1:
        del node[steps[-1]]
    else:
        node[steps[-1]] = value
    return _packed(_json(header | _with_card(json.dumps(card))), data)


TENSORS: Mapping[str, Callable[[dict[str, np.ndarray[Any, Any]]], None]] = {
    "all NaN": lambda tensors: _each(tensors, lambda values: values * np.nan),
    "one NaN": lambda tensors: _one(tensors, "probe.clusters", lambda values: _with(values, np.nan)),
    "one infinity": lambda tensors: _one(tensors, "head.linear.weight", lambda values: _with(values, np.inf)),
    "all zero": lambda tensors: _each(tensors, lambda values: values * 0),
    "1e38": lambda tensors: _each(tensors, lambda values: values * 0 + 1e38),
    "no clusters": lambda tensors: _one(tensors, "probe.clusters", lambda values: values[:0]),
    "a cluster less": lambda tensors: _one(tensors, "probe.clusters", lambda values: values[1:]),
    "300 clusters": lambda tensors: _one(tensors, "probe.clusters", lambda values: np.repeat(values, 100, 0)),
    "clusters of one row": lambda tensors: _one(tensors, "probe.clusters", lambda values: values[0]),
    "a number for clusters": lambda tensors: _one(tensors, "probe.clusters", lambda values: values.sum()),
    "half precision": lambda tensors: _each(tensors, lambda values: values.astype(np.float16)),
    "double precision": lambda tensors: _each(tensors, lambda values: values.astype(np.float64)),
    "whole numbers": lambda tensors: _each(tensors, lambda values: values.astype(np.int32)),
    "bytes": lambda tensors: _each(tensors, lambda values: values.astype(np.int8)),
    "complex": lambda tensors: _each(tensors, lambda values: values.astype(np.complex64)),
    "turned": lambda tensors: _each(tensors, lambda values: np.ascontiguousarray(values.T)),
    "flat": lambda tensors: _each(tensors, lambda values: values.reshape(-1)),
    "no probe": lambda tensors: tensors.__delitem__("probe.clusters"),
    "no head": lambda tensors: _drop(tensors, "head."),
    "no backbone": lambda tensors: _drop(tensors, "backbone."),
    "nothing": lambda tensors: tensors.clear(),
    "a stranger": lambda tensors: tensors.update({"head.more": np.zeros(3, np.float32)}),
    "a stranger of nowhere": lambda tensors: tensors.update({"../../x": np.zeros(3, np.float32)}),
    "an empty name": lambda tensors: tensors.update({"": np.zeros(3, np.float32)}),
    "an empty linear probe": lambda tensors: tensors.update({"linear_probe.x": np.zeros(3, np.float32)}),
    "a linear probe of text": lambda tensors: tensors.update({"linear_probe.classifier.weight": np.zeros((), "f4")}),
    "10,000 strangers": lambda tensors: tensors.update({f"head.{i}": np.zeros(1, np.float32) for i in range(10_000)}),
}


def _tensors(number: int) -> Case:
    """Tensors that are others, saved with the library that models are saved with, without a checksum."""
    name, change = list(TENSORS.items())[number]

    def content() -> bytes:
        from safetensors.numpy import load_file, save

        tensors = load_file(specimens().model)
        change(tensors)
        return bytes(save(tensors, {"geohp": _sound()[0]["__metadata__"]["geohp"]}))

    return _segment(f"tensors: {name}", content)


def _segment(name: str, content: Callable[[], bytes], *, map_of: str = "") -> Case:
    """Map the scene with a model file; as an undamaged one of that name does, or not at all."""

    def attack(folder: Path) -> Outcome:
        path, out = folder / "model.safetensors", folder / "labels.tif"
        path.write_bytes(content())
        info = judge(run_command(["info", path], folder, _LIMITS))
        if info.verdict == "failed":
            return Outcome("failed", f"info: {info.detail}", info.measures)
        arguments = ["segment", specimens().scene, "--model", path, "--out", out]
        return judge(run_command(arguments, folder, _LIMITS), [out], lambda: wrong_map(out, map_of))

    return Case(name, attack)


# --- files that are somewhere else, or run something -----------------------------------------------------------------


def _named(name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copy(specimens().model, folder / name))


def _weights(path: str) -> Callable[[Path], Path]:
    """A model whose backbone's weights are said to lie elsewhere."""

    def make(folder: Path) -> Path:
        header, data = _sound()
        card = json.loads(header["__metadata__"]["geohp"])
        card["backbone"] |= {"name": "vit_tiny_patch16_224", "weights": path, "options": {}}
        model = folder / "m.safetensors"
        model.write_bytes(_packed(_json(header | _with_card(json.dumps(card))), data))
        return model

    return make


def _linked(target: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "run").symlink_to(folder / target if target else specimens().run)
        return folder / "run"

    return make


def _inside(make: Callable[[Path], None]) -> Callable[[Path], Path]:
    """A run folder with something in the place of its model."""

    def run(folder: Path) -> Path:
        (folder / "run").mkdir()
        make(folder / "run" / "model.safetensors")
        return folder / "run"

    return run


_NAMES = (
    "m.tif", "m.pth", "m", ".safetensors", "m.SAFETENSORS", "m n.safetensors", "[red].safetensors",
    "\u202em.safetensors", "%s{option}.safetensors", "-m.safetensors", "a\nb.safetensors",
    "'; touch marker;'.safetensors", "*.safetensors", b"\xff.safetensors".decode("utf-8", "surrogateescape"),
)  # fmt: skip
_WEIGHTS = (
    "../../x", "/etc/passwd", "/dev/zero", "/dev/stdin", "", "~", "http://127.0.0.1:1/x", "hub", "random", "\0",
    "x" * 9_000,
)  # fmt: skip
PLACES: Mapping[str, Callable[[Path], Path]] = {
    **{f"named {name!r}": _named(name) for name in _NAMES},
    **{f"weights at {path[:20]!r}": _weights(path) for path in _WEIGHTS},
    "a link to a run": _linked(""),
    "a link to itself": _linked("run"),
    "a link to nothing": _linked("nowhere"),
    "a model that links to itself": _inside(lambda path: path.symlink_to(path)),
    "a folder as the model": _inside(lambda path: path.mkdir()),
    "a pipe as the model": _inside(lambda path: os.mkfifo(path)),
    "an empty model": _inside(lambda path: path.touch()),
    "a device": lambda folder: Path("/dev/null"),
    "a device without end": lambda folder: Path("/dev/zero"),
    "the scene": lambda folder: specimens().scene,
}


def _place(number: int) -> Case:
    name, make = list(PLACES.items())[number]

    def attack(folder: Path) -> Outcome:
        path, out = make(folder), folder / "labels.tif"
        arguments = ["segment", specimens().scene, f"--model={path}", "--out", out]
        outcome = judge(run_command(arguments, folder, _LIMITS), [out], lambda: wrong_map(out, "model"))
        ran = outcome.verdict != "failed" and (folder / "marker").exists()
        return Outcome("failed", "it ran a command", outcome.measures) if ran else outcome

    return Case(f"place: {name}", attack)


_COMMANDS = ("segment", "info", "import", "weights", "resume")
_SUFFIXES = (".pth", ".ckpt", ".pt", ".bin", ".safetensors")
_ARMED = [(thing, form) for thing in bombs.THINGS for form in bombs.FORMS]
_BOMBS = [
    *((f"{thing}, {form}", _SUFFIXES[i % 5], _COMMANDS[i % 5]) for i, (thing, form) in enumerate(_ARMED)),
    *((f"{thing}, {form}", ".pth", "import") for thing, form in _ARMED),
    *((name, ".pth", command) for name in bombs.ARCHIVES for command in ("import", "weights", "resume")),
]
"""Name of the bomb, suffix of its file, command that is given it."""


def _bomb(number: int) -> Case:
    name, suffix, command = _BOMBS[number]

    def attack(folder: Path) -> Outcome:
        marker, path, out = folder / "marker", folder / f"bomb{suffix}", folder / "out.safetensors"
        archived = bombs.ARCHIVES.get(name)
        path.write_bytes(archived(marker) if archived else bombs.armed_file(marker, *name.split(", ")))
        given: Mapping[str, Callable[[], list[str | Path]]] = {
            "segment": lambda: ["--model", path],
            "info": lambda: ["info", path],
            "import": lambda: ["import-checkpoint", path, "--out", out],
            "weights": lambda: ["--classes", "3", "--backbone", "vit_tiny_patch16_224", "--weights", path],
            "resume": lambda: ["train", "--resume", _run_with(path, folder)],
        }
        arguments = given[command]()
        if command in ("segment", "weights"):
            arguments = ["segment", specimens().scene, *arguments, "--out", folder / "labels.tif"]
        outcome = judge(run_command(arguments, folder, _LIMITS), [out, folder / "labels.tif"], refuse=True)
        ran = [place for place in (marker, folder.parent / marker.name) if place.exists()]
        return Outcome("failed", "the bomb went off", outcome.measures) if ran else outcome

    return Case(f"bomb: {name}{suffix} for {command}", attack)


def _run_with(checkpoint: Path, folder: Path) -> Path:
    """A run folder whose training seems to have been stopped."""
    run = folder / "run"
    (run / "unfinished").mkdir(parents=True)
    shutil.copy(specimens().run / "config.yaml", run / "config.yaml")
    shutil.copy(specimens().scene, folder / "scene.tif")
    shutil.copy(checkpoint, run / "unfinished" / "checkpoint.ckpt")
    return run


# --- legends -----------------------------------------------------------------------------------------------------

_LEGEND = (
    "classes:\n  - {id: 0, name: water, colour: '#0077bb', labels: [0, 2]}\n  - {id: 1, name: trees, labels: [1]}\n"
)
LEGENDS: Mapping[str, str | bytes] = {
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12))
    + "classes: *m\n",
    "depth 10,000": "[" * 10_000,
    "itself": "&a {0: *a}",
    "python": "{0: !!python/object/apply:os.system [touch marker]}",
    "10 MB": "".join(f"{i}: n{i}\n" for i in range(700_000)),
    "254 names": "".join(f"{i}: n{i}\n" for i in range(3)),
    "300 labels": "".join(f"{i}: n{i}\n" for i in range(300)),
    "labels below zero": "{-1: water}",
    "labels of 10^30": f"{{{10**30}: water}}",
    "labels of a fraction": "{0.5: water}",
    "labels of text": "{a: water}",
    "labels of truth": "{true: water}",
    "labels of nothing": "{~: water}",
    "labels of dates": "{2024-01-01: water}",
    "names of nothing": "{0: ~}",
    "names of lists": "{0: [water]}",
    "names of dates": "{0: 2024-01-01}",
    "names of NUL": '{0: "a\\0b"}',
    "names of escapes": '{0: "\\e[31m"}',
    "half a name": '{0: "\\ud800"}',
    "a name of 1 MB": "{0: " + "x" * 1_000_000 + "}",
    "a name of 100,000 characters": "{0: " + "x" * 100_000 + "}",
    "twins": "{0: water, 0: trees}",
    "twins in two ways": "{0: water, 0x0: trees}",
    "twin ids": "classes: [{id: 0, name: a, labels: [0]}, {id: 0, name: b, labels: [1]}]",
    "twin names": "classes: [{id: 0, name: a, labels: [0]}, {id: 1, name: a, labels: [1]}]",
    "an id of 255": "classes: [{id: 255, name: a, labels: [0]}]",
    "an id of 10^9": "classes: [{id: 1000000000, name: a, labels: [0]}]",
    "no labels": "classes: [{id: 0, name: a, labels: []}]",
    "strange labels": "classes: [{id: 0, name: a, labels: [[0]]}]",
    "a strange colour": "classes: [{id: 0, name: a, colour: 'url(javascript:x)', labels: [0]}]",
    "a colour of text": "classes: [{id: 0, name: a, colour: red, labels: [0]}]",
    "a colour of a number": "classes: [{id: 0, name: a, colour: 123456, labels: [0]}]",
    "a model that is none": f"model: x\n{_LEGEND}",
    "a model that is a number": f"model: 7\n{_LEGEND}",
    "another model": f"model: {'0' * 64}\n{_LEGEND}",
    "no classes": "classes: []",
    "classes of text": "classes: water",
    "classes by number": "classes: {0: water}",
    "more keys": _LEGEND + "more: 1\n",
    "UTF-16": _LEGEND.encode("utf-16"),
    "Latin-1": _LEGEND.replace("water", "Gewässer").encode("latin-1"),
    "a mark": b"\xef\xbb\xbf" + _LEGEND.encode(),
    "nothing": "",
    "binary": bytes(range(256)),
    "sound": _LEGEND,
}


def _legend(number: int) -> Case:
    name, text = list(LEGENDS.items())[number]
    return _recode(f"legend: {name}", text if isinstance(text, bytes) else text.encode())


def _damaged_legend(number: int) -> Case:
    kind, content = mutate(_LEGEND.encode() * 2, random.Random(f"models legend {number}"))
    return _recode(f"legend {kind} {number}", content)


def _recode(name: str, content: bytes) -> Case:
    def attack(folder: Path) -> Outcome:
        path, out = folder / "legend.yaml", folder / "out.tif"
        path.write_bytes(content)
        outcome = judge(
            run_command(["recode", specimens().labels, "--legend", path, "--out", out], folder, _LIMITS),
            [out],
            lambda: wrong_map(out),
        )
        ran = (folder / "marker").exists()
        return Outcome("failed", "it ran a command", outcome.measures) if ran else outcome

    return Case(name, attack)


# --- unfinished work ---------------------------------------------------------------------------------------------


def _resume(number: int) -> Case:
    return _go_on("resume", number, unfinished.training)


def _features(number: int) -> Case:
    return _go_on("features", number, unfinished.features)


def _mapping(number: int) -> Case:
    return _go_on("mapping", number, unfinished.mapping)


def _folder(number: int) -> Case:
    """Damage what a folder of maps remembers; its maps are there, or will be, as if nothing had been damaged."""
    return _go_on("folder", number, unfinished.folder)


def _files(name: str, **entry: object) -> str:
    return json.dumps({"files": {name: {"key": "0", "told": {}, "after": [1, 2], **entry}}})


def _noted(**notes: object) -> str:
    return json.dumps({"notes": notes})


def _areas(**area: object) -> str:
    fields = {"id": 0, "name": "a", "pixels": 1, "share": 0.5, "area_ha": 1.0, "mean_confidence": 0.5}
    return json.dumps({"areas": {"a.tif": [fields | area] * 3}})


_SCALES = (7, [], [[]], {"uint8,uint8,uint8": 7}, {"uint8,uint8,uint8": ["type", [0], [255]]})
RECORDS: tuple[str | bytes, ...] = (
    "", "7", "null", "[]", '"x"', "{}", "{", "\0" * 4_000, b"\xff\xfe", " " * 10_000_000, "[" * 100_000,
    '{"a":' * 100_000, "9" * 5_000, "9" * 400,
    '{"files": []}', '{"files": 7}', '{"files": null}', '{"files": {"a.tif": 7}}',
    '{"files": {"a.tif": {"key": "0"}}}', '{"notes": 7}', '{"notes": [1]}', '{"areas": 7}', '{"areas": {"a.tif": 7}}',
    '{"areas": {"a.tif": [7]}}', '{"format": 2}', '{"format": 1, "files": {}}', json.dumps({"files": {str(i): {
        "key": "0", "told": {}, "after": [1, 2]} for i in range(100_000)}}),
    *(_files(name) for name in ("../../x.tif", "/etc/passwd", "", ".", "..", "a\0b", "\ud800", "x" * 9_000, "~")),
    _files("a.tif", told=None), _files("a.tif", told={"labels": 7}), _files("a.tif", told={"labels": "x" * 100_000}),
    _files("a.tif", after=None), _files("a.tif", after="x"), _files("a.tif", after=[10**400]),
    _files("a.tif", key=None),
    *(_noted(origin=text) for text in (7, None, "", "x" * 100_000, "\x1b[31m", "<script>", "\ud800", "a\0b", "a\nb")),
    *(_noted(scalings=scales) for scales in _SCALES),
    *(_noted(scalings={"uint8,uint8,uint8": [rule, [0] * 3, [high] * 3]}) for rule, high in (
        ("type", float("nan")), ("type", float("inf")), ("type", "a"), ("type", None), ("type", 10**400), (7, 255),
        ("nonesuch", 255), ("\x1b[31m", 255))),
    *(_noted(reading=reading) for reading in (7, None, [None, "auto", 3])), _noted(model=7), _noted(more={"deep": [1]}),
    *(_areas(**{name: value}) for name in ("id", "name", "pixels", "share", "area_ha", "mean_confidence", "more")
      for value in (None, "x", -1, 10**400, float("nan"), [1])),
)  # fmt: skip
"""Lines that nobody writes into the record of a folder."""


def _record(number: int) -> Case:
    """A line in a folder's record, or in the place of it; the maps are sound, or it is refused."""
    line, name = RECORDS[number // 2 % len(RECORDS)], ("record.jsonl", "record.json")[number % 2]

    def attack(folder: Path) -> Outcome:
        work = unfinished.folder()
        work.restore()
        path, result = work.folder / "maps" / ".geohp" / name, work.folder / work.result
        kept = path.read_bytes() if name == "record.jsonl" else b""
        content = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
        if not kept and content[:2] in (b'{"', b"{}"):  # else it is refused for the want of this alone
            content = b'{"format": 1' + b", " * (content != b"{}") + content[1:]
        path.write_bytes(kept + content + b"\n")
        outcome = judge(run_command(work.arguments, work.folder, _LIMITS), [result], lambda: wrong_map(result))
        strange = {entry.name for entry in work.folder.iterdir()} - {"a.tif", "b.tif", "scene.tif", "maps"}
        return replace(outcome, verdict="failed", detail=f"wrote {strange}") if strange else outcome

    return Case(f"record {number}: {line[:60]!r} in {name}", attack)


def _go_on(name: str, number: int, kind: Callable[[], Unfinished]) -> Case:
    """Damage one of the files of unfinished work, and go on: the same bytes, or a refusal."""

    def attack(folder: Path) -> Outcome:
        work, rng = kind(), random.Random(f"models {name} {number}")
        work.restore()
        path = work.files[number % len(work.files)]
        if rng.random() < 0.15:
            path.unlink()
        else:
            path.write_bytes(mutate(path.read_bytes(), rng)[1])
        result = work.folder / work.result
        ended = run_command(work.arguments, work.folder, _LIMITS)

        def wrong() -> str:
            same = _comparable(result.read_bytes()) == _comparable(work.expected)
            return "" if same else f"other bytes than without damage to {path.name}"

        return judge(ended, [result], wrong)

    return Case(f"{name} {number}", attack)


def _comparable(content: bytes) -> Any:
    """A file's bytes; of a model the header apart, whose entries are in no order."""
    if content[8:9] != b"{":
        return content
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


# --- what is right ------------------------------------------------------------------------------------------------


def wrong_map(path: Path, map_of: str = "") -> str:
    """What is wrong with a map of the scene; it has to be that of an undamaged model, where one is named."""
    undamaged_map = specimens().labels_beside if map_of == "beside" else specimens().labels
    with rasterio.open(path) as labels, rasterio.open(undamaged_map) as undamaged:
        classes = classes_from_json(labels.tags(1)["classes"])
        values = labels.read(1)
        if (labels.shape, labels.dtypes[0], labels.nodata) != (SCENE_PX, "uint8", 255.0):
            return f"{labels.shape} of {labels.dtypes[0]}, nodata {labels.nodata}"
        if (labels.transform.c, labels.transform.f, labels.transform.a) != (*ORIGIN, PIXEL_M):
            return f"it lies elsewhere: {labels.transform}"
        if strange := set(np.unique(values).tolist()) - {entry.id for entry in classes} - {255}:
            return f"values without a class: {sorted(strange)[:5]}"
        if mistake := class_mistake(classes):
            return mistake
        if map_of and not np.array_equal(values, undamaged.read(1)):
            return "another map than the undamaged model's"
    return ""


def _sound(path: Path | None = None) -> tuple[Header, bytes]:
    """Header and data of an undamaged model."""
    content = (path or specimens().model).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"].pop("geohp_sha256", None)
    return header, content[8 + length :]


def _packed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _with_card(text: str) -> Header:
    return {"__metadata__": {"format": "pt", "geohp": text}}


def _many(count: int) -> Header:
    return {f"head.tensor_{i:060d}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}


def _moved(entry: Any, offset: int) -> Any:
    if "data_offsets" not in entry:
        return entry
    start, end = entry["data_offsets"]
    return entry | {"data_offsets": [offset, offset + end - start]}


def _changed(header: Header, offset: int | None = None, **fields: Any) -> Header:
    """The header with the entry of one tensor changed."""
    entry = header["probe.clusters"]
    return header | {"probe.clusters": (entry if offset is None else _moved(entry, offset)) | fields}


def _drop(tensors: dict[str, Any], prefix: str) -> None:
    for name in [name for name in tensors if name.startswith(prefix)]:
        del tensors[name]


def _each(tensors: dict[str, Any], change: Callable[[Any], Any]) -> None:
    for name, values in tensors.items():
        if values.dtype.kind == "f":
            tensors[name] = np.ascontiguousarray(change(values))


def _one(tensors: dict[str, Any], name: str, change: Callable[[Any], Any]) -> None:
    name = name if name in tensors else next(each for each in tensors if each.startswith("head."))
    tensors[name] = np.ascontiguousarray(change(tensors[name]))


def _with(values: Any, value: float) -> Any:
    values = values.copy()
    values.reshape(-1)[0] = value
    return values


_KINDS: tuple[tuple[int, Callable[[int], Case]], ...] = (
    (260, _damaged_model), (len(HEADERS), _header), (190, _card), (len(TENSORS), _tensors), (len(PLACES), _place),
    (len(_BOMBS), _bomb), (len(LEGENDS), _legend), (60, _damaged_legend), (70, _resume), (50, _features),
    (50, _mapping),
)  # fmt: skip
_DRAWN: tuple[tuple[int, Callable[[int], Case]], ...] = (
    (260, _damaged_model), (190, _card), (0, _damaged_beside), (0, _card_beside), (60, _damaged_legend), (70, _resume),
    (50, _features), (50, _mapping), (0, _folder), (0, _record), (1_000_001, _record),
)  # fmt: skip


PART = Part(
    name="models",
    title="Models, checkpoints, legends, unfinished work: cut, flipped, rewritten, renamed, armed",
    case=partial(case_of_kinds, _KINDS, _DRAWN),
    count=sum(count for count, _ in _KINDS),
    figures=usual_figures,
    endless=True,
)
