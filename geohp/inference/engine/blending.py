"""Windows' scores kept as long as a block needs them, and blended into it at pixel resolution."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geohp.files.atomic import temporary_failure
from geohp.inference.engine.windows import Origin
from geohp.raster.block import Block

CACHE_BYTES = 32 * 2**20
"""Scores held in memory between blocks; beyond it they wait in a temporary file."""


Blended = tuple[Block, Tensor, NDArray[np.bool_]]
"""A region, its windows' weighted scores (C, height, width), and its validity (height, width)."""


@dataclass(frozen=True)
class WindowScores:
    """A window's scores and validity; both ``None`` where nothing in it is valid.

    Attributes:
        scores: (C, h, w) at patch resolution, without its first ``above`` rows.
        valid: (rows, cols) bool, at pixel resolution, of the whole window.
        above: rows left out because no block needs them any more.
    """

    scores: Tensor | SpilledScores | None
    valid: NDArray[np.bool_] | None
    above: int = 0


@dataclass(frozen=True)
class SpilledScores:
    """Scores that wait in the temporary file."""

    offset: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of the scores."""
        return 4 * int(np.prod(self.shape))


class ScoreCache:
    """The windows that blocks to come still need.

    Args:
        shape: rows and columns of a window, in pixels.
        limit: bytes of scores held in memory; ``CACHE_BYTES`` by default.
    """

    def __init__(self, shape: tuple[int, int], limit: int | None = None) -> None:
        self._shape, self._limit = shape, CACHE_BYTES if limit is None else limit
        self._windows: dict[Origin, WindowScores] = {}
        self._bytes = 0
        self._file = -1
        self._end = 0
        self._free: dict[int, list[int]] = {}

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._windows

    def __len__(self) -> int:
        return len(self._windows)

    def put(self, origin: Origin, window: WindowScores) -> None:
        """Keep a window just scored."""
        self._windows[origin] = window
        if isinstance(window.scores, Tensor):
            self._bytes += window.scores.nbytes

    def get(self, origin: Origin) -> WindowScores:
        """A window with its scores in memory."""
        window = self._windows[origin]
        if isinstance(window.scores, SpilledScores):
            return replace(window, scores=self._load(window.scores))
        return window

    def forget(self, origins: Iterable[Origin]) -> None:
        """Windows that no block needs any more."""
        for origin in origins:
            self._release(self._windows.pop(origin))

    def keep_below(self, origins: Iterable[Origin], row: int) -> None:
        """Of these windows only what lies below a row of the scene is still needed, and not soon."""
        for origin in origins:
            window = self._windows[origin]
            if not isinstance(window.scores, Tensor):
                continue
            scores, above = window.scores, window.above
            # Where patches are pixels, what lies above is most of it; elsewhere all of it is little.
            if scores.shape[1] + above == self._shape[0] and row - origin[0] > above:
                above, scores = row - origin[0], scores[:, row - origin[0] - above :].clone()
                self._release(window)
                window = replace(window, scores=scores, above=above)
                self.put(origin, window)
            if self._bytes > self._limit and scores.device.type == "cpu":
                self._release(window)
                self._windows[origin] = replace(window, scores=self._spill(scores))

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _release(self, window: WindowScores) -> None:
        if isinstance(window.scores, SpilledScores):
            self._free.setdefault(window.scores.nbytes, []).append(window.scores.offset)
        elif window.scores is not None:
            self._bytes -= window.scores.nbytes

    def _spill(self, scores: Tensor) -> SpilledScores:
        vacant = self._free.get(scores.nbytes)
        offset = vacant.pop() if vacant else self._end
        self._end = max(self._end, offset + scores.nbytes)
        content = scores.contiguous().numpy().tobytes()
        try:
            if self._file < 0:
                with tempfile.TemporaryFile(prefix="geohp-") as file:
                    self._file = os.dup(file.fileno())
            if os.pwrite(self._file, content, offset) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise temporary_failure(error) from error
        return SpilledScores(offset, tuple(scores.shape))

    def _load(self, spilled: SpilledScores) -> Tensor:
        content = bytearray(os.pread(self._file, spilled.nbytes, spilled.offset))
        if len(content) != spilled.nbytes:
            raise OSError("a temporary file was cut short")
        return torch.frombuffer(content, dtype=torch.float32).reshape(spilled.shape)


def blend(
    block: Block, windows: dict[Origin, WindowScores], weights: Tensor, channels: int
) -> tuple[Tensor, NDArray[np.bool_]]:
    """The windows' weighted scores over one block, and its validity.

    Every pixel adds up its windows in raster order, by single multiplications and additions: the sums are the same
    to the last bit whatever the block.

    Args:
        block: where.
        windows: all that touch it, in raster order.
        weights: (rows, cols) of a window, on the scores' device.
        channels: C.

    Returns:
        Scores (C, height, width), not divided by the sum of weights, and validity (height, width).
    """
    shape = (weights.shape[0], weights.shape[1])
    total = torch.zeros(channels, *block.shape, device=weights.device)
    valid = np.zeros(block.shape, dtype=bool)
    for origin, window in windows.items():
        frame = Block(*origin, *shape)
        shared = block.intersect(frame)
        if not isinstance(window.scores, Tensor) or window.valid is None or shared is None:
            continue
        here, within = shared.relative_to(block).slices, shared.relative_to(frame)
        if window.scores.shape[1] + window.above == shape[0] and window.scores.shape[2] == shape[1]:
            fine = window.scores[:, *within.relative_to(Block(window.above, 0, *shape)).slices]
        else:
            fine = F.interpolate(window.scores[None], size=shape, mode="bilinear", align_corners=False)[0]
            fine = fine[:, *within.slices]
        total[:, *here] += fine * weights[within.slices]
        valid[here] |= window.valid[within.slices]
    return total, valid
