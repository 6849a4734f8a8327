"""Class maps fitted to the outlines that the scene itself shows: a dense CRF over windows of a grid of its own.

    blended scores of a window ─▶ shares of the classes ─┐
    the scene's colours there ───────────────────────────┴▶ dense CRF ─▶ marginals ─▶ blended block

The windows lie where they lie whatever the blocks, and a window's marginals depend on nothing but what it shows: so
the map does not depend on how it is cut into blocks. A window sees less than the whole scene. Its marginals count most
where it sees the surroundings best, and fade into its neighbours' over the overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from geohp.crf.guide import guide_image
from geohp.crf.mean_field import dense_crf
from geohp.errors import ConfigError
from geohp.inference.engine.blending import Blended, WindowScores
from geohp.inference.engine.layers import class_probabilities
from geohp.inference.engine.reading import Patch
from geohp.inference.engine.windows import Origin, WindowGrid
from geohp.raster.block import Block


@dataclass(frozen=True)
class Refinement:
    """The windows that a dense CRF with the published settings runs over, in pixels of the scene.

    Its kernel in space and colour is a Gaussian of 67 px: with the default overlap every pixel is decided, mostly or
    alone, by a window that shows about that much around it, but for the scene's rim.

    Attributes:
        window_px: side of a window.
        overlap_px: pixels shared by neighbouring windows.
    """

    window_px: int = 512
    overlap_px: int = 128

    def grid(self, height: int, width: int) -> WindowGrid:
        """The windows over a scene of that size, none of which reaches beyond it."""
        return WindowGrid(height, width, self.window_px, self.overlap_px, multiple=1)


REFINEMENTS = ("crf",)
"""What a map can be refined by."""


def refinement(name: str | None) -> Refinement | None:
    """The refinement of a name, or none.

    Raises:
        ConfigError: there is none of that name.
    """
    if name is not None and name not in REFINEMENTS:
        raise ConfigError(f"refine {name!r}: must be {' or '.join(REFINEMENTS)}, or left out")
    return None if name is None else Refinement()


def regions(grid: WindowGrid, origins: list[Origin]) -> list[Block]:
    """What windows cover, as blocks."""
    return [Block(*origin, *grid.shape) for origin in origins]


def refined(
    blended: Iterator[Blended], patches: Iterator[tuple[Patch, ...]], cluster_to_class: tuple[int, ...] | None
) -> Iterator[tuple[Origin, WindowScores]]:
    """The classes' marginals in each window.

    Args:
        blended: scores and validity of the windows.
        patches: what the scene shows there, one patch a group, in the same order.
        cluster_to_class: the class that each cluster belongs to; by default each is its own.

    Yields:
        Windows with (classes, height, width) marginals for scores.
    """
    for (region, scores, valid), (patch,) in zip(blended, patches, strict=True):
        origin = (region.row, region.col)
        if patch.data is None or not valid.any():
            yield origin, WindowScores(None, None)
            continue
        own = class_probabilities(scores, cluster_to_class)
        # What is not valid has no influence; where all is, the core has less to do.
        mask = None if valid.all() else torch.from_numpy(valid).to(own.device)
        yield origin, WindowScores(dense_crf(guide_image(torch.from_numpy(patch.data)), own.log_(), mask=mask), valid)
