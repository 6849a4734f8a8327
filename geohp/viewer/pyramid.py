"""A map and its scene as tiles of ever coarser levels, small enough for a page.

Each level halves the one below. A tile is made of the four below it, so that every pixel is read once and no more than
a few tiles are in memory; only what they are encoded as is kept.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geohp.classes import NODATA_LABEL, QUANTITY_STEPS
from geohp.progress import Progress
from geohp.raster.block import Block, BlockGrid
from geohp.raster.write.layer import Layer
from geohp.raster.write.overviews import halve
from geohp.viewer.inputs import MapInputs

TILE_PX = 512
"""Side of a tile."""

MOST_PX = 2**25
"""Pixels of the finest level."""

MOST_BYTES = 26 * 10**6
"""Of all levels, as they are in the page."""

_LABELS = Layer(overviews="mode")
_CONFIDENCE = Layer(overviews="average")


@dataclass(frozen=True)
class Tile:
    """Pixels of a tile.

    Attributes:
        colours: (rows, cols, 4) uint8: red, green, blue, and 255 where the scene has data, else 0.
        labels: (rows, cols) uint8, 255 without data.
        confidence: (rows, cols) uint8 in steps of 1/254, 255 without data; ``None`` where there is none.
    """

    colours: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None

    @classmethod
    def joined(cls, quarters: list[list[Tile]]) -> Tile:
        """Rows of tiles as one."""

        def join(name: str) -> NDArray[np.uint8]:
            rows = [np.concatenate([getattr(tile, name) for tile in row], axis=1) for row in quarters]
            return np.concatenate(rows)

        return cls(join("colours"), join("labels"), None if quarters[0][0].confidence is None else join("confidence"))

    def halved(self) -> Tile:
        """Half as many rows and columns."""
        confidence = None if self.confidence is None else halve(self.confidence[None], _CONFIDENCE)[0]
        return Tile(_halved_colours(self.colours), halve(self.labels[None], _LABELS)[0], confidence)


@dataclass
class Level:
    """One level as it goes into the page.

    Attributes:
        factor: pixels of the map along a side of a pixel of this level.
        rows, columns: of tiles.
        images: WebP, by number of the tile, row by row; empty without data.
        labels: zlib-compressed bytes, the same way.
        confidence: zlib-compressed bytes of per cent, 255 without data, every second row and column.
    """

    factor: int
    rows: int
    columns: int
    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    confidence: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for texts in (self.images, self.labels, self.confidence):
            texts.extend([""] * (self.rows * self.columns))

    def put(self, row: int, col: int, tile: Tile) -> None:
        """Encode a tile."""
        number = row * self.columns + col
        self.images[number] = encode_image(tile.colours)
        if (tile.labels != NODATA_LABEL).any():
            self.labels[number] = _deflated(tile.labels)
            if tile.confidence is not None:
                self.confidence[number] = _deflated(_percent(halve(tile.confidence[None], _CONFIDENCE)[0]))

    @property
    def size_bytes(self) -> int:
        """In the page."""
        return sum(len(text) for texts in (self.images, self.labels, self.confidence) for text in texts)

    def as_json(self) -> str:
        """For the page; base64 needs no escaping."""
        return json.dumps({"images": self.images, "labels": self.labels, "confidence": self.confidence})


def build_levels(
    inputs: MapInputs, progress: Progress, *, most_px: int = MOST_PX, most_bytes: int = MOST_BYTES
) -> list[Level]:
    """The levels of a page, the finest first.

    Args:
        inputs: map and scene.
        progress: called after every tile of the finest level with the stage "drawing".
        most_px: pixels of the finest level; that of a larger map shows one pixel of 4, of 16, ...
        most_bytes: of all levels; where there are more, the finest ones are left out, but for the last.

    Raises:
        SceneError: a raster that cannot be read.
    """
    builder = _Builder(inputs, shown_factor(inputs.labels.grid.shape, most_px), progress)
    builder.tile(len(builder.levels) - 1, 0, 0)
    levels = builder.levels
    while len(levels) > 1 and sum(level.size_bytes for level in levels) > most_bytes:
        levels = levels[1:]
    return levels


def shown_factor(shape: tuple[int, int], most_px: int = MOST_PX) -> int:
    """Pixels of a map of so many rows and columns along a side of one of its finest level: a power of two."""
    factor = 1
    while -(-shape[0] // factor) * -(-shape[1] // factor) > most_px:
        factor *= 2
    return factor


def encode_image(colours: NDArray[np.uint8]) -> str:
    """(rows, cols, 4) uint8 as WebP in base64; empty where all is transparent."""
    if not colours[..., 3].any():
        return ""
    shown = colours if (colours[..., 3] < 255).any() else colours[..., :3]
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(file, "WEBP", quality=80, method=2)
    return b64encode(file.getvalue()).decode("ascii")


def read_colours(inputs: MapInputs, block: Block, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """(rows, cols, 4) uint8 of the scene in a block, reduced to a shape; see :class:`Tile`."""
    data, valid = inputs.scene.read_reduced(block, shape or block.shape)
    planes = np.rint(data * 255).astype(np.uint8)
    colours = np.stack([planes[min(band, len(planes) - 1)] for band in range(3)], axis=-1)
    return np.concatenate([colours, np.where(valid, np.uint8(255), np.uint8(0))[..., None]], axis=-1)


class _Builder:
    """Makes tiles of the four below, down to those that are read."""

    def __init__(self, inputs: MapInputs, factor: int, progress: Progress) -> None:
        self._inputs, self._progress = inputs, progress
        height, width = (-(-side // factor) for side in inputs.labels.grid.shape)
        self._finest = BlockGrid(height, width, TILE_PX)
        self._done = 0
        self.levels: list[Level] = []
        while True:
            self.levels.append(Level(factor, -(-height // TILE_PX), -(-width // TILE_PX)))
            if max(height, width) <= TILE_PX:
                break
            height, width, factor = -(-height // 2), -(-width // 2), 2 * factor

    def tile(self, number: int, row: int, col: int) -> Tile:
        """A tile of a level, once it and all below it are encoded."""
        if number == 0:
            tile = self._read(row, col)
        else:
            below = self.levels[number - 1]
            quarters = [
                [self.tile(number - 1, r, c) for c in range(2 * col, min(2 * col + 2, below.columns))]
                for r in range(2 * row, min(2 * row + 2, below.rows))
            ]
            tile = Tile.joined(quarters).halved()
        self.levels[number].put(row, col, tile)
        return tile

    def _read(self, row: int, col: int) -> Tile:
        factor, whole = self.levels[0].factor, self._inputs.labels.grid.shape
        shown = self._finest.blocks[row * self._finest.columns + col]
        block = Block(*(factor * number for number in shown)).clip(whole)
        confidence = self._inputs.confidence
        tile = Tile(
            read_colours(self._inputs, block, shown.shape),
            self._inputs.read_labels(block, shown.shape),
            None if confidence is None else confidence.read(block, shown.shape),
        )
        self._done += 1
        self._progress("drawing", self._done, len(self._finest.blocks))
        return tile


def _halved_colours(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, cols, 4) in half as many rows and columns: the mean of those of four pixels that have data."""
    rows, cols = colours.shape[:2]
    padded = np.pad(colours, ((0, rows % 2), (0, cols % 2), (0, 0)), mode="edge")
    quads = [padded[down::2, right::2] for down in (0, 1) for right in (0, 1)]
    weights = [quad[..., 3:] > 0 for quad in quads]
    total = sum((quad[..., :3] * weight.astype(np.uint16) for quad, weight in zip(quads, weights, strict=True)))
    count = sum(weight.astype(np.uint16) for weight in weights)
    mean = (total + count // 2) // np.maximum(count, 1)
    return np.concatenate([mean, np.where(count > 0, 255, 0)], axis=-1).astype(np.uint8)


def _percent(steps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    percent = np.rint(steps * (100 / QUANTITY_STEPS)).astype(np.uint8)
    return np.where(steps == NODATA_LABEL, np.uint8(NODATA_LABEL), percent)


def _deflated(values: NDArray[np.uint8]) -> str:
    return b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode("ascii")
