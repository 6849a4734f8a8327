"""Classes of one's own labels: which texts, numbers and colours mean them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass, default_classes, is_colour
from geohp.errors import DataError

Int64 = NDArray[np.int64]

MOST_CLASSES = 254


@dataclass(frozen=True)
class ClassTable:
    """Classes, and which texts mean them.

    Attributes:
        classes: numbered from 0.
        numbers: class of a text; ``None`` where it is to be left out; ``*`` stands for all other texts.
    """

    classes: tuple[LandCoverClass, ...]
    numbers: dict[str, int | None]

    @classmethod
    def of_config(cls, names: Mapping[str, str | None], colours: Mapping[str, str] | None = None) -> ClassTable:
        """From what a configuration says.

        Args:
            names: text to class name, ``None`` left out, ``*`` all others.
            colours: of texts or class names, where known.

        Raises:
            DataError: no classes, or too many.
        """
        unique = list(dict.fromkeys(name for name in names.values() if name is not None))
        if not unique or len(unique) > MOST_CLASSES:
            raise DataError(
                f"data.label_classes: makes {len(unique)} classes",
                f"there can be 1 to {MOST_CLASSES}, give a class to the values that have one",
            )
        known = {name: colour for name, colour in (colours or {}).items() if is_colour(colour)}
        for text, name in names.items():
            if name is not None and (is_colour(text) or text in known):
                known.setdefault(name, text if is_colour(text) else known[text])
        classes = tuple(
            replace(c, name=n, colour=known.get(n, c.colour))
            for c, n in zip(default_classes(len(unique)), unique, strict=True)
        )
        numbers = {t.lower() if is_colour(t) else t: None if n is None else unique.index(n) for t, n in names.items()}
        return cls(classes, numbers)

    def translate(self, codes: Int64, texts: Callable[[int], Sequence[str]], name: str) -> Int64:
        """The classes of labels.

        Args:
            codes: of any shape; -1 is unknown.
            texts: what a code is called; any of them may name its class.
            name: of what holds the labels, for messages.

        Returns:
            the same shape, 255 where unknown or left out.

        Raises:
            DataError: a label that means no class.
        """
        values, places = np.unique(codes, return_inverse=True)
        numbers = [NODATA_LABEL if value == -1 else self._number(texts(value), name) for value in values.tolist()]
        classes: Int64 = np.array(numbers, np.int64)[places.reshape(codes.shape)]
        return classes

    def _number(self, texts: Sequence[str], name: str) -> int:
        for text in (*texts, "*"):
            if text in self.numbers:
                number = self.numbers[text]
                return NODATA_LABEL if number is None else number
        raise DataError(
            f"{name}: holds the label {' = '.join(texts)}, which data.label_classes does not name",
            f'add it with its class, or leave it out with "{texts[0]}": null',
        )
