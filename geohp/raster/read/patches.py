"""Square patches of a scene: reading them whole also at its edges, and drawing where to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block, BlockGrid

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Allowed = Callable[[NDArray[np.int64], NDArray[np.int64]], Bool]
"""Tells of the (n,) first rows and columns of patches which may be cut."""

THUMBNAIL_PX = 1024
"""Side of the decimated look at a scene that sampling is judged on."""

_DRAWS = 50_000
_MOST_DRAWS = 1_000_000  # where hardly any place is allowed


class Readable(Protocol):
    """What is needed of a scene: its size, windowed reads and a decimated look at it."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def read(self, row: int, col: int, height: int, width: int) -> tuple[Float32, Bool]:
        """Data (bands, height, width) in [0, 1] and validity (height, width)."""

    def thumbnail(self, max_px: int) -> tuple[Float32, Bool]:
        """The whole scene decimated to at most ``max_px`` a side."""


def read_patch(scene: Readable, row: int, col: int, side: int) -> tuple[Float32, Bool]:
    """A patch of ``side`` pixels a side, ready for a backbone.

    What the scene does not cover or marks invalid is filled, so that features of valid pixels are disturbed as
    little as possible: invalid pixels with the mean colour of the valid ones, and what lies beyond the scene (only
    where it is smaller than the patch) with its mirror image.

    Args:
        scene: where to read.
        row, col: origin of the patch, inside the scene.
        side: in pixels.

    Returns:
        Data (bands, side, side) float32 in [0, 1] and validity (side, side), False beyond the scene.
    """
    block = Block(row, col, side, side).clip((scene.height, scene.width))
    return complete_patch(*scene.read(*block), (side, side))


def complete_patch(data: Float32, valid: Bool, shape: tuple[int, int]) -> tuple[Float32, Bool]:
    """Fill what is invalid in a patch and what it lacks of a shape, as :func:`read_patch` says.

    Args:
        data: (bands, rows, cols).
        valid: (rows, cols).
        shape: rows and columns wanted, no smaller.
    """
    if not valid.all() and valid.any():
        mean = data[:, valid].mean(axis=1, dtype=np.float64).astype(np.float32)
        data = np.where(valid, data, mean[:, None, None])
    if valid.shape != shape:
        beyond = ((0, shape[0] - valid.shape[0]), (0, shape[1] - valid.shape[1]))
        data = np.pad(data, ((0, 0), *beyond), mode="symmetric")
        valid = np.pad(valid, beyond, constant_values=False)
    return data, valid


def sample_origins(
    scene: Readable,
    side: int,
    count: int,
    rng: np.random.Generator,
    min_valid: float = 0.5,
    valid: Bool | None = None,
    allowed: Allowed | None = None,
) -> list[tuple[int, int]]:
    """Random patch origins (row, col) over the valid part of a scene.

    Validity is judged on a decimated read, so that a large scene costs no more than a small one; where that shows
    nothing, the scene is searched window by window. Patches may overlap one another.

    Args:
        scene: where to sample.
        side: of a patch, in pixels.
        count: how many origins to draw at most.
        rng: source of randomness; the same state gives the same origins.
        min_valid: share of valid pixels a patch should have; where too few reach it, the best ones are taken.
        valid: validity of the scene's thumbnail, where the caller has one.
        allowed: where patches may be cut; everywhere by default.

    Returns:
        Up to ``count`` origins, none where the scene has no valid pixel or no patch is allowed.
    """
    last_row, last_col = max(0, scene.height - side), max(0, scene.width - side)
    if valid is None:
        _, valid = scene.thumbnail(THUMBNAIL_PX)
    if not valid.any():
        return _search(scene, side, count, allowed)
    possible = (last_row + 1) * (last_col + 1)
    draws = min(possible, 20 * count + 1000)
    flat = rng.permutation(possible) if possible <= draws else rng.integers(possible, size=draws)
    rows, cols = np.divmod(flat, last_col + 1)
    if allowed is not None:
        rows, cols = _allowed_origins(rows, cols, allowed, (last_row, last_col), count, rng)
    share = valid_share(valid, np.stack([rows, cols], axis=1), side, (scene.height, scene.width))
    good = np.flatnonzero(share >= min_valid - 1e-6)
    if len(good) < count:
        # The best of the rest; a stable sort keeps the draw's order among equals.
        rest = np.flatnonzero((share < min_valid - 1e-6) & (share > 0))
        good = np.concatenate([good, rest[np.argsort(-share[rest], kind="stable")]])
    origins = [(int(rows[i]), int(cols[i])) for i in good[:count]]
    if len(origins) < count and possible > draws:  # so little is valid that few draws meet it
        origins += _around_valid(valid, side, (scene.height, scene.width), count - len(origins), rng, allowed)
    return origins or _search(scene, side, count, allowed)


def grid_origins(height: int, width: int, side: int, stride: int) -> list[tuple[int, int]]:
    """Patch origins (row, col) of a grid that covers a scene; the last row and column end where the scene does.

    Args:
        height, width: of the scene, in pixels.
        side: of a patch.
        stride: from one patch to the next.
    """

    def along(length: int) -> list[int]:
        last = max(0, length - side)
        return [*range(0, last, stride), last]

    return [(row, col) for row in along(height) for col in along(width)]


def _allowed_origins(
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    allowed: Allowed,
    last: tuple[int, int],
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of drawn origins those that are allowed; where they are few, more are drawn."""
    possible, drawn = (last[0] + 1) * (last[1] + 1), len(rows)
    fit = allowed(rows, cols)
    chosen = [(rows[fit], cols[fit])]
    while drawn < min(possible, _MOST_DRAWS) and sum(len(r) for r, _ in chosen) < 2 * count:
        rows, cols = np.divmod(rng.integers(possible, size=_DRAWS), last[1] + 1)
        fit = allowed(rows, cols)
        chosen.append((rows[fit], cols[fit]))
        drawn += _DRAWS
    return np.concatenate([r for r, _ in chosen]), np.concatenate([c for _, c in chosen])


def _around_valid(
    valid: Bool, side: int, shape: tuple[int, int], count: int, rng: np.random.Generator, allowed: Allowed | None
) -> list[tuple[int, int]]:
    """Up to ``count`` origins of patches whose middles lie in valid pixels of a scene's thumbnail."""
    steps = np.array(shape) / np.array(valid.shape)
    cells = rng.choice(np.argwhere(valid), size=4 * count)
    corners = ((cells + rng.random(cells.shape)) * steps - side / 2).astype(np.int64)
    rows, cols = np.clip(corners, 0, np.maximum(0, np.array(shape) - side)).T
    if allowed is not None:
        fit = allowed(rows, cols)
        rows, cols = rows[fit], cols[fit]
    return list(zip(rows[:count].tolist(), cols[:count].tolist(), strict=True))


def valid_share(
    valid: Bool, origins: Sequence[tuple[int, int]] | NDArray[np.int64], side: int, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Share (n,) of valid pixels under each patch, as a decimated look at a scene tells; by a summed-area table.

    Args:
        valid: validity of the scene's thumbnail.
        origins: first row and column of each patch.
        side: of the patches, in pixels.
        shape: of the scene.
    """
    rows, cols = np.array(origins, np.int64).reshape(-1, 2).T
    table = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1))
    table[1:, 1:] = valid.cumsum(0).cumsum(1)
    steps = np.array(valid.shape) / np.array(shape)
    top = np.clip((rows * steps[0]).astype(int), 0, valid.shape[0] - 1)
    left = np.clip((cols * steps[1]).astype(int), 0, valid.shape[1] - 1)
    bottom = np.clip(np.ceil((rows + side) * steps[0]).astype(int), top + 1, valid.shape[0])
    right = np.clip(np.ceil((cols + side) * steps[1]).astype(int), left + 1, valid.shape[1])
    inside = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    share: NDArray[np.float64] = inside / ((bottom - top) * (right - left))
    return share


def _search(scene: Readable, side: int, count: int, allowed: Allowed | None = None) -> list[tuple[int, int]]:
    """The first ``count`` windows in raster order with a valid pixel."""
    origins: list[tuple[int, int]] = []
    for block in BlockGrid(scene.height, scene.width, side).blocks:
        if allowed is not None and not allowed(np.array([block.row]), np.array([block.col]))[0]:
            continue
        _, valid = scene.read(*block)
        if valid.any():
            origins.append(block.origin)
            if len(origins) == count:
                break
    return origins
