"""A model where none was trained: cosine k-means on the own features of the scenes to be labelled."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone_for_bands
from geohp.classes import default_classes
from geohp.errors import DataError, SceneError
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.engine.settings import default_input_px
from geohp.methods.kmeans.method import KMeans
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.options import FitOptions
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.patches import THUMBNAIL_PX, Readable, read_patch, sample_origins
from geohp.raster.read.scene import Scene
from geohp.version import __version__

logger = logging.getLogger(__name__)

DEFAULT_CLASSES = 6
"""How many classes are found where nobody says."""

SAMPLED_WINDOWS = 32
"""Most windows of a scene that the features are sampled from; a small scene needs no more than cover it."""

SAMPLED_OF_MANY = 128
"""Most windows of several scenes together, in proportion to their pixels. Of each no more patches are kept than make
as many in all as :data:`SAMPLED_WINDOWS` hold, so that any number of scenes takes the same memory."""


class _Window(NamedTuple):
    scene: int
    row: int
    col: int


class _Patch(NamedTuple):
    data: np.ndarray[Any, np.dtype[np.float32]]
    valid: np.ndarray[Any, np.dtype[np.bool_]]


def fit_kmeans(
    scenes: Scene | SceneCollection,
    options: FitOptions,
    *,
    device: torch.device,
    errors_as_nodata: bool = False,
) -> LandCoverModel:
    """Fit cosine k-means on features of windows drawn from all over a scene, or several.

    Only patches that show valid pixels count. Where there are fewer different ones than classes, there are as many
    classes as patches; without any the model is never run, since there is nothing that it could label.

    Args:
        scenes: what to fit on. Of several, one is open at a time, and what cannot be read is passed over.
        options: how many classes to find, and on which features; bands and scaling are the scenes'.
        device: where the features are computed.
        errors_as_nodata: pass over what cannot be read of a single scene, too.

    Raises:
        WeightsError: when the backbone's weights cannot be found.
        ConfigError: when there is no such backbone.
        SceneError: when a single scene cannot be read, or none of several can be opened.
    """
    sources = _Sources(scenes, errors_as_nodata)
    classes, seed = DEFAULT_CLASSES if options.classes is None else options.classes, options.seed
    net = create_backbone_for_bands(
        options.backbone or "rcf",
        sources.channels,
        seed=seed,
        weights=options.weights,
        block=-1 if options.block is None else options.block,
    )
    side = default_input_px(net.patch_size)
    windows = sources.draw(side, np.random.default_rng(seed))
    mean, std = (torch.tensor(v)[:, None, None] for v in (net.mean, net.std))
    net.to(device)

    def normalised(patch: _Patch) -> Tensor:
        return ((torch.from_numpy(patch.data) - mean) / std)[None].to(device)

    # So few windows are held; of more, these are what the backbone is fitted to.
    held = list(sources.read(_evenly(windows, SAMPLED_WINDOWS), side))
    rows = torch.empty(0, net.channels)
    if held:
        if net.needs_fit:
            _fit(net, [normalised(patch) for patch in held], seed)
        most = SAMPLED_WINDOWS * (side // net.patch_size) ** 2 // max(len(windows), SAMPLED_WINDOWS)
        generator = torch.Generator().manual_seed(seed)
        found = []
        for patch in held if len(windows) <= SAMPLED_WINDOWS else sources.read(windows, side):
            features = net(normalised(patch), affinities=False).features[0]
            found.append(_some(_valid_rows(features, patch.valid, net.patch_size), most, generator))
        rows = torch.cat(found)
    # Patches that are the same to the last bit cannot belong to different classes.
    distinct = _distinct(rows, seed)
    count = max(1, min(classes, distinct))
    if count < classes:
        logger.warning(_few_patches(sources.name, distinct, count, classes))
    method = KMeans(net.channels, count, seed=seed).to(device)
    if len(rows):
        method.prepare(lambda _: _as_maps(rows))
    card = ModelCard(
        method="kmeans",
        backbone=BackboneCard.of(net),
        in_channels=net.channels,
        code_channels=net.channels,
        classes=default_classes(count),
        bands=sources.bands,
        scaling=sources.rule,
        patch_px=side,
        input_px=side,
        geohp_version=__version__,
    )
    return LandCoverModel(net, method.head, method.probe, card)


class _Sources:
    """Scenes to draw windows from, opened one at a time."""

    def __init__(self, scenes: Scene | SceneCollection, errors_as_nodata: bool) -> None:
        self._errors_as_nodata = errors_as_nodata or isinstance(scenes, SceneCollection)
        self._open: list[Callable[[], AbstractContextManager[Scene]]]
        if isinstance(scenes, Scene):
            self._open = [lambda: nullcontext(scenes)]
            self._pixels = [scenes.height * scenes.width]
            self.name = scenes.path
            self.channels = len(scenes.bands)
            self.bands: tuple[int | str, ...] | None = scenes.bands
            self.rule = scenes.scaling.rule
            return
        if not scenes.scenes:
            raise next(iter(scenes.failed.values()), SceneError("no scenes to find classes on: name some"))
        paths = [one.path for one in scenes.scenes]
        self._open = [lambda path=path: scenes.open(path) for path in paths]  # type: ignore[misc]
        self._pixels = [one.pixels for one in scenes.scenes]
        self.name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self.channels = len(scenes.scenes[0].stored)
        self.bands = scenes.bands  # as asked for: red may be another band elsewhere
        self.rule = scenes.rule

    def draw(self, side: int, rng: np.random.Generator) -> list[_Window]:
        """Windows of ``side`` pixels where there is data, by scene."""
        counts = self._counts(side)
        found = [w for number, count in enumerate(counts) if count for w in self._draw(number, side, count, rng)]
        for number, count in enumerate(counts):
            if not found and not count:  # those that were to be sampled hold no data
                found = self._draw(number, side, SAMPLED_WINDOWS, rng)
        return found

    def read(self, windows: Sequence[_Window], side: int) -> Iterator[_Patch]:
        """The windows with valid pixels, one after the other."""
        for number, some in groupby(windows, key=itemgetter(0)):
            with self._open[number]() as opened:
                scene = self._readable(opened)
                for window in some:
                    data, valid = read_patch(scene, window.row, window.col, side)
                    if len(data) == self.channels and (valid.any() or not self._errors_as_nodata):
                        yield _Patch(data, valid)

    def _counts(self, side: int) -> list[int]:
        """How many windows to draw from each scene: in proportion to its pixels, some of many none."""
        total = sum(self._pixels)
        count = min(SAMPLED_WINDOWS if len(self._pixels) == 1 else SAMPLED_OF_MANY, math.ceil(1.5 * total / side**2))
        ends = np.cumsum(self._pixels) * (count / total)
        return [int(number) for number in np.diff(np.floor(ends + 0.5), prepend=0)]

    def _draw(self, number: int, side: int, count: int, rng: np.random.Generator) -> list[_Window]:
        try:
            with self._open[number]() as opened:
                scene = self._readable(opened)
                origins = sample_origins(scene, side, count, rng, min_valid=0.5, valid=self._valid(scene))
        except SceneError:
            if not self._errors_as_nodata:
                raise
            return []
        return [_Window(number, *origin) for origin in origins]

    def _readable(self, scene: Scene) -> Readable:
        return NodataOnErrorScene(scene) if self._errors_as_nodata else scene

    def _valid(self, scene: Readable) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Where to draw in a file that does not even yield an overview: anywhere."""
        if not self._errors_as_nodata:
            return None
        try:
            return scene.thumbnail(THUMBNAIL_PX)[1]
        except SceneError:
            return np.ones((1, 1), dtype=bool)


def _evenly(windows: Sequence[_Window], most: int) -> list[_Window]:
    """At most so many of them, spread evenly."""
    if len(windows) <= most:
        return list(windows)
    return [windows[i * len(windows) // most] for i in range(most)]


def _some(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many rows, drawn at random, in their order."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:most].sort().values]


def _valid_rows(features: Tensor, valid: np.ndarray[Any, np.dtype[np.bool_]], patch: int) -> Tensor:
    """Feature rows (n, C) of the patches at least half of which is valid, or any part where none is."""
    h, w = features.shape[-2:]
    share = torch.from_numpy(valid.reshape(h, patch, w, patch).mean(axis=(1, 3)))
    rows = features.flatten(1).T
    chosen = (share >= 0.5).flatten()
    if not bool(chosen.any()):
        chosen = (share > 0).flatten()
    return rows[chosen.to(rows.device)].cpu()


def _fit(net: Backbone, images: list[Tensor], seed: int) -> None:
    """Fit the backbone; to imagery of one colour, which has nothing to draw filters from, as to faint noise."""
    try:
        net.fit(images)
    except DataError:
        generator = torch.Generator().manual_seed(seed)
        net.fit([image + 1e-3 * torch.randn(image.shape, generator=generator).to(image) for image in images])


def _distinct(rows: Tensor, seed: int) -> int:
    """How many different rows there are, told apart by a random direction."""
    direction = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return len(torch.unique(rows.double() @ direction))


def _few_patches(path: str, patches: int, found: int, classes: int) -> str:
    if not patches:
        return f"{path} holds no data: the map is nodata everywhere"
    return f"{path} does not hold {classes} classes: {patches} different patch(es) give {found} class(es)"


def _as_maps(rows: Tensor) -> Iterator[Tensor]:
    yield rows.T[None, :, :, None]
