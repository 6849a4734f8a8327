"""From a scene to blocks of labels: windows are scored once, blended at pixel resolution, and forgotten.

Only class scores at patch resolution are kept between blocks, and only as long as a later block needs them, so
memory does not grow with the height of the scene and hardly with its width. A block is a pure function of the
windows that touch it: the label map does not depend on how it is cut into blocks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geohp.classes import NODATA_LABEL
from geohp.inference.windows import WindowGrid, blend_weights, blocks
from geohp.model import LandCoverModel
from geohp.raster.patches import Readable, read_patch

CONFIDENCE_TEMPERATURE = 0.1
"""Confidence is the winner's share in a softmax of the cosines over this temperature."""

_INPUT_PX = 448
"""Smallest side of a default window as the backbone sees it: smaller ones spend too much on their overlap."""

Origin = tuple[int, int]


@dataclass(frozen=True)
class EngineSettings:
    """How a scene is cut into windows and batches.

    Attributes:
        window_px: side of a window in scene pixels.
        overlap_px: pixels shared by neighbouring windows.
        batch_size: windows a forward pass.
        block_px: side of an output block.
        zoom: backbone pixels a scene pixel.
    """

    window_px: int
    overlap_px: int
    batch_size: int = 8
    block_px: int = 1024
    zoom: float = 1.0

    @property
    def input_px(self) -> int:
        """Side of a window as the backbone sees it."""
        return round(self.window_px * self.zoom)


@dataclass(frozen=True)
class LabelBlock:
    """A finished block of the map.

    Attributes:
        row, col: its first pixel.
        labels: (rows, cols) uint8, 255 where the scene has no data.
        confidence: (rows, cols) float32 in [0, 1], NaN where the scene has no data; ``None`` unless asked for.
    """

    row: int
    col: int
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Window:
    """A window's scores (K + 1, h, w) at patch resolution and its validity; both None where nothing is valid."""

    scores: Tensor | None
    valid: NDArray[np.bool_] | None


def default_input_px(patch_size: int, wanted_px: float = _INPUT_PX) -> int:
    """The side nearest to the one wanted that is a whole number of patches."""
    return max(1, round(wanted_px / patch_size)) * patch_size


def default_settings(model: LandCoverModel, overlap: float = 0.25, window_px: int | None = None) -> EngineSettings:
    """Windows of the side the model was trained at, but no smaller than about 448 px, the backbone's patches fitting.

    Args:
        model: which model will run.
        overlap: share of a window's side that neighbours share, from 0 to below 1.
        window_px: side in scene pixels, rounded to whole patches.
    """
    wanted = window_px * model.zoom if window_px else max(model.card.input_px, _INPUT_PX)
    input_px = default_input_px(model.backbone.patch_size, wanted)
    window = max(1, round(input_px / model.zoom))
    return EngineSettings(window, min(round(window * overlap), window - 1), zoom=input_px / window)


def label_blocks(
    scene: Readable,
    model: LandCoverModel,
    settings: EngineSettings,
    progress: Callable[[int, int], None] | None = None,
    *,
    confidence: bool = True,
) -> Iterator[LabelBlock]:
    """Label a scene block by block in raster order.

    Args:
        scene: what to label.
        model: on the device that shall do the work.
        settings: see :class:`EngineSettings`.
        progress: called with the windows done and their number.
        confidence: compute it; a softmax over all classes that a map alone does not need.

    Yields:
        Blocks that tile the scene exactly.

    Raises:
        SceneError: when a window cannot be read.
    """
    grid = WindowGrid(scene.height, scene.width, settings.window_px, settings.overlap_px)
    weights = torch.from_numpy(blend_weights(grid.window, grid.overlap))
    layout = list(blocks(scene.height, scene.width, settings.block_px))
    last_use = {origin: i for i, block in enumerate(layout) for origin in grid.touching(*block)}
    scored = _score_windows(scene, model, settings, _first_needed(grid, layout), len(grid))
    held: dict[Origin, _Window] = {}
    done = 0
    for number, (row, col, height, width) in enumerate(layout):
        origins = list(grid.touching(row, col, height, width))
        while not all(origin in held for origin in origins):
            origin, window = next(scored)
            held[origin] = window
            done += 1
            if progress:
                progress(done, len(grid))
        scores, valid = _blend(row, col, height, width, {o: held[o] for o in origins}, weights, model.clusters)
        yield LabelBlock(row, col, _labels(scores, valid), _confidence(scores, valid) if confidence else None)
        for origin in origins:
            if last_use[origin] == number:
                del held[origin]


def _first_needed(grid: WindowGrid, layout: list[tuple[int, int, int, int]]) -> Iterator[Origin]:
    """Every window once, in the order in which the blocks come to need them."""
    seen: set[Origin] = set()
    for block in layout:
        for origin in grid.touching(*block):
            if origin not in seen:
                seen.add(origin)
                yield origin


def _score_windows(
    scene: Readable, model: LandCoverModel, settings: EngineSettings, origins: Iterator[Origin], total: int
) -> Iterator[tuple[Origin, _Window]]:
    """Read and score windows in full batches; windows without valid pixels cost no forward pass.

    A last batch that is not full is padded: rounding inside a matrix product may depend on its size, and the result
    of a window must not depend on its neighbours.
    """
    # As few batches as the batch size allows, all of them equally full.
    size = math.ceil(total / math.ceil(total / settings.batch_size))
    waiting: deque[tuple[Origin, NDArray[np.float32], NDArray[np.bool_]]] = deque()

    def flush() -> Iterator[tuple[Origin, _Window]]:
        images = torch.from_numpy(np.stack([data for _, data, _ in waiting]))
        if images.shape[-1] != settings.input_px:
            images = F.interpolate(images, size=(settings.input_px,) * 2, mode="bilinear", antialias=True)
        if len(images) < size:
            images = torch.cat([images, images.new_zeros(size - len(images), *images.shape[1:])])
        scores = model(images.to(model.device)).cpu()
        for (origin, _, valid), window_scores in zip(waiting, scores, strict=False):
            yield origin, _Window(window_scores.clone(), valid)
        waiting.clear()

    for origin in origins:
        data, valid = read_patch(scene, *origin, settings.window_px)
        if not valid.any():
            yield origin, _Window(None, None)
            continue
        waiting.append((origin, data, valid))
        if len(waiting) == size:
            yield from flush()
    if waiting:
        yield from flush()


def _blend(
    row: int, col: int, height: int, width: int, windows: dict[Origin, _Window], weights: Tensor, clusters: int
) -> tuple[Tensor, NDArray[np.bool_]]:
    """The windows' weighted scores (K + 1, height, width) over one block, and its validity."""
    side = len(weights)
    total = torch.zeros(clusters + 1, height, width)
    valid = np.zeros((height, width), dtype=bool)
    for (r, c), window in windows.items():
        if window.scores is None or window.valid is None:
            continue
        rows, own_rows = _share(row, height, r, side)
        cols, own_cols = _share(col, width, c, side)
        fine = F.interpolate(window.scores[None], size=(side, side), mode="bilinear", align_corners=False)[0]
        total[:, rows, cols] += fine[:, own_rows, own_cols] * weights[own_rows, own_cols]
        valid[rows, cols] |= window.valid[own_rows, own_cols]
    return total, valid


def _labels(scores: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The class of every pixel; the weights, common to all classes, need not be divided out."""
    labels: NDArray[np.uint8] = scores[:-1].argmax(0).to(torch.uint8).numpy()
    labels[~valid] = NODATA_LABEL
    return labels


def _confidence(scores: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    cosines = scores[:-1] / scores[-1].clamp_min(torch.finfo(torch.float32).tiny)
    confidence: NDArray[np.float32] = (cosines / CONFIDENCE_TEMPERATURE).softmax(0).amax(0).numpy()
    confidence[~valid] = np.nan
    return confidence


def _share(block_start: int, block_length: int, window_start: int, window_length: int) -> tuple[slice, slice]:
    """The stretch that block and window share, once in the block's coordinates and once in the window's."""
    start = max(block_start, window_start)
    stop = min(block_start + block_length, window_start + window_length)
    return slice(start - block_start, stop - block_start), slice(start - window_start, stop - window_start)
