"""Windows scored in full batches, which on a GPU are put together and sent ahead of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geohp.inference.engine.blending import WindowScores
from geohp.inference.engine.forward import Runner
from geohp.inference.engine.reading import Patch, ahead
from geohp.inference.engine.transfer import is_asynchronous, milestone
from geohp.inference.engine.windows import Origin

_BATCHES_AHEAD = 2
"""Batches put together before a GPU needs them: one may come late and the next is still there."""

_UNDER_WAY = 2
"""Forward passes that a GPU may have before it when it is given the next: one running, one to go on with. More would
only hold more memory."""

Windows = tuple[tuple[Origin, NDArray[np.bool_] | None], ...]
ScoredWindows = Iterator[tuple[Origin, WindowScores]]


@dataclass(frozen=True)
class Batch:
    """Windows that go through the model together, or some without valid pixels, which go through no model.

    Attributes:
        windows: origin and validity of each, as :class:`Patch` has them.
        images: (n, bands, rows, cols) float32, in page-locked memory where a GPU computes; ``None`` without valid
            pixels.
    """

    windows: Windows
    images: Tensor | None


def score_windows(groups: Generator[tuple[Patch, ...]], runner: Runner) -> ScoredWindows:
    """Score patches in full batches; those without valid pixels cost no forward pass and come at once.

    A GPU's scores are handed over while they are still to be computed: what is done with them takes its turn, and
    the next forward pass is launched in time if nobody waits for it.
    """
    batches, device = assemble_batches(groups, runner), runner.model.device
    if is_asynchronous(device):
        batches = ahead(batches, _BATCHES_AHEAD, "batching")
    under_way = deque[Callable[[], None]]()
    with closing(batches):
        for batch in batches:
            if batch.images is None:
                yield from ((origin, WindowScores(None, None)) for origin, _ in batch.windows)
                continue
            if len(under_way) == _UNDER_WAY:
                under_way.popleft()()
            windows, scores = batch.windows, runner(batch.images)
            under_way.append(milestone(device))
            del batch  # its images are not to be held meanwhile
            yield from _windows(windows, scores)


def _windows(windows: Windows, scores: Tensor) -> ScoredWindows:
    for (origin, valid), own in zip(windows, scores, strict=True):
        # A view of a batch would hold all of it.
        yield origin, WindowScores(own.clone() if len(scores) > 1 else own, valid)


def assemble_batches(groups: Generator[tuple[Patch, ...]], runner: Runner) -> Generator[Batch]:
    """Batches as large as the runner takes, filled across groups; the last may be smaller."""
    pinned = runner.model.device.type == "cuda"
    waiting: list[Patch] = []
    with closing(groups):
        for patches in groups:
            if empty := [patch for patch in patches if patch.data is None]:
                yield Batch(tuple((patch.origin, None) for patch in empty), None)
            waiting += [patch for patch in patches if patch.data is not None]
            while len(waiting) >= (count := runner.at_once):
                yield stacked([waiting.pop(0) for _ in range(count)], pinned=pinned)
        if waiting:
            yield stacked(waiting, pinned=pinned)


def stacked(patches: Sequence[Patch], *, pinned: bool) -> Batch:
    """Patches with valid pixels as one batch; their data are copied."""
    data = [patch.data for patch in patches if patch.data is not None]
    images = torch.empty(len(data), *data[0].shape, pin_memory=pinned)
    np.stack(data, out=images.numpy())
    return Batch(tuple((patch.origin, patch.valid) for patch in patches), images)
