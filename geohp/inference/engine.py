"""From a scene to blocks of its map: windows are scored once, blended at pixel resolution, and forgotten.

    windows of a block, read ahead ─▶ batches, filled across blocks ─▶ scores at patch resolution ─▶ blended block

Only scores at patch resolution are kept between blocks, and only as long as a later block needs them; what would be
too much of that waits in a temporary file. A block is a pure function of the windows that touch it, so the map does
not depend on how it is cut into blocks, or on which blocks are worked off where.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from geohp.inference.blending import Held, Scored, blend
from geohp.inference.forward import Runner, Scorer
from geohp.inference.products import labels, quantities
from geohp.inference.reading import Patch, read_ahead
from geohp.inference.windows import Origin, WindowGrid, blend_weights
from geohp.model import LandCoverModel
from geohp.raster.grid import Block
from geohp.raster.patches import Readable

_INPUT_PX = 448
"""Smallest side of a default window as the backbone sees it: smaller ones spend too much on their overlap."""

_BLOCK_BYTES = 48 * 2**20
"""What a block may take: its own sums, and scores of the windows that touch it."""


@dataclass(frozen=True)
class EngineSettings:
    """How a scene is cut into windows and batches.

    Attributes:
        window_px: side of a window in scene pixels.
        overlap_px: pixels shared by neighbouring windows.
        batch_size: windows a forward pass.
        block_px: side of an output block, about; less where scores are large, see :meth:`blocks`.
        zoom: backbone pixels a scene pixel.
        patch_px: the backbone's patch, of which its input is a whole number.
        augment: average over flips and rotations of each window.
        members: the class that each cluster belongs to, where a legend has named them.
    """

    window_px: int
    overlap_px: int
    batch_size: int = 8
    block_px: int = 1024
    zoom: float = 1.0
    patch_px: int = 1
    augment: bool = False
    members: tuple[int, ...] | None = None

    @property
    def input_px(self) -> int:
        """Side of a window as the backbone sees it."""
        return round(self.window_px * self.zoom)

    def grid(self, height: int, width: int) -> WindowGrid:
        """The windows over a scene of that size.

        Scenes smaller than a window get smaller ones, of whole patches.
        """
        # Scene pixels that are a whole number of patches, exactly.
        multiple = Fraction(self.patch_px * self.window_px, self.input_px).numerator
        return WindowGrid(height, width, self.window_px, self.overlap_px, multiple)

    def blocks(self, grid: WindowGrid, clusters: int) -> list[Block]:
        """The blocks to work it off in: their sums and the scores they need fit the memory set aside.

        Where patches are pixels, or classes many, blocks get smaller: down to one window's own pixels.
        """
        stride = self.window_px - self.overlap_px
        scores = clusters * (self.input_px / self.patch_px) ** 2
        strides = max(1, round(self.block_px / stride))
        while strides > 1:
            windows = strides + math.ceil(self.overlap_px / stride)
            if 4 * (windows**2 * scores + clusters * (strides * stride) ** 2) <= _BLOCK_BYTES:
                break
            strides -= 1
        return grid.blocks(strides * stride)


@dataclass(frozen=True)
class FinishedBlock:
    """A finished block of the map.

    Attributes:
        block: where it lies.
        layers: ``labels`` (rows, cols) uint8, 255 where the scene has no data, and what else was wanted, see
            :mod:`geohp.inference.products`.
    """

    block: Block
    layers: dict[str, NDArray[np.uint8]]


def default_input_px(patch_size: int, wanted_px: float = _INPUT_PX) -> int:
    """The side nearest to the one wanted that is a whole number of patches."""
    return max(1, round(wanted_px / patch_size)) * patch_size


def default_settings(
    model: LandCoverModel, overlap: float = 0.25, window_px: int | None = None, zoom: float | None = None
) -> EngineSettings:
    """Windows of the side the model was trained at, but no smaller than about 448 px, the backbone's patches fitting.

    Args:
        model: which model will run.
        overlap: share of a window's side that neighbours share, from 0 to below 1.
        window_px: side in scene pixels, rounded to whole patches.
        zoom: backbone pixels a scene pixel, about; the model's own by default.
    """
    zoom = model.zoom if zoom is None else zoom
    wanted = window_px * zoom if window_px else max(model.card.input_px, _INPUT_PX)
    patch = model.backbone.patch_size
    input_px = default_input_px(patch, wanted)
    window = max(1, round(input_px / zoom))
    overlap_px = min(round(window * overlap), window - 1)
    return EngineSettings(window, overlap_px, zoom=input_px / window, patch_px=patch, members=model.card.members)


def label_blocks(
    scene: Readable,
    model: Scorer,
    settings: EngineSettings,
    progress: Callable[[int, int], None] | None = None,
    *,
    wanted: frozenset[str] = frozenset(),
    todo: Sequence[Block] | None = None,
) -> Iterator[FinishedBlock]:
    """Label a scene block by block in raster order.

    Args:
        scene: what to label.
        model: on the device that shall do the work.
        settings: see :class:`EngineSettings`.
        progress: called with the windows done and their number.
        wanted: quantities to compute besides the labels, out of :data:`geohp.inference.products.QUANTITIES`.
        todo: blocks to work off, out of ``settings.blocks(...)`` and in that order; all of
            them by default.

    Yields:
        Those blocks.

    Raises:
        SceneError: when a window cannot be read.
        ModelError: when the device's memory does not do for a single window.
    """
    grid = settings.grid(scene.height, scene.width)
    layout = settings.blocks(grid, model.clusters) if todo is None else list(todo)
    channels = model.clusters + bool(wanted)
    tall, wide = grid.shape
    shape = (round(tall * settings.zoom), round(wide * settings.zoom))
    runner = Runner(model, settings.batch_size, len(grid), shape, channels, augment=settings.augment)
    weights = torch.from_numpy(blend_weights(grid.shape, grid.overlap)).to(model.device)
    groups, last_use = _first_needed(grid, layout)
    scored = _score(read_ahead(scene, groups, grid.shape), runner)
    total = sum(map(len, groups))
    done = 0
    with closing(Held(grid.shape)) as held:
        for number, block in enumerate(layout):
            origins = list(grid.touching(*block))
            while not all(origin in held for origin in origins):
                origin, window = next(scored)
                held.put(origin, window)
                done += 1
                if progress:
                    progress(done, total)
            scores, valid = blend(block, {o: held.get(o) for o in origins}, weights, channels)
            held.forget(o for o in origins if last_use[o] == number)
            bottom, right = block.row + block.height, block.col + block.width
            held.keep_below((o for o in origins if last_use[o] > number and o[1] + wide <= right), bottom)
            found = {"labels": labels(scores[: model.clusters], valid, settings.members)}
            yield FinishedBlock(block, found | quantities(scores, valid, wanted, settings.members))


def _first_needed(grid: WindowGrid, layout: list[Block]) -> tuple[list[list[Origin]], dict[Origin, int]]:
    """For each block the windows that none before it needed, and for each window the last block that needs it."""
    groups: list[list[Origin]] = []
    last_use: dict[Origin, int] = {}
    for number, block in enumerate(layout):
        origins = list(grid.touching(*block))
        groups.append([origin for origin in origins if origin not in last_use])
        last_use.update(dict.fromkeys(origins, number))
    return groups, last_use


def _score(groups: Iterator[tuple[Patch, ...]], runner: Runner) -> Iterator[tuple[Origin, Scored]]:
    """Score patches in full batches; those without valid pixels cost no forward pass."""
    waiting: deque[Patch] = deque()

    def flush() -> Iterator[tuple[Origin, Scored]]:
        images = torch.from_numpy(np.stack([patch.data for patch in waiting if patch.data is not None]))
        for patch, scores in zip(waiting, runner(images), strict=True):
            # A view of a batch would keep all of it.
            yield patch.origin, Scored(scores.clone() if len(waiting) > 1 else scores, patch.valid)
        waiting.clear()

    for patches in groups:
        for patch in patches:
            if patch.data is None:
                yield patch.origin, Scored(None, None)
                continue
            waiting.append(patch)
            if len(waiting) >= runner.at_once:
                yield from flush()
    if waiting:
        yield from flush()
