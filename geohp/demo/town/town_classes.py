"""The classes of a drawn scene, and the coarser legends they merge into."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from geohp.classes import NODATA_LABEL, LandCoverClass

ROAD, BUILDING, LOW_VEGETATION, TREE, CAR, CLUTTER = range(6)

SIX_CLASSES: Final = (
    LandCoverClass(ROAD, "road", "#ffffff"),
    LandCoverClass(BUILDING, "building", "#0000ff"),
    LandCoverClass(LOW_VEGETATION, "low vegetation", "#00ffff"),
    LandCoverClass(TREE, "tree", "#00ff00"),
    LandCoverClass(CAR, "car", "#ffff00"),
    LandCoverClass(CLUTTER, "clutter", "#ff0000"),
)
"""The six classes of ISPRS Potsdam in their usual colours. "Road" is every sealed ground; "clutter" is
what is none of the others: here bare soil, gravel yards and containers."""

THREE_CLASSES: Final = (
    LandCoverClass(0, "road and car", "#ffffff"),
    LandCoverClass(1, "building and clutter", "#0000ff"),
    LandCoverClass(2, "vegetation", "#00ff00"),
)
"""The three classes of the Potsdam-3 benchmark."""

SIX_TO_FIVE: Final = (0, 1, 2, 3, 0, 4)
"""Land cover proper: a car is no land cover and counts as the sealed ground it stands on."""
SIX_TO_THREE: Final = (0, 1, 2, 2, 0, 1)


def merge_classes(truth: npt.ArrayLike, table: tuple[int, ...] = SIX_TO_THREE) -> npt.NDArray[np.uint8]:
    """Translate labels by ``table[label]``; whatever the table does not hold becomes 255 (no data).

    Args:
        truth: integer labels of any shape.
        table: new label of label 0, 1, ...: :data:`SIX_TO_THREE` or :data:`SIX_TO_FIVE`.

    Returns:
        Labels of the same shape, uint8.
    """
    labels = np.asarray(truth)
    lookup = np.full(len(table) + 1, NODATA_LABEL, np.uint8)
    lookup[:-1] = table
    known = (labels >= 0) & (labels < len(table))
    return lookup[np.where(known, labels, len(table))]
