"""From a scene to blocks of its map: windows are scored once, blended at pixel resolution, and forgotten.

    windows of a block, read ahead ─▶ batches, filled across blocks ─▶ scores at patch resolution ─▶ blended block

Only scores at patch resolution are kept between blocks, and only as long as a later block needs them; what would be
too much of that waits in a temporary file. A block is a pure function of the windows that touch it, so the map does
not depend on how it is cut into blocks, or on which blocks are computed where.

Where a map is refined, the regions blended are the refinement's own windows, and those are blended into blocks in the
same way; see :mod:`geohp.inference.engine.refining`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geohp.inference.engine.batching import ScoredWindows, score_windows
from geohp.inference.engine.blending import Blended, ScoreCache, blend
from geohp.inference.engine.forward import Runner, Scorer
from geohp.inference.engine.layers import confidence_layers, labels, refined_layers
from geohp.inference.engine.reading import read_ahead
from geohp.inference.engine.refining import refined
from geohp.inference.engine.settings import CrfWindows, EngineSettings
from geohp.inference.engine.transfer import LayersToHost, is_asynchronous, to_device
from geohp.inference.engine.windows import Plan
from geohp.progress import Progress, no_progress
from geohp.raster.block import Block
from geohp.raster.read.patches import Readable

if TYPE_CHECKING:
    from geohp.raster.area_of_interest import PixelArea

STAGE = "segmenting"
"""What progress calls the scoring of windows."""


@dataclass(frozen=True)
class FinishedBlock:
    """A finished block of the map.

    Attributes:
        block: where it lies.
        layers: ``labels`` (rows, cols) uint8, 255 where the scene has no data, and the quantities, see
            :mod:`geohp.inference.engine.layers`.
    """

    block: Block
    layers: dict[str, NDArray[np.uint8]]


def label_blocks(
    scene: Readable,
    model: Scorer,
    settings: EngineSettings,
    progress: Progress = no_progress,
    *,
    quantities: frozenset[str] = frozenset(),
    blocks: Sequence[Block] | None = None,
    area: PixelArea | None = None,
) -> Iterator[FinishedBlock]:
    """Label a scene block by block in raster order.

    Args:
        scene: what to label.
        model: on the device that shall do the work.
        settings: see :class:`EngineSettings`.
        progress: hears of the windows done and their number.
        quantities: what to compute besides the labels, out of :data:`geohp.options.QUANTITIES`.
        blocks: out of ``settings.blocks(...)`` or parts of these, and in that order; all of them by default.
        area: all that is to be labelled; what lies outside becomes no data, and windows that lie outside cost nothing.
            The labels inside are those of a map of the whole scene.

    Yields:
        Those blocks.

    Raises:
        SceneError: when a window cannot be read.
        ModelError: when the device's memory does not do for a single window.
    """
    grid = settings.grid(scene.height, scene.width)
    blocks = settings.blocks(grid, model.clusters) if blocks is None else list(blocks)
    mapping = _Mapping(scene, model, settings, progress, area)
    if settings.refine is None:
        return mapping.blocks(Plan(grid, blocks, None if area is None else area.touches), quantities)
    return mapping.refined_blocks(blocks, settings.refine, quantities)


@dataclass(frozen=True)
class _Mapping:
    """What all steps share, see :func:`label_blocks`."""

    scene: Readable
    model: Scorer
    settings: EngineSettings
    progress: Progress
    area: PixelArea | None = None

    def blocks(self, plan: Plan, quantities: frozenset[str]) -> Iterator[FinishedBlock]:
        """The regions of a plan, each the class of the largest score."""
        cluster_to_class = self.settings.cluster_to_class

        def layers(scores: Tensor) -> dict[str, Tensor]:
            winners = labels(scores[: self.model.clusters], cluster_to_class)
            return {"labels": winners} | confidence_layers(scores, quantities, cluster_to_class)

        return self._finished(layers, self._blended(plan, with_scale=bool(quantities)))

    def refined_blocks(
        self, blocks: Sequence[Block], refine: CrfWindows, quantities: frozenset[str]
    ) -> Iterator[FinishedBlock]:
        """Blocks of the classes' marginals in the refinement's own windows."""
        cluster_to_class = self.settings.cluster_to_class
        meant = None if self.area is None else self.area.touches
        finer = Plan(refine.grid(self.scene.height, self.scene.width), blocks, meant)
        regions = [Block(*origin, *finer.grid.shape) for origin in finer.order]
        coarse = Plan(self.settings.grid(self.scene.height, self.scene.width), regions)
        # Read once more: to hold the colours of all that the model's windows have seen would take more than it spares.
        patches = read_ahead(self.scene, ([origin] for origin in finer.order), finer.grid.shape)
        windows = refined(self._blended(coarse, with_scale=True), patches, cluster_to_class)
        classes = self.model.clusters if cluster_to_class is None else len(set(cluster_to_class))

        def layers(marginals: Tensor) -> dict[str, Tensor]:
            return refined_layers(marginals, quantities, cluster_to_class)

        return self._finished(layers, blend_regions(finer, windows, classes, self.model.device))

    def _finished(
        self, layers: Callable[[Tensor], dict[str, Tensor]], regions: Iterator[Blended]
    ) -> Iterator[FinishedBlock]:
        """Blocks in order; a GPU's are waited for in a thread while it is given more to do."""
        blocks = (self._sent(layers, *blended) for blended in regions)
        if not is_asynchronous(self.model.device):
            yield from (wait() for wait in blocks)
            return
        # As many as two batches have where a block is a window: none of those that the GPU has still to come to.
        most, waiting = 2 * self.settings.batch_size, deque[Future[FinishedBlock]]()
        with ThreadPoolExecutor(1, thread_name_prefix="finishing") as thread:
            try:
                for wait in blocks:
                    waiting.append(thread.submit(wait))
                    while waiting and (waiting[0].done() or len(waiting) > most):
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                thread.shutdown(cancel_futures=True)

    def _sent(
        self, layers: Callable[[Tensor], dict[str, Tensor]], block: Block, scores: Tensor, valid: NDArray[np.bool_]
    ) -> Callable[[], FinishedBlock]:
        """A block on its way to the host: what waits for it. The scores are held no longer."""
        arriving = LayersToHost.send(layers(scores))
        return lambda: FinishedBlock(block, arriving.wait(self._inside(block, valid)))

    def _inside(self, block: Block, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What of a block is labelled."""
        return valid if self.area is None else valid & self.area.pixels(block)

    def _blended(self, plan: Plan, *, with_scale: bool) -> Iterator[Blended]:
        """The scores of a plan's regions, with the channel of their common scale or without."""
        channels = self.model.clusters + with_scale
        tall, wide = (round(side * self.settings.input_scale) for side in plan.grid.shape)
        batch_size, tta = self.settings.batch_size, self.settings.tta
        runner = Runner(self.model, batch_size, len(plan.grid), (tall, wide), channels, tta=tta)
        windows = score_windows(read_ahead(self.scene, plan.fresh, plan.grid.shape), runner)
        return blend_regions(plan, self._counted(windows, len(plan.order)), channels, self.model.device)

    def _counted(self, windows: ScoredWindows, total: int) -> ScoredWindows:
        for done, window in enumerate(windows, 1):
            self.progress(STAGE, done, total)
            yield window


def blend_regions(plan: Plan, windows: ScoredWindows, channels: int, device: torch.device) -> Iterator[Blended]:
    """The regions of a plan, each as soon as its windows are there; windows are held as long as they are needed.

    Args:
        plan: the regions.
        windows: in the plan's order.
        channels: C.
        device: of the scores.
    """
    weights = to_device(torch.from_numpy(plan.grid.weights), device)
    with closing(ScoreCache(plan.grid.shape)) as cache:
        for number, region in enumerate(plan.regions):
            origins = plan.touching[number]
            while not all(origin in cache for origin in origins):
                cache.put(*next(windows))
            scores, valid = blend(region, {origin: cache.get(origin) for origin in origins}, weights, channels)
            for origin in origins:
                row = plan.needed_from(origin, number)
                if row is None:
                    cache.forget([origin])
                elif row > region.row:
                    cache.keep_below([origin], row)
            yield region, scores, valid
