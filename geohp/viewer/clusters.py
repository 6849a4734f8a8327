"""The clusters of a map: how much each covers, and where it is most itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from geohp.classes import NODATA_LABEL, QUANTITY_STEPS, LandCoverClass
from geohp.inference.areas import ClassArea, class_areas, pixel_areas, tally
from geohp.progress import Progress
from geohp.raster.block import BLOCK_PX, Block, BlockGrid
from geohp.raster.read.labels import complete_classes
from geohp.viewer.inputs import MapInputs

PLACE_PX = 120
"""Side of a place."""

_CELL_PX = PLACE_PX // 3
_REGIONS = 6  # along each side of the map: of each of these regions at most one place
_LEAST = 0.5  # of the score of the best place


@dataclass(frozen=True)
class Cluster:
    """A cluster of a map.

    Attributes:
        entry: its label, name and colour.
        area: how much it covers.
        places: where it is most itself, the best first; none of a cluster that does not occur.
    """

    entry: LandCoverClass
    area: ClassArea
    places: tuple[Block, ...]


def survey_clusters(inputs: MapInputs, progress: Progress, *, block_px: int = BLOCK_PX) -> tuple[Cluster, ...]:
    """Go through a map once, block by block.

    Args:
        inputs: the map.
        progress: called after every block with the stage "looking at clusters".
        block_px: side of a block.

    Returns:
        all clusters that the map declares or has, by label.

    Raises:
        SceneError: it cannot be read.
        VectorError: it is no label map; see :meth:`MapInputs.read_labels`.
    """
    grid = inputs.labels.grid
    pixels, places, tallies = pixel_areas(grid), _Places(grid.shape), []
    blocks = BlockGrid(grid.height, grid.width, block_px).blocks
    for number, block in enumerate(blocks):
        progress("looking at clusters", number, len(blocks))
        if not inputs.labels.may_hold_data(block):
            continue
        labels = inputs.read_labels(block)
        steps = np.zeros_like(labels)
        if inputs.confidence is not None:
            steps = inputs.confidence.read(block)
            steps[steps == NODATA_LABEL] = 0
        tallies.append(tally(block, {"labels": labels, "confidence": steps}, pixels))
        places.add(block, labels, None if inputs.confidence is None else steps / QUANTITY_STEPS)
    progress("looking at clusters", len(blocks), len(blocks))
    present = np.array([int(label) for counts in tallies for label in counts], np.int64)
    classes = complete_classes(inputs.labels.classes, present)
    areas = class_areas(tallies, classes, grid)
    if inputs.confidence is None:
        areas = tuple(replace(area, mean_confidence=None) for area in areas)
    return tuple(Cluster(entry, area, places.best(entry.id)) for entry, area in zip(classes, areas, strict=True))


class _Place(NamedTuple):
    """How typical a place is of a cluster, and its middle."""

    score: float
    row: int
    col: int


class _Places:
    """The most typical places of each cluster, at most one of each region of the map.

    A place is a cell of pixels and the eight around it. It scores by the share of the cluster, every pixel weighed by
    its confidence where that is known, in the cell itself and in all nine: a pure middle first, then a compact whole.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._candidates: dict[int, dict[int, _Place]] = {}

    def add(self, block: Block, labels: NDArray[np.uint8], confidence: NDArray[np.float64] | None) -> None:
        """Take in a block: labels, 255 for no data, and confidence in [0, 1], both (rows, cols)."""
        present = np.unique(labels[labels != NODATA_LABEL]).tolist()
        if not present:
            return
        middles, regions = self._cells(block)
        for label, shares in zip(present, _cell_shares(labels, confidence, present), strict=True):
            scores = np.where(shares > 0, shares + uniform_filter(shares, 3, mode="constant"), 0).ravel()
            order = np.argsort(-scores, kind="stable")
            order = order[scores[order] > 0]
            candidates = self._candidates.setdefault(label, {})
            for region, first in zip(*np.unique(regions[order], return_index=True), strict=True):
                place = _Place(float(scores[order[first]]), *middles[order[first]].tolist())
                candidates[int(region)] = max(place, candidates.get(int(region), place), key=lambda place: place.score)

    def best(self, label: int) -> tuple[Block, ...]:
        """The best places of a cluster, none upon another."""
        chosen: list[_Place] = []
        ranked = sorted(
            self._candidates.get(label, {}).values(), key=lambda place: (-place.score, place.row, place.col)
        )
        for place in ranked:
            apart = all(max(abs(place.row - p.row), abs(place.col - p.col)) >= PLACE_PX for p in chosen)
            if apart and place.score >= _LEAST * ranked[0].score:
                chosen.append(place)
        return tuple(self._around(place) for place in chosen)

    def _cells(self, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of a block's cells, row by row: (n, 2) middles, as rows and columns of the map, and (n,) regions."""
        rows = np.minimum(np.arange(block.row, block.bottom, _CELL_PX) + _CELL_PX // 2, block.bottom - 1)
        cols = np.minimum(np.arange(block.col, block.right, _CELL_PX) + _CELL_PX // 2, block.right - 1)
        middles = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1).reshape(-1, 2)
        across = middles * _REGIONS // np.array(self._shape)
        return middles, across[:, 0] * _REGIONS + across[:, 1]

    def _around(self, place: _Place) -> Block:
        height, width = (min(PLACE_PX, side) for side in self._shape)
        row = min(max(place.row - height // 2, 0), self._shape[0] - height)
        col = min(max(place.col - width // 2, 0), self._shape[1] - width)
        return Block(row, col, height, width)


def _cell_shares(
    labels: NDArray[np.uint8], confidence: NDArray[np.float64] | None, present: list[int]
) -> NDArray[np.float64]:
    """(labels, rows, cols) share of each label in each cell, weighed by confidence."""
    height, width = labels.shape
    down, across = -(-height // _CELL_PX), -(-width // _CELL_PX)
    ranks = np.full(NODATA_LABEL + 1, len(present), np.int64)
    ranks[present] = np.arange(len(present))
    cells = (np.arange(height) // _CELL_PX)[:, None] * across + np.arange(width) // _CELL_PX
    keys = cells * (len(present) + 1) + ranks[labels]
    weights = None if confidence is None else confidence.ravel()
    sums = np.bincount(keys.ravel(), weights, minlength=down * across * (len(present) + 1))
    shares: NDArray[np.float64] = np.moveaxis(sums.reshape(down, across, -1)[..., :-1], -1, 0) / _CELL_PX**2
    return shares
