"""Windows drawn from all over a scene, or several, wherever there is data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from geohp.errors import SceneError
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.extent import AreaScene
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.patches import THUMBNAIL_PX, Readable, read_patch, sample_origins
from geohp.raster.read.scene import Scene

SAMPLED_WINDOWS = 32
"""Most windows of a scene that the features are sampled from; a small scene needs no more than cover it."""

SAMPLED_OF_MANY = 128
"""Most windows of several scenes together, in proportion to their pixels. Of each no more patches are kept than make
as many in all as :data:`SAMPLED_WINDOWS` hold, so that any number of scenes takes the same memory."""


class Window(NamedTuple):
    """First row and column of a window of the scene of a number."""

    scene: int
    row: int
    col: int


class SampledPatch(NamedTuple):
    """Data (bands, side, side) in [0, 1], validity (side, side), and what the bands show."""

    data: np.ndarray[Any, np.dtype[np.float32]]
    valid: np.ndarray[Any, np.dtype[np.bool_]]
    colours: tuple[str | None, ...]


class SceneSampler:
    """Draws windows from a scene, or from several opened one at a time.

    Attributes:
        name: says which scenes.
        channels: how many a window has.
        bands, rule: what opens other scenes alike, and the scaling rule.
        band_request: the bands as asked for.
    """

    def __init__(
        self, scenes: Scene | SceneCollection, errors_as_nodata: bool, area: AreaOfInterest | None = None
    ) -> None:
        """Look at the scenes.

        Args:
            scenes: one that is open, or several.
            errors_as_nodata: pass over what cannot be read, as is always done with several.
            area: to draw in; everywhere by default.

        Raises:
            SceneError: none can be opened.
        """
        self._area = area
        self._errors_as_nodata = errors_as_nodata or isinstance(scenes, SceneCollection)
        self._open: list[Callable[[], AbstractContextManager[Scene]]]
        if isinstance(scenes, Scene):
            self._open = [lambda: nullcontext(scenes)]
            self._pixels = [scenes.height * scenes.width]
            self.name = scenes.path
            self.channels = len(scenes.bands)
            self.bands, self.band_request = scenes.bands_elsewhere, scenes.band_request
            self.rule = scenes.scaling.rule
            return
        if not scenes.scenes:
            raise next(iter(scenes.failed.values()), SceneError("no scenes to find classes on", "name some"))
        paths = [info.path for info in scenes.scenes]
        self._open = [lambda path=path: scenes.open(path) for path in paths]  # type: ignore[misc]
        self._pixels = [info.pixels for info in scenes.scenes]
        self.name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self.channels = len(scenes.scenes[0].stored)
        self.bands = self.band_request = scenes.bands  # as asked for: red may be another band elsewhere
        self.rule = scenes.rule

    def draw(self, side: int, rng: np.random.Generator) -> list[Window]:
        """Windows of ``side`` pixels where there is data, by scene."""
        counts = self._counts(side)
        windows = [w for number, count in enumerate(counts) if count for w in self._draw(number, side, count, rng)]
        spare = [number for number, count in enumerate(counts) if not count]
        while spare and not any(True for _ in self.read(windows, side)):  # those that were to be sampled hold no data
            windows = self._draw(spare.pop(0), side, SAMPLED_WINDOWS, rng)
        return windows

    def read(self, windows: Sequence[Window], side: int) -> Iterator[SampledPatch]:
        """The windows with valid pixels, one after the other."""
        for number, in_scene in groupby(windows, key=itemgetter(0)):
            with self._open[number]() as opened:
                scene = self._readable(opened)
                for window in in_scene:
                    data, valid = read_patch(scene, window.row, window.col, side)
                    if len(data) == self.channels and (valid.any() or not self._errors_as_nodata):
                        yield SampledPatch(data, valid, opened.band_colours)

    def _counts(self, side: int) -> list[int]:
        """How many windows to draw from each scene: in proportion to its pixels, some of many none."""
        total = sum(self._pixels)
        count = min(SAMPLED_WINDOWS if len(self._pixels) == 1 else SAMPLED_OF_MANY, math.ceil(1.5 * total / side**2))
        ends = np.cumsum(self._pixels) * (count / total)
        return [int(number) for number in np.diff(np.floor(ends + 0.5), prepend=0)]

    def _draw(self, number: int, side: int, count: int, rng: np.random.Generator) -> list[Window]:
        try:
            with self._open[number]() as opened:
                scene = self._readable(opened)
                origins = sample_origins(scene, side, count, rng, min_valid=0.5, valid=self._valid(scene))
        except SceneError:
            if not self._errors_as_nodata:
                raise
            return []
        return [Window(number, *origin) for origin in origins]

    def _readable(self, scene: Scene) -> Readable:
        part = scene if self._area is None else AreaScene(scene, self._area.within(scene.grid, scene.path))
        return NodataOnErrorScene(part) if self._errors_as_nodata else part

    def _valid(self, scene: Readable) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Where to draw in a file that does not even yield an overview: anywhere."""
        if not self._errors_as_nodata:
            return None
        try:
            return scene.thumbnail(THUMBNAIL_PX)[1]
        except SceneError:
            return np.ones((1, 1), dtype=bool)
