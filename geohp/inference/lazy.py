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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import EngineSettings
from geohp.model.digest import model_sha256
from geohp.model.network import LandCoverModel
from geohp.raster.area_of_interest import PixelArea
from geohp.raster.block import Block
from geohp.raster.read.lazy import LazyScene, ReadTransform

if TYPE_CHECKING:
    import dask.array as da

Span = tuple[int, int]
"""First index, and the one after the last."""


def lazy_labels(
    scene: LazyScene, model: LandCoverModel, settings: EngineSettings, area: PixelArea | None = None
) -> da.Array:
    """The label map of a dask array, as a dask array.

    Its chunks are the input's; neighbours are joined until they are as large as a block, since every chunk scores the
    windows on its border anew.

    Args:
        scene: what to label.
        model: goes into the graph once.
        settings: how the scene is cut into windows.
        area: all that is to be labelled; chunks outside need nothing of the input.

    Returns:
        (rows, cols) uint8, 255 where there is no data.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.delayed import delayed
    from dask.highlevelgraph import HighLevelGraph

    planes = scene.planes
    bands, *inputs = (_spans(sizes) for sizes in planes.chunks)
    grid = settings.grid(scene.height, scene.width)
    layout = settings.blocks(grid, model.clusters)
    sides = (max(block.height for block in layout), max(block.width for block in layout))
    chunks = tuple(_joined(sizes, side) for sizes, side in zip(planes.chunks[1:], sides, strict=True))
    grids = [grid] if settings.refine is None else [settings.refine.grid(scene.height, scene.width), grid]
    tall = _views(_spans(chunks[0]), inputs[0], [(g.rows, g.shape[0]) for g in grids], scene.height)
    wide = _views(_spans(chunks[1]), inputs[1], [(g.cols, g.shape[1]) for g in grids], scene.width)

    token = tokenize(planes.name, model_sha256(model), settings, scene.read_transform, chunks, area and area.digest)
    chunk_name, part_name = f"landcover-{token}", f"landcover-part-{token}"
    labeller = delayed(
        Labeller(model, settings, scene.read_transform, (scene.height, scene.width), area),
        name=f"landcover-model-{token}",
        traverse=False,
    )
    graph: dict[Any, Any] = {}
    for (i, rows), (j, cols) in itertools.product(enumerate(tall), enumerate(wide)):
        if area is not None and not area.touches(
            Block.between(rows.chunk[0], cols.chunk[0], rows.chunk[1], cols.chunk[1])
        ):
            graph[chunk_name, i, j] = (_blank, rows.chunk[1] - rows.chunk[0], cols.chunk[1] - cols.chunk[0])
            continue
        keys = [[[(part_name, i, j, b, y, x) for x, _ in cols.parts] for y, _ in rows.parts] for b in range(len(bands))]
        for b, (y, down), (x, across) in itertools.product(range(len(bands)), rows.parts, cols.parts):
            share = (slice(None), down, across)
            graph[part_name, i, j, b, y, x] = (operator.getitem, (planes.name, b, y, x), share)
        graph[chunk_name, i, j] = (_label, labeller.key, keys, rows.chunk, cols.chunk, rows.seen[0], cols.seen[0])
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
        area: all that is to be labelled; everything by default.
    """

    def __init__(
        self,
        model: LandCoverModel,
        settings: EngineSettings,
        read_transform: ReadTransform,
        shape: tuple[int, int],
        area: PixelArea | None = None,
    ) -> None:
        self._area = area
        self._model, self._settings, self._transform, self._shape = model, settings, read_transform, shape
        self._grid = settings.grid(*shape)
        self._layout = settings.blocks(self._grid, model.clusters)
        self._turns = _turns(model)

    def __reduce__(self) -> tuple[object, ...]:
        model = self._model if self._model.device.type == "cpu" else copy.deepcopy(self._model).cpu()
        return _labeller_on, (str(self._model.device), model, self._settings, self._transform, self._shape, self._area)

    def __call__(self, planes: NDArray[Any], chunk: Block, origin: tuple[int, int]) -> NDArray[np.uint8]:
        """Labels of a chunk.

        Args:
            planes: (bands read, rows, cols), what its windows see.
            chunk: where it lies in the scene.
            origin: row and column at which ``planes`` begin.
        """
        labels = np.full(chunk.shape, NODATA_LABEL, dtype=np.uint8)
        seen = _SeenPart(planes, origin, self._shape, self._transform)
        shares = [share for block in self._layout if (share := block.intersect(chunk)) is not None]
        with self._turns:
            for finished in label_blocks(seen, self._model, self._settings, blocks=shares, area=self._area):
                labels[finished.block.relative_to(chunk).slices] = finished.layers["labels"]
        return labels


class _SeenPart:
    """The part of a scene that a chunk's windows see."""

    def __init__(
        self, planes: NDArray[Any], origin: tuple[int, int], shape: tuple[int, int], read_transform: ReadTransform
    ) -> None:
        self._planes, self._transform = planes, read_transform
        self._top, self._left = origin
        self.height, self.width = shape

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        row, col = row - self._top, col - self._left
        return self._transform.read(self._planes[:, row : row + height, col : col + width])

    def thumbnail(self, max_px: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        raise NotImplementedError("a part of a scene shows nothing of the whole")


def _labeller_on(device: str, model: LandCoverModel, *rest: Any) -> Labeller:
    return Labeller(model.to(torch.device(device)), *rest)


def _label(labeller: Labeller, parts: Any, rows: Span, cols: Span, top: int, left: int) -> NDArray[np.uint8]:
    """One task of the graph."""
    return labeller(np.block(parts), Block.between(rows[0], cols[0], rows[1], cols[1]), (top, left))


def _blank(rows: int, cols: int) -> NDArray[np.uint8]:
    """A chunk without data."""
    return np.full((rows, cols), NODATA_LABEL, dtype=np.uint8)


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


class _View(NamedTuple):
    """A chunk of the output along one axis, what its windows see, and where that lies in the input's chunks."""

    chunk: Span
    seen: Span
    parts: list[tuple[int, slice]]


def _views(
    chunks: Sequence[Span], inputs: Sequence[Span], windows: Sequence[tuple[Sequence[int], int]], length: int
) -> list[_View]:
    """What each chunk needs along one axis.

    Args:
        chunks, inputs: of the output, and of the input.
        windows: starts and side of the windows that see a chunk, and of those that see what the former see.
        length: of the scene.
    """
    views = []
    for chunk in chunks:
        seen = chunk
        for starts, side in windows:
            touching = [start for start in starts if start < seen[1] and start + side > seen[0]]
            seen = touching[0], min(length, touching[-1] + side)
        views.append(_View(chunk, seen, list(_overlapping(inputs, seen))))
    return views


def _spans(sizes: Sequence[int]) -> list[Span]:
    return [*pairwise(accumulate(sizes, initial=0))]


def _overlapping(chunks: Sequence[Span], span: Span) -> Iterator[tuple[int, slice]]:
    """The chunks that have a share in a span, and that share in each chunk's own indices."""
    for number, (start, stop) in enumerate(chunks):
        if start < span[1] and stop > span[0]:
            yield number, slice(max(start, span[0]) - start, min(stop, span[1]) - start)
