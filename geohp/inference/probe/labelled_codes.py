"""Codes of labelled pixels: of scenes only the windows are read, and encoded, that hold labels.

Windows are those that the scene is mapped with, and a pixel's code is that of the window in whose middle it lies most,
interpolated as scores are when a map is blended. So the probe learns from what it will see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geohp.errors import DataError
from geohp.inference.engine.batching import score_windows
from geohp.inference.engine.forward import Runner
from geohp.inference.engine.reading import read_ahead
from geohp.inference.engine.settings import EngineSettings, engine_settings
from geohp.inference.engine.windows import Origin, WindowGrid
from geohp.legend.features import natural
from geohp.legend.references import Reference, open_reference
from geohp.model.appearance import CHANNELS, patch_colours
from geohp.model.network import LandCoverModel
from geohp.options import WindowOptions
from geohp.progress import Progress
from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.scene import Scene
from geohp.raster.read.unchanged import UnchangedFiles

MOST_WINDOWS = 512
"""Windows encoded in all, however much is labelled: the classes that few of them show come first."""

ROWS_A_CLASS = 2000
"""Patches that a class is learnt from, about, spread over its windows; each is one of 32 x 32 in such a window."""

_WHOLE = 0.999
"""Share of its pixels with data from which a patch is whole."""

SceneOpener = Callable[[], AbstractContextManager[Scene]]


@dataclass(frozen=True)
class LabelledCodes:
    """Codes of labelled pixels, at most one a patch and class where polygons or a raster label them.

    Attributes:
        codes: (n, D) float32.
        mean, covariance: (D,) and (D, D) float64, of all patches with data in the windows that were encoded.
        looks: (n, 3) float32, mean colours of their patches, see :func:`geohp.model.appearance.patch_colours`.
        classes: (n,) int64, places in ``names``.
        groups: (n,) int64: rows of one group have to be on one side when the probe is validated. A polygon is a group;
            of points what lies in one square of an eighth of a window's side, of rasters of a quarter.
        objects: (n,) int64, the polygon or point, see :class:`geohp.legend.features.Features`; -1 of a raster.
        pixels: (n,) float64, labelled pixels (or points) that each row stands for.
        places: (n, 2) float64, x and y in the CRS of its scene, or column and row where it has none.
        names: of the classes, numbers in their order before texts.
        colours: of classes that have one, by name.
        unit: what is counted, "polygons", "points" or "squares".
        notes: what was left out, in sentences.
    """

    codes: NDArray[np.float32]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    looks: NDArray[np.float32]
    classes: NDArray[np.int64]
    groups: NDArray[np.int64]
    objects: NDArray[np.int64]
    pixels: NDArray[np.float64]
    places: NDArray[np.float64]
    names: tuple[str, ...]
    colours: dict[str, str]
    unit: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LabelSource:
    """A reference, as :func:`geohp.legend.references.open_reference` takes it."""

    source: Any
    field: str | None
    layer: str | None

    @contextmanager
    def on(self, scene: Scene) -> Iterator[Reference]:
        """The reference on the pixels of a scene."""
        with open_reference(self.source, _SceneGrid(scene.path, scene.grid), field=self.field, layer=self.layer) as it:
            yield it


class _SceneGrid(NamedTuple):
    name: str
    grid: Grid


class _Moments:
    """Mean and covariance of codes, summed up window by window."""

    def __init__(self, channels: int) -> None:
        self.count, self.sum, self.products = 0, np.zeros(channels), np.zeros((channels, channels))

    def add(self, codes: NDArray[np.float32]) -> None:
        """Further rows (n, D)."""
        rows = codes.astype(np.float64)
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.products += rows.T @ rows

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (D,) and covariance (D, D)."""
        mean = self.sum / max(1, self.count)
        return mean, self.products / max(1, self.count) - np.outer(mean, mean)


class _Window(NamedTuple):
    """A window with labels: its scene's number, where it begins, and the names of the classes in its middle."""

    scene: int
    origin: Origin
    names: tuple[str, ...]


class _Rows(NamedTuple):
    """What is drawn of one window, see :class:`LabelledCodes`; looks beside their codes, classes by name."""

    drawn: NDArray[np.float32]
    names: NDArray[Any]
    groups: NDArray[np.int64]
    objects: NDArray[np.int64]
    pixels: NDArray[np.float64]
    places: NDArray[np.float64]


def read_labelled_codes(
    model: LandCoverModel,
    scenes: Sequence[SceneOpener],
    labels: LabelSource,
    *,
    seed: int,
    progress: Progress,
    tta: bool = False,
) -> LabelledCodes:
    """Codes of the pixels of scenes that a reference labels.

    Args:
        model: encodes them, where it is.
        scenes: opened one at a time, those that hold labels twice.
        labels: polygons, points, or a raster of classes.
        seed: of the draw, where more is labelled than is learnt from.
        progress: hears of "looking for labels" and "encoding".
        tta: codes are means over the flips and rotations of each window.

    Raises:
        DataError: the reference cannot be used for these scenes, or touches none of their pixels with data.
        SceneError: a scene cannot be read.
    """
    survey = _Survey()
    for number, opener in enumerate(scenes):
        with opener() as scene, labels.on(scene) as reference:
            survey.look(number, scene, reference, engine_settings(model, scene, WindowOptions()))
        progress("looking for labels", number + 1, len(scenes))
    rng = np.random.default_rng(seed)
    chosen = _choose(survey.windows, rng)
    quota = {name: math.ceil(ROWS_A_CLASS / n) for name, n in Counter(n for w in chosen for n in w.names).items()}
    parts: list[_Rows] = []
    moments = _Moments(model.card.code_channels)
    options = WindowOptions(tta=tta)
    for number, windows in groupby(chosen, key=lambda window: window.scene):
        with scenes[number]() as scene, labels.on(scene) as reference:
            check = partial(survey.check_unchanged, number)
            draw = _Draw(model, scene, reference, number, quota, rng, options, moments, check)
            for rows in draw.windows([window.origin for window in windows]):
                parts.append(rows)
                progress("encoding", len(parts), len(chosen))
            check()
    return survey.gathered(parts, len(chosen), moments)


class _Survey:
    """Which windows of the scenes hold labels, and of which classes."""

    def __init__(self) -> None:
        self.windows: list[_Window] = []
        self._files: dict[int, tuple[UnchangedFiles, UnchangedFiles]] = {}
        self._order: dict[str, tuple[int, float, str]] = {}
        self._colours: dict[str, str] = {}
        self._notes: dict[str, None] = {}
        self._name, self._unit, self._scenes, self._empty = "the reference", "points", 0, 0

    def look(self, number: int, scene: Scene, reference: Reference, settings: EngineSettings) -> None:
        """Look at a scene."""
        self._files[number] = scene.unchanged, reference.unchanged
        before = len(self.windows)
        for origin, middle in window_middles(settings.grid(scene.height, scene.width)):
            sample = reference.sample(middle)
            if sample is None:
                continue
            keys = np.unique(sample.keys).tolist()
            vector = sample.objects is not None
            self._unit = "points" if reference.unit == "points" else "polygons" if vector else "squares"
            names = [reference.class_name(key) for key in keys]
            for key, name in zip(keys, names, strict=True):
                self._order.setdefault(name, natural(name) if vector else (0, float(key), ""))
            self.windows.append(_Window(number, origin, tuple(dict.fromkeys(names))))
        self._name = reference.name
        self._colours |= reference.colours
        self._notes |= dict.fromkeys(reference.notes)
        self._scenes += 1
        self._empty += len(self.windows) == before

    def check_unchanged(self, number: int) -> None:
        """Make sure that a scene and its reference are what they were when they were looked at.

        Raises:
            SceneError: they are not.
        """
        for files in self._files[number]:
            files.check()

    def gathered(self, parts: Sequence[_Rows], encoded: int, moments: _Moments) -> LabelledCodes:
        """All that was drawn, its classes numbered."""
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else []
        if not columns or not len(columns[0]):
            problem = f"{self._name} labels no pixel with data of the scenes"
            remedy = "check that both show the same place, and that their coordinate reference systems are right"
            raise DataError(problem, remedy)
        drawn, texts, groups, objects, pixels, places = columns
        seen = set(texts.tolist())
        names = tuple(name for name in sorted(self._order, key=self._order.__getitem__) if name in seen)
        numbers = {name: number for number, name in enumerate(names)}
        classes = np.array([numbers[text] for text in texts.tolist()], np.int64)
        colours = {name: colour for name, colour in self._colours.items() if name in seen}
        notes = (*self._notes, *self._left_out(encoded))
        codes, looks = drawn[:, :-CHANNELS], drawn[:, -CHANNELS:]
        return LabelledCodes(
            codes,
            *moments.moments(),
            looks,
            classes,
            groups,
            objects,
            pixels,
            places,
            names,
            colours,
            self._unit,
            notes,
        )

    def _left_out(self, encoded: int) -> Iterator[str]:
        if self._empty:
            yield f"{self._empty} of {self._scenes} scenes hold no labels."
        if encoded < len(self.windows):
            yield f"Of {len(self.windows)} windows with labels {encoded} were used, the rarest classes first."


def window_middles(grid: WindowGrid) -> Iterator[tuple[Origin, Block]]:
    """Every window, and the pixels that lie nearer to its middle than to that of any other: together the scene."""
    tall, wide = grid.shape
    for row, top, bottom in _spans(grid.rows, tall, grid.height):
        for col, left, right in _spans(grid.cols, wide, grid.width):
            yield (row, col), Block.between(top, left, bottom, right)


def _spans(starts: Sequence[int], side: int, length: int) -> list[tuple[int, int, int]]:
    """Of windows along a side of the scene: where each begins, and its pixels' first and the one after their last."""
    between = [(first + second + side) // 2 for first, second in pairwise(starts)]
    return list(zip(starts, [0, *between], [*between, length], strict=True))


def _choose(windows: Sequence[_Window], rng: np.random.Generator) -> list[_Window]:
    """At most :data:`MOST_WINDOWS`, in their order: of every class about as many, as far as there are any."""
    if len(windows) <= MOST_WINDOWS:
        return list(windows)
    taken = Counter[str]()
    ranks = {}
    for number in rng.permutation(len(windows)).tolist():
        names = windows[number].names
        ranks[number] = min(taken[name] for name in names)
        taken.update(names)
    best = sorted(ranks, key=ranks.__getitem__)[:MOST_WINDOWS]
    return [windows[number] for number in sorted(best)]


class _Draw:
    """Draws labelled pixels from windows of a scene, and their codes."""

    def __init__(
        self,
        model: LandCoverModel,
        scene: Scene,
        reference: Reference,
        number: int,
        quota: dict[str, int],
        rng: np.random.Generator,
        options: WindowOptions,
        moments: _Moments,
        check_unchanged: Callable[[], None],
    ) -> None:
        self._moments, self._check_unchanged = moments, check_unchanged
        self._model, self._scene, self._reference, self._number = model, scene, reference, number
        self._quota, self._rng = quota, rng
        self._settings = engine_settings(model, scene, options)
        self._grid = self._settings.grid(scene.height, scene.width)
        self._middles = dict(window_middles(self._grid))

    def windows(self, origins: Sequence[Origin]) -> Iterator[_Rows]:
        """What is drawn of each window, in their order."""
        scale, model = self._settings.input_scale, self._model
        tall, wide = (round(side * scale) for side in self._grid.shape)
        channels = model.card.code_channels + CHANNELS
        batch_size, tta = self._settings.batch_size, self._settings.tta
        runner = Runner(_Encoder(model), batch_size, len(origins), (tall, wide), channels, tta=tta)
        patches = read_ahead(self._scene, [[origin] for origin in origins], self._grid.shape)
        for origin, window in score_windows(patches, runner):
            if isinstance(window.scores, Tensor) and window.valid is not None:
                self._count(window.scores[: model.card.code_channels], window.valid)
                yield self._rows(origin, window.scores, window.valid)
            else:
                yield self._rows(origin, torch.zeros(channels, 1, 1), np.zeros(self._grid.shape, bool))

    def _count(self, codes: Tensor, valid: NDArray[np.bool_]) -> None:
        """Add a window's patches (D, h, w) that hold nothing but data to the moments."""
        whole = F.adaptive_avg_pool2d(torch.tensor(valid)[None].float(), (codes.shape[-2], codes.shape[-1]))[0] > _WHOLE
        self._moments.add(codes.float().cpu()[:, whole].T.numpy())

    def _rows(self, origin: Origin, codes: Tensor, valid: NDArray[np.bool_]) -> _Rows:
        middle = self._middles[origin]
        self._check_unchanged()
        sample = self._reference.sample(middle)
        assert sample is not None  # the window was chosen for it
        rows, cols = np.nonzero(sample.where) if isinstance(sample.where, np.ndarray) else sample.where
        rows, cols = rows + middle.row - origin[0], cols + middle.col - origin[1]
        has_data = valid[rows, cols]
        rows, cols, keys = rows[has_data], cols[has_data], sample.keys[has_data]
        objects = np.full(len(keys), -1, np.int64) if sample.objects is None else sample.objects[has_data]
        pick, pixels = self._pick(rows, cols, keys, codes.shape[-2:])
        rows, cols, keys, objects = rows[pick], cols[pick], keys[pick], objects[pick]
        drawn = interpolate(codes, rows, cols, self._grid.shape)
        down, along = rows + origin[0], cols + origin[1]
        polygons = sample.objects is not None and self._reference.unit != "points"
        groups = objects if polygons else self._squares(down, along)
        x, y = self._scene.grid.affine * (along + 0.5, down + 0.5)
        names = np.array([self._reference.class_name(key) for key in keys.tolist()], object)
        return _Rows(drawn, names, groups, objects, pixels, np.stack([x, y], 1).astype(float))

    def _pick(
        self, rows: NDArray[Any], cols: NDArray[Any], keys: NDArray[Any], patches: tuple[int, ...]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Which of labelled pixels to learn from, and how many each stands for.

        Of each class one a patch at most, but every point.
        """
        if self._reference.unit == "points":
            return np.arange(len(rows)), np.ones(len(rows))
        patch = rows * patches[0] // self._grid.shape[0] * patches[1] + cols * patches[1] // self._grid.shape[1]
        shuffled = self._rng.permutation(len(rows))
        _, first = np.unique(np.stack([keys, patch])[:, shuffled], axis=1, return_index=True)
        chosen = self._rng.permutation(shuffled[first])
        picks, pixels = [], []
        for key in np.unique(keys).tolist():
            of_class = chosen[keys[chosen] == key][: self._quota[self._reference.class_name(key)]]
            picks.append(of_class)
            pixels.append(np.full(len(of_class), (keys == key).sum() / len(of_class)))
        if not picks:
            return np.empty(0, np.intp), np.empty(0)
        return np.concatenate(picks), np.concatenate(pixels)

    def _squares(self, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.int64]:
        """The square that each pixel lies in, by a number of its own."""
        side = max(1, self._grid.window // (8 if self._reference.unit == "points" else 4))
        squares = (self._number << 40) + ((rows // side).astype(np.int64) << 20) + cols // side
        return np.asarray(squares, np.int64)


class _Encoder:
    """A model that gives codes, and colours beside them, in the place of scores, for the engine to run."""

    def __init__(self, model: LandCoverModel) -> None:
        self._model = model
        self.clusters = model.card.code_channels

    @property
    def device(self) -> torch.device:
        return self._model.device

    def __call__(self, images: Tensor) -> Tensor:
        codes = self._model.codes(images)
        return torch.cat([codes, patch_colours(images, (codes.shape[-2], codes.shape[-1])).to(codes)], 1)


def interpolate(codes: Tensor, rows: NDArray[Any], cols: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Codes at pixels of a window, bilinear between the middles of patches, as scores are blended.

    Args:
        codes: (D, h, w).
        rows, cols: (n,) of the pixels.
        shape: of the window in pixels.

    Returns:
        (n, D).
    """
    if not len(rows):
        return np.empty((0, len(codes)), np.float32)
    x = (2 * torch.from_numpy(cols.astype(np.float32)) + 1) / shape[1] - 1
    y = (2 * torch.from_numpy(rows.astype(np.float32)) + 1) / shape[0] - 1
    if not codes.is_cuda:
        codes = codes.cpu()  # torch below 2.13 cannot do it on Apple's GPUs
    grid = torch.stack([x, y], 1)[None, :, None].to(codes.device)
    drawn = F.grid_sample(codes[None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return np.asarray(drawn[0, :, :, 0].T.cpu().numpy())
