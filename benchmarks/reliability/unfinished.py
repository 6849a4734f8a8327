"""Work that was interrupted: a training, a map of several blocks, features on disk; and what it has to come to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.reliability.isolation import Limits, run_command, run_function
from benchmarks.reliability.specimens import TINY, must, specimens, write_scene

_LIMITS = Limits(seconds=600)
_TALL_PX = (2200, 64)


class _Stopped(BaseException):
    """What nothing catches."""


@dataclass(frozen=True)
class Unfinished:
    """A folder to be damaged, how to go on in it, and what comes of it when nothing is damaged.

    Attributes:
        folder: with everything that the command needs; its place is part of what the work depends on.
        arguments: of the command.
        result: the file that it makes, relative to the folder.
        expected: its bytes.
        damaged: patterns of the files that may be damaged.
    """

    folder: Path
    arguments: tuple[str, ...]
    result: str
    expected: bytes
    damaged: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """Those that may be damaged, of a folder that is as it was."""
        named = [path for pattern in self.damaged for path in sorted(self.folder.glob(pattern)) if path.is_file()]
        return [path for path in named if path.stat().st_size]

    def keep(self) -> Unfinished:
        """Remember the folder as it is."""
        shutil.copytree(self.folder, self._kept)
        return self

    def restore(self) -> None:
        """Make the folder what it was, times of change included."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder)

    @property
    def _kept(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-kept")


def settings(*further: str) -> list[str]:
    """The options of a small training."""
    return [word for setting in (*TINY, *further) for word in ("--set", setting)]


@cache
def training() -> Unfinished:
    """A training that was stopped at its third step of four."""
    folder = _folder("training")
    more = ("train.epochs=2", "train.checkpoint_minutes=0")
    must(run_command(["train", "orthophotos-hp", *settings(*more), "--out", "whole"], folder, _LIMITS))
    expected = (folder / "whole" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "whole")
    run_function(_in(folder, partial(_train_until, 3, (*TINY, *more))), folder, _LIMITS)
    return Unfinished(folder, ("train", "--resume", "run"), "run/model.safetensors", expected, ("run/**/*",)).keep()


@cache
def mapping() -> Unfinished:
    """A map of three blocks that was stopped after two."""
    folder = _folder("mapping")
    write_scene(folder / "scene.tif", _TALL_PX)
    shutil.copy(specimens().model, folder / "model.safetensors")
    arguments = ("segment", "scene.tif", "--model", "model.safetensors", "--out", "labels.tif")
    must(run_command(arguments, folder, _LIMITS))
    expected = (folder / "labels.tif").read_bytes()
    (folder / "labels.tif").unlink()
    run_function(_in(folder, partial(_map_until, 2)), folder, _LIMITS)
    return Unfinished(folder, arguments, "labels.tif", expected, (".labels.tif.geohp/*",)).keep()


@cache
def features() -> Unfinished:
    """Features that an earlier training left on disk."""
    folder = _folder("features")
    more = ("train.cache=disk", "train.cache_dir=cache")
    arguments = ("train", "orthophotos-hp", *settings(*more), "--out", "run")
    must(run_command(arguments, folder, _LIMITS))
    expected = (folder / "run" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "run")
    return Unfinished(folder, arguments, "run/model.safetensors", expected, ("cache/**/*",)).keep()


@cache
def folder() -> Unfinished:
    """A folder of two maps, and of a third that was stopped before it began."""
    place = _folder("folder")
    for name in ("a", "b"):
        write_scene(place / f"{name}.tif", (64, 96))
    arguments = ("segment", "a.tif", "b.tif", "scene.tif", "--classes", "3", "--out-dir", "maps")
    must(run_command(arguments, place, _LIMITS))
    expected = (place / "maps" / "scene.tif").read_bytes()
    shutil.rmtree(place / "maps")
    run_function(_in(place, _map_two), place, _LIMITS)
    return Unfinished(place, arguments, "maps/scene.tif", expected, ("maps/.geohp/*", "maps/.geohp/*", "maps/*")).keep()


def _folder(name: str) -> Path:
    folder = specimens().folder / name
    folder.mkdir()
    shutil.copy(specimens().scene, folder / "scene.tif")
    return folder


def _in(folder: Path, function: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        import os

        os.chdir(folder)
        try:
            function()
        except _Stopped:
            return
        raise AssertionError("it was not stopped")

    return run


def _train_until(step: int, overrides: tuple[str, ...]) -> None:
    from geohp.training.run import train

    def progress(stage: str, done: int, total: int, detail: str = "") -> None:
        if stage == "training" and done == step:
            raise _Stopped

    train("orthophotos-hp", overrides, out="run", progress=progress)


def _map_two() -> None:
    from geohp.inference.batch import segment_files
    from geohp.inference.folder_record import FolderRecord

    def progress(stage: str, done: int, total: int, detail: str = "") -> None:
        if stage == "scenes" and done == 2:
            raise _Stopped

    FolderRecord._merge = lambda self: None  # type: ignore[method-assign] # killed, it does not tidy up
    segment_files(["a.tif", "b.tif", "scene.tif"], "maps", classes=3, progress=progress)


def _map_until(blocks: int) -> None:
    from geohp.inference import rasters
    from geohp.inference.map_scene import segment_file
    from geohp.inference.segmenter import Segmenter

    whole = rasters.label_blocks

    def stopping(*arguments: Any, **options: Any) -> Any:
        for number, block in enumerate(whole(*arguments, **options)):
            if number == blocks:
                raise _Stopped
            yield block

    rasters.label_blocks = stopping
    segment_file("scene.tif", "labels.tif", Segmenter.load("model.safetensors"))
