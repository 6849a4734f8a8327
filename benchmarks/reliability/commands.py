"""The commands that faults are tried on, small enough to be run thousands of times, and what they have to leave."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.reliability.isolation import Ended, Limits, run_function
from benchmarks.reliability.scenes import fields, write_raster

_SIDE_PX = 96
_LEFT = 380_000.0
_UNDISTURBED_S = 600.0
_BLOCK_PX = 40
"""Of a map; small, so that a small scene has many blocks to be stopped between."""

_SEGMENT = "segment {inputs}/scene.tif --model {inputs}/model.safetensors --out labels.tif"
TRAIN = (
    "train orthophotos-hp --out run --set data.images={inputs}/scene.tif --set data.patches=8 --set data.patch_px=32 "
    "--set classes.count=3 --set train.epochs=2 --set train.batch_size=4 --set train.device=cpu "
    "--set train.checkpoint_minutes=0 --set train.compare_kmeans=false"
)
_HP = (
    "--set method.pool_size=8 --set method.code_channels=8 --set method.warmup_steps=1 --set method.renew_interval=1 "
    "--set train.cache=disk --set train.cache_dir=cache"
)
_LINES = {
    "segment": _SEGMENT,
    "segment with products": f"{_SEGMENT} --confidence c.tif --probabilities q.tif --polygons p.gpkg --qml --stac",
    "segment a folder": "segment {inputs}/tiles --classes 3 --out-dir maps --qml",
    **{
        f"polygonize {suffix}": "polygonize {inputs}/labels.tif --confidence {inputs}/confidence.tif --qml "
        f"--out p.{suffix}"
        for suffix in ("gpkg", "parquet", "fgb", "geojson")
    },
    "change": "change {inputs}/scene.tif {inputs}/later.tif --model {inputs}/model.safetensors --out change.tif "
    "--polygons c.gpkg --matrix m.csv --qml",
    "legend": "legend {inputs}/labels.tif --reference {inputs}/reference.gpkg --field class --out l.yaml",
    "recode a map": "recode {inputs}/labels.tif --legend {inputs}/l.yaml --out r.tif --qml",
    "recode a model": "recode {inputs}/model.safetensors --legend {inputs}/l.yaml --out m.safetensors",
    "probe": "probe {inputs}/model.safetensors {inputs}/scene.tif --reference {inputs}/reference.gpkg --field class "
    "--out m.safetensors",
    "view": "view {inputs}/labels.tif --scene {inputs}/scene.tif --out v.html",
    "prepare": "prepare cocostuff27.yaml --set data.root={inputs}/coco --out crops",
    "train k-means": f"{TRAIN} --set method.name=kmeans",
    "train hp": f"{TRAIN} {_HP}",
}
"""Every command that writes, in an empty folder; ``{inputs}`` is :func:`inputs`."""
_UNLIKE = re.compile(r"events\.out\.tfevents|report\.html$|record\.json$|labels\.json$")
"""Names of files that hold times: they have to be there."""
_PASSING = ("last_change", "update_time", "id")
"""Columns of a GeoPackage's own tables that tell when, or how often, something was written."""
_OWN = ("sqlite_", "rtree_")
"""What its internal tables begin with."""

_SIZES: dict[Command, Mapping[str, int]] = {}


@dataclass(frozen=True)
class Command:
    """A command of geohp that is run in an empty folder.

    Attributes:
        name: for people.
        arguments: of ``geohp``; ``{inputs}`` stands for :func:`inputs`.
    """

    name: str
    arguments: tuple[str, ...]

    @property
    def verb(self) -> str:
        """What ``geohp`` calls it."""
        return self.arguments[0]

    @property
    def output(self) -> str:
        """The first file or folder that it makes."""
        return next(after for word, after in pairwise(self.arguments) if word in ("--out", "--out-dir"))

    @property
    def takes_overwrite(self) -> bool:
        """Whether its outputs are files that it can be told to replace."""
        return self.verb not in ("train", "prepare") and "--out-dir" not in self.arguments

    def but(self, *further: str, output: str | None = None) -> Command:
        """The same with further arguments, or another output."""
        words = (output if output is not None and word == self.output else word for word in self.arguments)
        return Command(self.name, (*words, *further))

    def run(
        self,
        folder: Path,
        limits: Limits | None = None,
        before: Callable[[], None] | None = None,
        *,
        said: Path | None = None,
    ) -> Ended:
        """Run it in a fork.

        Args:
            folder: where its outputs go.
            limits: of time and memory.
            before: called in the fork before all else.
            said: beside this path what it says is collected; by default beside the folder.
        """
        # A training that has a checkpoint goes on by another command.
        arguments = ("train", "--resume", "run") if self.has_checkpoint(folder) else self.arguments
        words = [word.replace("{inputs}", str(inputs())) for word in arguments]

        def command() -> None:
            from geohp.cli.app import main

            os.chdir(folder)
            for name, module in list(sys.modules.items()):
                if name.startswith("geohp.") and hasattr(module, "BLOCK_PX"):
                    module.BLOCK_PX = _BLOCK_PX
            os.environ.update((limits or Limits()).environment or {})
            sys.argv = ["geohp", *words]
            if before is not None:
                before()
            main()

        return run_function(command, said or folder, limits or Limits())

    @staticmethod
    def has_checkpoint(folder: Path) -> bool:
        """Whether a training in this folder can be gone on with."""
        return (folder / "run" / "unfinished" / "checkpoint.ckpt").is_file()

    def is_complete(self, ended: Ended) -> bool:
        """Whether a run has made all there is to make, or an earlier one had."""
        done = ("exists already", "is finished", "has a layer")
        return ended.code == 0 or (ended.refused and any(word in ended.err for word in done))


def commands() -> tuple[Command, ...]:
    """All of them."""
    return tuple(Command(name, tuple(line.split())) for name, line in _LINES.items())


def contents(folder: Path) -> dict[str, object]:
    """What lies in a folder, hidden files too, by its path; of files that hold times what else they hold."""
    # Of folders those that are empty; a link is what it says.
    files = sorted(p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir() or not any(p.iterdir()))
    return {_name(path, folder): _content(path) for path in files}


def difference(expected: Mapping[str, object], actual: Mapping[str, object]) -> str:
    """In which files two folders differ, in words; empty where they do not."""
    missing, further = expected.keys() - actual.keys(), actual.keys() - expected.keys()
    other = [name for name in expected.keys() & actual.keys() if expected[name] != actual[name]]
    kinds = (("missing", missing), ("left over", further), ("other content", other))
    return "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds if names)


def pixels(content: object) -> bytes:
    """Of a raster's bytes, without tags, which name the folder of its input."""
    with rasterio.MemoryFile(content) as memory, memory.open() as dataset:
        return bytes(dataset.read().tobytes())


def half_made(command: Command, folder: Path, expected: Mapping[str, object], old: object = None) -> str:
    """What a command has left that is neither whole nor as it was, in words; empty where there is nothing.

    Hidden folders hold what can be gone on with. A run folder is whole when its model is there, a prepared one when its
    manifest says so.
    """
    if command.verb in ("train", "prepare"):
        return ""
    for name, content in contents(folder).items():
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if not hidden and content not in (old, expected.get(name)):
            return f"{name} is neither old nor whole"
    return ""


@cache
def expected_contents(command: Command) -> Mapping[str, object]:
    """What a command leaves that nothing disturbs."""
    with tempfile.TemporaryDirectory(prefix="undisturbed-") as folder:
        case = Path(folder) / "case"
        case.mkdir()
        ended = command.run(case, Limits(_UNDISTURBED_S))
        if ended.code:
            raise RuntimeError(f"{command.name} undisturbed: {ended.err}")
        _SIZES[command] = {str(path): path.stat().st_size for path in case.rglob("*") if path.is_file()}
        return contents(case)


def sizes(command: Command) -> Mapping[str, int]:
    """Bytes of the files that a command leaves, by name."""
    expected_contents(command)
    return _SIZES[command]


@cache
def usual_seconds(command: Command) -> float:
    """How long a command takes undisturbed."""
    expected_contents(command)
    with tempfile.TemporaryDirectory(prefix="usual-") as folder:
        case = Path(folder) / "case"
        case.mkdir()
        return command.run(case, Limits(_UNDISTURBED_S)).seconds


def _name(path: Path, folder: Path) -> str:
    name = str(path.relative_to(folder))
    return re.sub(r"(events\.out\.tfevents).*", r"\1", name)


def _content(path: Path) -> object:
    if path.is_symlink():
        return str(path.readlink())
    if path.is_dir() or path.is_fifo() or _UNLIKE.search(path.name):
        return None
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # the journal of a database's draft goes with the first look at that
        return None
    if content.startswith(b"SQLite format 3\0"):
        return _tables(path)
    if path.suffix == ".safetensors" and len(content) > 8:
        return _header_and_weights(content)
    return content


def _header_and_weights(content: bytes) -> object:
    """A file of weights; the entries of its header come in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        return json.loads(content[8:end]), content[end:]
    except ValueError:
        return content


def _tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of a database but for what tells of its history."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: _rows(database, name) for name in names if not name.startswith(_OWN)}


def _rows(database: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    cursor = database.execute(f'SELECT * FROM "{table}"')
    kept = [number for number, column in enumerate(cursor.description) if column[0] not in _PASSING]
    return sorted((tuple(row[number] for number in kept) for row in cursor), key=repr)


@cache
def inputs() -> Path:
    """A folder of small inputs, made once a process and removed with it."""
    folder = Path(tempfile.mkdtemp(prefix="reliability-inputs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # forks leave without it
    # In a fork: threads that computing starts here would be missing in the forks that commands run in.
    ended = run_function(lambda: _fill(folder), folder, Limits(300))
    if ended.code:
        raise RuntimeError(f"inputs cannot be made: {ended.err}")
    return folder


def _fill(folder: Path) -> None:
    _write_scenes(folder)
    _write_reference(folder / "reference.gpkg")
    _write_coco(folder / "coco")
    from geohp.inference.map_scene import segment_file

    segmenter = _write_model(folder)
    segment_file(folder / "scene.tif", folder / "labels.tif", segmenter, confidence=folder / "confidence.tif")
    (folder / "l.yaml").write_text("{0: water, 1: wood, 2: water}\n")


def _write_model(folder: Path) -> Path:
    from geohp.inference.map_options import ModelOptions
    from geohp.inference.segment import resolve_segmenter
    from geohp.model.file import save_model

    segmenter = resolve_segmenter(folder / "scene.tif", ModelOptions(classes=3))
    return save_model(segmenter.model, folder / "model.safetensors")


def _write_scenes(folder: Path) -> None:
    (folder / "tiles").mkdir()
    for seed, name in enumerate(("scene", "later", "tiles/west", "tiles/east")):
        left = _LEFT + (_SIDE_PX / 2 if name == "tiles/east" else 0)
        write_raster(folder / f"{name}.tif", fields(seed, _SIDE_PX)[0], left, tiled=True, blockxsize=32, blockysize=32)


def _write_reference(path: Path) -> None:
    import geopandas
    from shapely.geometry import box

    top = 5_800_000
    squares = [box(_LEFT + x, top - y - 8, _LEFT + x + 8, top - y) for x in (0, 16, 32) for y in (0, 16, 32)]
    classes = ["water", "wood", "field"] * 3
    geopandas.GeoDataFrame({"class": classes}, geometry=squares, crs="EPSG:32633").to_file(path)


def _write_coco(root: Path, images: int = 2) -> None:
    """Photographs in the layout of COCO-Stuff."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, name in (("train2017", "Coco164kFull_Stuff_Coarse"), ("val2017", "Coco164kFull_Stuff_Coarse_7")):
        for folder in ("images", "annotations", "curated"):
            (root / folder / part).mkdir(parents=True)
        ids = [f"{number:012}" for number in range(images)]
        for text in ids:
            pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / part / f"{text}.jpg")
            Image.fromarray(pixels[..., 0] % 182).save(root / "annotations" / part / f"{text}.png")
        (root / "curated" / part / f"{name}.txt").write_text("".join(f"{text}\n" for text in ids))
