"""From a scene to blocks of its map: windows are scored once, blended at pixel resolution, and forgotten.

    windows of a block, read ahead ─▶ batches, filled across blocks ─▶ scores at patch resolution ─▶ blended block

Only scores at patch resolution are kept between blocks, and only as long as a later block needs them; what would be
too much of that waits in a temporary file. A block is a pure function of the windows that touch it, so the map does
not depend on how it is cut into blocks, or on which blocks are worked off where.

Where a map is refined, the regions blended are the refinement's own windows, and those are blended into blocks in the
same way; see :mod:`geohp.inference.engine.refining`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geohp.inference.engine.blending import Blended, ScoreCache, WindowScores, blend
from geohp.inference.engine.forward import Runner, Scorer
from geohp.inference.engine.layers import confidence_layers, labels, refined_layers
from geohp.inference.engine.plan import Plan
from geohp.inference.engine.reading import Patch, read_ahead
from geohp.inference.engine.refining import refined, regions
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.engine.windows import Origin, blend_weights
from geohp.raster.block import Block
from geohp.raster.read.patches import Readable


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
