"""Label maps of dask arrays: laid out at once, computed chunk by chunk when somebody asks.

    parts of the input's chunks that a chunk's windows see ─▶ the blocks of that chunk ─▶ labels

A chunk needs what its windows see and nothing else, and holds the pixels that the whole array in memory would give.
"""

from __future__ import annotations

import copy
import itertools
import operator
import os
import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.identity import model_sha256
from geohp.model.network import LandCoverModel
from geohp.raster.block import Block
from geohp.raster.read.lazy import LazyScene, ReadTransform

if TYPE_CHECKING:
    import dask.array as da

Stretch = tuple[int, int]
"""First index, and the one after the last."""


def lazy_labels(scene: LazyScene, model: LandCoverModel, settings: EngineSettings) -> da.Array:
    """The label map of a dask array, as a dask array.

    Its chunks are the input's; neighbours are joined until they are as large as a block, since every chunk scores the
    windows on its border anew.

    Args:
        scene: what to label.
        model: goes into the graph once.
        settings: how the scene is cut into windows.

    Returns:
        (rows, cols) uint8, 255 where there is no data.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.delayed import delayed
    from dask.highlevelgraph import HighLevelGraph

    planes = scene.planes
    bands, *inputs = ([*pairwise(accumulate(sizes, initial=0))] for sizes in planes.chunks)
    grid = settings.grid(scene.height, scene.width)
    layout = settings.blocks(grid, model.clusters)
    sides = (max(block.height for block in layout), max(block.width for block in layout))
    chunks = tuple(_joined(sizes, side) for sizes, side in zip(planes.chunks[1:], sides, strict=True))
    outputs = [[*pairwise(accumulate(sizes, initial=0))] for sizes in chunks]

    token = tokenize(planes.name, model_sha256(model), settings, scene.read_transform, chunks)
    chunk_name, part_name = f"landcover-{token}", f"landcover-part-{token}"
    labeller = delayed(
        Labeller(model, settings, scene.read_transform, (scene.height, scene.width)),
        name=f"landcover-model-{token}",
        traverse=False,
    )
    graph: dict[Any, Any] = {}
    finer = None if settings.refine is None else settings.refine.grid(scene.height, scene.width)
    for i, rows in enumerate(outputs[0]):
        tall = rows if finer is None else _seen(rows, finer.rows, finer.shape[0], scene.height)
        tall = _seen(tall, grid.rows, grid.shape[0], scene.height)
        downs = list(_overlapping(inputs[0], tall))
        for j, cols in enumerate(outputs[1]):
            wide = cols if finer is None else _seen(cols, finer.cols, finer.shape[1], scene.width)
            wide = _seen(wide, grid.cols, grid.shape[1], scene.width)
            acrosses = list(_overlapping(inputs[1], wide))
            parts = [[[(part_name, i, j, b, y, x) for x, _ in acrosses] for y, _ in downs] for b in range(len(bands))]
            for b in range(len(bands)):
                for (y, down), (x, across) in itertools.product(downs, acrosses):
                    share = (slice(None), down, across)
                    graph[part_name, i, j, b, y, x] = (operator.getitem, (planes.name, b, y, x), share)
            graph[chunk_name, i, j] = (_label, labeller.key, parts, *rows, *cols, tall[0], wide[0])
    sources: list[Any] = [planes, labeller]
    layers = HighLevelGraph.from_collections(chunk_name, graph, dependencies=sources)
    return da.Array(layers, chunk_name, chunks, dtype=np.uint8)


class Labeller:
    """What all chunks share: the model, and how windows are cut and read.

    It goes to other processes with the model on the CPU, and takes it to the device of its own there.

    Args:
        model: where it shall run.
        settings: how the scene is cut into windows.
        read_transform: how stored values are read.
        shape: rows and columns of the scene.
    """

    def __init__(
        self, model: LandCoverModel, settings: EngineSettings, read_transform: ReadTransform, shape: tuple[int, int]
    ) -> None:
        self._model, self._settings, self._transform, self._shape = model, settings, read_transform, shape
        self._grid = settings.grid(*shape)
        self._layout = settings.blocks(self._grid, model.clusters)
        self._turns = _turns(model)

    def __getstate__(self) -> dict[str, Any]:
        model = self._model if self._model.device.type == "cpu" else copy.deepcopy(self._model).cpu()
        arguments = (model, self._settings, self._transform, self._shape)
        return {"arguments": arguments, "device": str(self._model.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        model, *rest = state["arguments"]
        self.__init__(model.to(state["device"]), *rest)  # type: ignore[misc]

    def __call__(self, planes: NDArray[Any], top: int, left: int, rows: Stretch, cols: Stretch) -> NDArray[np.uint8]:
        """Labels of a chunk.

        Args:
            planes: (bands read, rows, cols), what its windows see.
            top, left: where that begins in the scene.
            rows, cols: of the chunk.
        """
        labels = np.full((rows[1] - rows[0], cols[1] - cols[0]), NODATA_LABEL, dtype=np.uint8)
        seen = _Seen(planes, top, left, self._shape, self._transform)
        todo = list(_within(self._layout, rows, cols))
        with self._turns:
            for found in label_blocks(seen, self._model, self._settings, blocks=todo):
                row, col, height, width = found.block
                part = np.s_[row - rows[0] : row - rows[0] + height, col - cols[0] : col - cols[0] + width]
                labels[part] = found.layers["labels"]
        return labels


class _Seen:
    """The part of a scene that a chunk's windows see."""

    def __init__(
        self, planes: NDArray[Any], top: int, left: int, shape: tuple[int, int], read_transform: ReadTransform
    ) -> None:
        self._planes, self._top, self._left, self._transform = planes, top, left, read_transform
        self.height, self.width = shape

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        row, col = row - self._top, col - self._left
        return self._transform.read(self._planes[:, row : row + height, col : col + width])

    def thumbnail(self, max_px: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        raise NotImplementedError("a part of a scene shows nothing of the whole")


def _label(
    labeller: Labeller, parts: Any, top: int, bottom: int, left: int, right: int, first_row: int, first_col: int
) -> NDArray[np.uint8]:
    """One task of the graph."""
    return labeller(np.block(parts), first_row, first_col, (top, bottom), (left, right))


def _turns(model: LandCoverModel) -> threading.BoundedSemaphore:
    """How many chunks are labelled at once in a process: as many as make use of its cores, on a GPU one."""
    cores = os.cpu_count() or 1
    return threading.BoundedSemaphore(max(1, cores // torch.get_num_threads()) if model.device.type == "cpu" else 1)


def _joined(sizes: Sequence[int], least: int) -> tuple[int, ...]:
    """Neighbouring chunks joined until each is of a least size; the last may be less, as stores of chunks want it."""
    joined = [0]
    for size in sizes:
        if joined[-1] >= least:
            joined.append(0)
        joined[-1] += size
    return tuple(joined)


def _seen(chunk: Stretch, starts: Sequence[int], side: int, length: int) -> Stretch:
    """What the windows that touch a chunk see, along one axis."""
    touching = [start for start in starts if start < chunk[1] and start + side > chunk[0]]
    return touching[0], min(length, touching[-1] + side)


def _overlapping(chunks: Sequence[Stretch], wanted: Stretch) -> Iterator[tuple[int, slice]]:
    """The input's chunks that have a share in a stretch, and that share in each chunk's own indices."""
    for number, (start, stop) in enumerate(chunks):
        if start < wanted[1] and stop > wanted[0]:
            yield number, slice(max(start, wanted[0]) - start, min(stop, wanted[1]) - start)


def _within(layout: Sequence[Block], rows: Stretch, cols: Stretch) -> Iterator[Block]:
    """The shares that a chunk has in the blocks of a scene."""
    for block in layout:
        top, bottom = max(block.row, rows[0]), min(block.row + block.height, rows[1])
        left, right = max(block.col, cols[0]), min(block.col + block.width, cols[1])
        if top < bottom and left < right:
            yield Block(top, left, bottom - top, right - left)
