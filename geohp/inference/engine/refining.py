"""Class maps fitted to the outlines that the scene itself shows: a dense CRF over windows of a grid of its own.

    blended scores of a window ─▶ shares of the classes ─┐
    the scene's colours there ───────────────────────────┴▶ dense CRF ─▶ marginals ─▶ blended block

The windows lie where they lie whatever the blocks, and a window's marginals depend on nothing but what it shows: so
the map does not depend on how it is cut into blocks. A window sees less than the whole scene. Its marginals count most
where it sees the surroundings best, and fade into its neighbours' over the overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from geohp.crf.mean_field import dense_crf, guide_image
from geohp.inference.engine.blending import Blended, WindowScores
from geohp.inference.engine.layers import class_probabilities
from geohp.inference.engine.reading import Patch
from geohp.inference.engine.windows import Origin


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
        if patch.data is None or not valid.any():
            yield region.origin, WindowScores(None, None)
            continue
        probabilities = class_probabilities(scores, cluster_to_class)
        # What is not valid has no influence; where all is, the core has less to do.
        mask = None if valid.all() else torch.from_numpy(valid).to(probabilities.device)
        guide = guide_image(torch.from_numpy(patch.data))
        yield region.origin, WindowScores(dense_crf(guide, probabilities.log_(), mask=mask), valid)
