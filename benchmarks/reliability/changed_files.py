"""Inputs that are removed, cut, overwritten or replaced while they are read, or between stopping and going on.

The result is that of the old file or of the new one, or there is a sentence; never half of one and half of the other.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import TRAIN, Command, contents, inputs, pixels
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part, Record
from benchmarks.reliability.scenes import fields, write_raster

_SIDE_PX = 96
_LINES = {
    "segment": ("scene.tif", "segment {here}/scene.tif --window 32 --model {inputs}/model.safetensors "
                "--out labels.tif"),
    "segment a folder": ("scene.tif", "segment {here}/scene.tif {inputs}/tiles/east.tif --window 32 --model "
                         "{inputs}/model.safetensors --out-dir maps"),
    "model": ("model.safetensors", "segment {inputs}/scene.tif --window 32 --model {here}/model.safetensors "
              "--out labels.tif"),
    "polygonize": ("labels.tif", "polygonize {here}/labels.tif --out p.geojson"),
    "recode": ("labels.tif", "recode {here}/labels.tif --legend {inputs}/l.yaml --out r.tif"),
    "change": ("scene.tif", "change {here}/scene.tif {inputs}/later.tif --model {inputs}/model.safetensors "
               "--out c.tif --matrix m.csv"),
    "change of maps": ("labels.tif", "change {here}/labels.tif {inputs}/labels.tif --out c.tif --matrix m.csv"),
}  # fmt: skip
"""What changes, and the command that reads it."""
_FURTHER = {
    "change of maps, the new one": ("labels.tif", "change {inputs}/labels.tif {here}/labels.tif --out c.tif "
                                    "--matrix m.csv --polygons c.geojson"),
    "legend": ("labels.tif", "legend {here}/labels.tif --reference {inputs}/reference.gpkg --field class --out l.yaml"),
    "reference": ("labels.tif", "legend {inputs}/labels.tif --reference {here}/labels.tif --out l.yaml"),
}  # fmt: skip
"""The same, numbered after those."""
_TRAINED = {"train": ("scene.tif", f"{TRAIN} --set method.name=kmeans".replace("{inputs}", "{here}"))}
"""The same once more: what changes while it is surveyed or its patches are read."""
_ALL = _LINES | _FURTHER | _TRAINED
_MADE = (".tif", ".geojson", ".csv", ".yaml")
_HOW = ("removed", "cut", "overwritten", "replaced", "touched back")
_WHEN = ("under way", "after a kill", "after a kill with the clock set back")
_KINDS = len(_HOW) * len(_WHEN)


def case(number: int) -> Case:
    """A command, what becomes of its input, and when."""
    draw, lines, place = random.Random(f"changed-files {number}"), _LINES, number
    for later in (_FURTHER, _TRAINED):
        if place >= len(lines) * _KINDS:
            lines, place = later, place - len(lines) * _KINDS
    name, rest = list(lines)[place % len(lines)], place // len(lines)
    how, when = _HOW[rest % len(_HOW)], _WHEN[rest // len(_HOW) % len(_WHEN)]
    return Case(f"{name}: {lines[name][0]} {how} {when}", lambda folder: _attack(name, how, when, folder, draw))


def _attack(name: str, how: str, when: str, folder: Path, draw: random.Random) -> Outcome:
    file, _ = _ALL[name]
    here = folder.with_name("here")
    here.mkdir()
    target = shutil.copy2(_versions()[0] / file, here / file)
    os.utime(target, (time.time() - 1000,) * 2)
    command = _command(name, here)
    at_read = partial(_at_read, draw.randrange(1, 7), surveys=name in _TRAINED)
    if when == "under way":
        ended = command.run(folder, Limits(120), at_read(lambda: _change(Path(target), how)))
    else:
        killed = command.run(folder, Limits(120), at_read(lambda: os.kill(os.getpid(), 9)))
        if killed.code == 0:
            return Outcome("right", "complete before it could be killed")
        _change(Path(target), how)
        ended = command.run(folder, Limits(120), _clock_set_back if "clock" in when else None)
    measures = {"noticed": float(ended.code == 2), "seconds": ended.seconds}
    if ended.broke or ended.code not in (0, 2) or ended.traceback:
        return Outcome("failed", f"code {ended.code}{ended.broke}: {ended.err.strip()[-700:]}", measures)
    possible = [_result(name, version) for version in (0, 1)]
    made = _made(name, folder)
    visible = {
        path: content for path, content in made.items() if not any(part.startswith(".") for part in Path(path).parts)
    }
    whole = [_comparable(result) for result in possible]
    if ended.code == 0 and _comparable(visible) not in whole:
        return Outcome("failed", "neither the old file's nor the new one's", measures)
    if ended.code == 0:
        return Outcome("right", "", measures)
    for path, content in _comparable(visible).items():
        if content not in [result.get(path) for result in whole]:
            return Outcome("failed", f"{path} is neither old nor new: {ended.err.strip()[-300:]}", measures)
    return Outcome("refused", ended.err.strip().splitlines()[-1][:400], measures)


def _change(path: Path, how: str) -> None:
    """Do something to an input."""
    other = (_versions()[1] / path.name).read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "overwritten":
        path.write_bytes(other)
    elif how == "replaced":
        beside = path.with_name("beside")
        beside.write_bytes(other)
        beside.replace(path)
    else:  # the same again, in the future: a clock that was wrong
        os.utime(path, (time.time() + 10**6,) * 2)


def _at_read(number: int, act: Callable[[], None], *, surveys: bool = False) -> Callable[[], None]:
    """Have something done as a raster is read for that many times; looks at all of it count where it is surveyed."""

    def install() -> None:
        from geohp.raster.read.labels import LabelRaster
        from geohp.raster.read.scene import Scene

        reads = 0

        def counting(function: Callable[..., Any]) -> Callable[..., Any]:
            def read(*arguments: Any, **options: Any) -> Any:
                nonlocal reads
                reads += 1
                if reads == number:
                    act()
                return function(*arguments, **options)

            return read

        Scene.read = counting(Scene.read)  # type: ignore[method-assign]
        if surveys:
            Scene.thumbnail = counting(Scene.thumbnail)  # type: ignore[method-assign]
        LabelRaster.read = counting(LabelRaster.read)  # type: ignore[method-assign]

    return install


def _clock_set_back() -> None:
    plain = time.time
    time.time = lambda: plain() - 10**6


@cache
def _versions() -> tuple[Path, Path]:
    """Two folders with the same names of files, the first as :func:`inputs` has them."""
    other = inputs() / "other"
    other.mkdir()
    write_raster(other / "scene.tif", fields(7, _SIDE_PX)[0], tiled=True, blockxsize=32, blockysize=32)
    line = "segment {inputs}/other/scene.tif --model {inputs}/model.safetensors --out other/labels.tif"
    made = Command("other", tuple(line.split())).run(inputs())
    line = "recode {inputs}/model.safetensors --legend {inputs}/l.yaml --out other/model.safetensors"
    made = made if made.code else Command("other", tuple(line.split())).run(inputs())
    if made.code:
        raise RuntimeError(f"inputs cannot be made: {made.err}")
    return inputs(), other


@cache
def _result(name: str, version: int) -> Mapping[str, object]:
    """What a command makes of a version of its input that nothing happens to."""
    place = inputs() / f"result-{name.replace(' ', '-')}-{version}"
    (place / "here").mkdir(parents=True)
    (place / "case").mkdir()
    file, _ = _ALL[name]
    shutil.copy2(_versions()[version] / file, place / "here" / file)
    ended = _command(name, place / "here").run(place / "case")
    if ended.code:
        raise RuntimeError(f"{name} undisturbed: {ended.err}")
    return _made(name, place / "case")


def _made(name: str, folder: Path) -> dict[str, object]:
    """What a command has made in a folder that tells whether it is of the old file or of the new one."""
    of_training = name in _TRAINED
    suffixes = (".safetensors",) if of_training else _MADE
    made = {path: content for path, content in contents(folder).items() if path.endswith(suffixes)}
    # Of models the weights: what they were trained on is named in their headers.
    return {path: content[1] for path, content in made.items() if isinstance(content, tuple)} if of_training else made


def _comparable(files: Mapping[str, object]) -> dict[str, object]:
    """Pixels of rasters, and the bytes of all else."""
    return {name: pixels(content) if name.endswith(".tif") else content for name, content in files.items()}


def _command(name: str, here: Path) -> Command:
    return Command(name, tuple(_ALL[name][1].replace("{here}", str(here)).split()))


def _figures(records: Sequence[Record]) -> str:
    noticed = sum(record.outcome.measures.get("noticed", 0) > 0 for record in records)
    return f"{noticed} changes noticed, the others did no harm"


PART = Part(
    "changed-files", "inputs removed, cut, overwritten or replaced under way", case,
    len(_ALL) * _KINDS, _figures,
)  # fmt: skip
