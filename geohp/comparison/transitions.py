"""Transitions: one number for what a pixel was and what it has become, with a name and a colour.

The number is ``100 * from + to``, so that 203 is what was class 2 and is class 3 now, and 202 is class 2 that stayed
(``256 * from + to`` where classes have numbers of 100 and more).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.errors import VectorError

NODATA = 65535
"""The transition of pixels without data at either date."""

_PALE = 0.75  # share of white in the colour of what has not changed


@dataclass(frozen=True)
class Transitions:
    """The transitions between some classes.

    Attributes:
        classes: all of them, at either date.
    """

    classes: tuple[LandCoverClass, ...]

    def __post_init__(self) -> None:
        wrong = [entry.id for entry in self.classes if not 0 <= entry.id < NODATA_LABEL]
        if wrong:
            raise VectorError(
                f"label {wrong[0]}: labels to compare lie between 0 and {NODATA_LABEL - 1}", "recode them"
            )

    @property
    def base(self) -> int:
        """What the number of the old class is multiplied with."""
        return 100 if max((entry.id for entry in self.classes), default=0) < 100 else 256

    def codes(self, old: NDArray[np.uint8], new: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Numbers of transitions between labels, in an array of their shape."""
        return old.astype(np.uint16) * np.uint16(self.base) + new

    def ids(self, code: int) -> tuple[int, int]:
        """The old class and the new one."""
        return divmod(code, self.base)

    def names(self, code: int) -> tuple[str, str]:
        """What they are called."""
        by_id = {entry.id: entry.name for entry in self.classes}
        old, new = self.ids(code)
        return by_id[old], by_id[new]

    def described(self, codes: Iterable[int]) -> tuple[LandCoverClass, ...]:
        """Transitions as classes: a change has the colour of what it became, what stayed a pale one."""
        by_id = {entry.id: entry for entry in self.classes}
        described = []
        for code in sorted(codes):
            old, new = (by_id[number] for number in self.ids(code))
            if old == new:
                described.append(LandCoverClass(code, f"{old.name} (unchanged)", _pale(old)))
            else:
                described.append(LandCoverClass(code, f"{old.name} → {new.name}", new.colour))
        return tuple(described)


def _pale(entry: LandCoverClass) -> str:
    return "#" + "".join(f"{round(255 * _PALE + (1 - _PALE) * channel):02x}" for channel in entry.rgb)


def common_classes(
    old: Sequence[LandCoverClass], new: Sequence[LandCoverClass], names: tuple[str, str]
) -> tuple[LandCoverClass, ...]:
    """The classes of two maps together.

    Raises:
        VectorError: a label that means one thing here and another there.
    """
    known = {entry.id: entry for entry in old}
    for entry in new:
        other = known.setdefault(entry.id, entry)
        if other.name != entry.name:
            raise VectorError(
                f"label {entry.id} is {other.name!r} in {names[0]} and {entry.name!r} in {names[1]}",
                "give both maps one legend",
            )
    return tuple(known[number] for number in sorted(known))
