"""From a scene to blocks of its map: windows are scored once, blended at pixel resolution, and forgotten.

    windows of a block, read ahead ─▶ batches, filled across blocks ─▶ scores at patch resolution ─▶ blended block

Only scores at patch resolution are kept between blocks, and only as long as a later block needs them; what would be
too much of that waits in a temporary file. A block is a pure function of the windows that touch it, so the map does
not depend on how it is cut into blocks, or on which blocks are worked off where.

Where a map is refined, the regions blended are the refinement's own windows, and those are blended into blocks in the
same way; see :mod:`geohp.inference.engine.refining`.
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

from geohp.inference.engine.blending import Blended, ScoreCache, WindowScores, blend
from geohp.inference.engine.forward import Runner, Scorer
from geohp.inference.engine.layers import confidence_layers, labels, refined_layers
from geohp.inference.engine.plan import Plan
from geohp.inference.engine.reading import Patch, read_ahead
from geohp.inference.engine.refining import Refinement, refined, regions
from geohp.inference.engine.windows import Origin, WindowGrid, blend_weights
from geohp.model.network import LandCoverModel
from geohp.raster.block import Block
from geohp.raster.read.patches import Readable

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
        input_scale: backbone pixels a scene pixel.
        patch_px: the backbone's patch, of which its input is a whole number.
        tta: average over flips and rotations of each window.
        cluster_to_class: the class that each cluster belongs to, where a legend has named them.
        refine: fit the map to the outlines that the scene shows.
    """

    window_px: int
    overlap_px: int
    batch_size: int = 8
    block_px: int = 1024
    input_scale: float = 1.0
    patch_px: int = 1
    tta: bool = False
    cluster_to_class: tuple[int, ...] | None = None
    refine: Refinement | None = None

    @property
    def input_px(self) -> int:
        """Side of a window as the backbone sees it."""
        return round(self.window_px * self.input_scale)

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
        window, overlap = self.window_px, self.overlap_px
        scores = clusters * (self.input_px / self.patch_px) ** 2
        if self.refine is not None:
            # Blocks begin where the refinement's windows do: of what is kept for a block, theirs is most.
            grid = self.refine.grid(grid.height, grid.width)
            window, overlap = self.refine.window_px, self.refine.overlap_px
            scores = clusters * window**2
        stride = window - overlap
        strides = max(1, round(self.block_px / stride))
        while strides > 1:
            windows = strides + math.ceil(overlap / stride)
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
            :mod:`geohp.inference.engine.layers`.
    """

    block: Block
    layers: dict[str, NDArray[np.uint8]]


def default_input_px(patch_size: int, target_px: float = _INPUT_PX) -> int:
    """The side nearest to a target that is a whole number of patches."""
    return max(1, round(target_px / patch_size)) * patch_size


def default_settings(
    model: LandCoverModel, overlap: float = 0.25, window_px: int | None = None, input_scale: float | None = None
) -> EngineSettings:
    """Windows of the side the model was trained at, but no smaller than about 448 px, the backbone's patches fitting.

    Args:
        model: which model will run.
        overlap: share of a window's side that neighbours share, from 0 to below 1.
        window_px: side in scene pixels, rounded to whole patches.
        input_scale: backbone pixels a scene pixel, about; the model's own by default.
    """
    input_scale = model.input_scale if input_scale is None else input_scale
    target_px = window_px * input_scale if window_px else max(model.card.input_px, _INPUT_PX)
    patch = model.backbone.patch_size
    input_px = default_input_px(patch, target_px)
    window = max(1, round(input_px / input_scale))
    overlap_px = min(round(window * overlap), window - 1)
    return EngineSettings(
        window, overlap_px, input_scale=input_px / window, patch_px=patch, cluster_to_class=model.card.cluster_to_class
    )


def label_blocks(
    scene: Readable,
    model: Scorer,
    settings: EngineSettings,
    progress: Callable[[int, int], None] | None = None,
    *,
    quantities: frozenset[str] = frozenset(),
    blocks: Sequence[Block] | None = None,
) -> Iterator[FinishedBlock]:
    """Label a scene block by block in raster order.

    Args:
        scene: what to label.
        model: on the device that shall do the work.
        settings: see :class:`EngineSettings`.
        progress: called with the windows done and their number.
        quantities: what to compute besides the labels, out of :data:`geohp.inference.engine.layers.QUANTITIES`.
        blocks: blocks to work off, out of ``settings.blocks(...)`` and in that order; all of
            them by default.

    Yields:
        Those blocks.

    Raises:
        SceneError: when a window cannot be read.
        ModelError: when the device's memory does not do for a single window.
    """
    grid = settings.grid(scene.height, scene.width)
    layout = settings.blocks(grid, model.clusters) if blocks is None else list(blocks)
    if settings.refine is None:
        for block, scores, valid in _blended(scene, model, settings, Plan(grid, layout), bool(quantities), progress):
            found = {"labels": labels(scores[: model.clusters], valid, settings.cluster_to_class)}
            yield FinishedBlock(block, found | confidence_layers(scores, valid, quantities, settings.cluster_to_class))
        return
    finer = Plan(settings.refine.grid(scene.height, scene.width), layout)
    origins = finer.order
    coarse = _blended(scene, model, settings, Plan(grid, regions(finer.grid, origins)), True, progress)
    # Read once more: to keep the colours of all that windows of the model have seen would take more than it spares.
    patches = read_ahead(scene, ([origin] for origin in origins), finer.grid.shape)
    windows = refined(coarse, patches, settings.cluster_to_class)
    classes = model.clusters if settings.cluster_to_class is None else len(set(settings.cluster_to_class))
    for block, marginals, valid in _regions(finer, windows, classes, model.device):
        yield FinishedBlock(block, refined_layers(marginals, valid, quantities, settings.cluster_to_class))


def _blended(
    scene: Readable,
    model: Scorer,
    settings: EngineSettings,
    plan: Plan,
    scale: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Blended]:
    """The scores of a plan's regions, with the channel of their common scale or without."""
    channels = model.clusters + scale
    tall, wide = plan.grid.shape
    shape = (round(tall * settings.input_scale), round(wide * settings.input_scale))
    runner = Runner(model, settings.batch_size, len(plan.grid), shape, channels, tta=settings.tta)
    scored = _score(read_ahead(scene, plan.fresh, plan.grid.shape), runner)
    return _regions(plan, _counted(scored, len(plan.order), progress), channels, model.device)


def _regions(
    plan: Plan, windows: Iterator[tuple[Origin, WindowScores]], channels: int, device: torch.device
) -> Iterator[Blended]:
    """The regions of a plan, each as soon as its windows are there; windows are kept as long as they are needed.

    Args:
        plan: the regions.
        windows: in the plan's order.
        channels: C.
        device: of the scores.
    """
    shape, overlap = plan.grid.shape, plan.grid.overlap
    weights = torch.from_numpy(blend_weights(shape, overlap)).to(device)
    with closing(ScoreCache(shape)) as held:
        for number, region in enumerate(plan.regions):
            origins = plan.touching[number]
            while not all(origin in held for origin in origins):
                held.put(*next(windows))
            scores, valid = blend(region, {o: held.get(o) for o in origins}, weights, channels)
            for origin in origins:
                row = plan.needed_from(origin, number)
                if row is None:
                    held.forget([origin])
                elif row > region.row:
                    held.keep_below([origin], row)
            yield region, scores, valid


def _counted(
    windows: Iterator[tuple[Origin, WindowScores]], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Origin, WindowScores]]:
    for done, window in enumerate(windows, 1):
        if progress:
            progress(done, total)
        yield window


def _score(groups: Iterator[tuple[Patch, ...]], runner: Runner) -> Iterator[tuple[Origin, WindowScores]]:
    """Score patches in full batches; those without valid pixels cost no forward pass."""
    waiting: deque[Patch] = deque()

    def flush() -> Iterator[tuple[Origin, WindowScores]]:
        images = torch.from_numpy(np.stack([patch.data for patch in waiting if patch.data is not None]))
        for patch, scores in zip(waiting, runner(images), strict=True):
            # A view of a batch would keep all of it.
            yield patch.origin, WindowScores(scores.clone() if len(waiting) > 1 else scores, patch.valid)
        waiting.clear()

    for patches in groups:
        for patch in patches:
            if patch.data is None:
                yield patch.origin, WindowScores(None, None)
                continue
            waiting.append(patch)
            if len(waiting) >= runner.at_once:
                yield from flush()
    if waiting:
        yield from flush()
