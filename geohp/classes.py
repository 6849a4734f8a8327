"""Land-cover classes: what a label value means, how it is called and how it is coloured."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from unicodedata import category, normalize

NODATA_LABEL = 255
"""The label of pixels without data; classes count from 0 and never reach it."""

QUANTITY_STEPS = 254
"""Quantities in [0, 1] beside labels are stored as uint8 0 to 254, scale 1/254; 255 is nodata there, too."""

# Paul Tol's "muted" scheme and, from the tenth class on, Glasbey-like additions: distinguishable also by
# readers with colour-vision deficiencies as far as the number of classes allows.
_PALETTE = (
    "#44aa99", "#cc6677", "#ddcc77", "#332288", "#88ccee", "#117733", "#882255", "#999933", "#aa4499",
    "#dddddd", "#ee7733", "#0077bb", "#664411", "#bbbb00", "#5d5d5d", "#ffaabb", "#225522", "#77aadd",
    "#993404", "#c2a5cf", "#00605a", "#f0e442", "#7a0177", "#a6dba0", "#e41a1c", "#4d4dff", "#c7b299",
)  # fmt: skip


@dataclass(frozen=True)
class LandCoverClass:
    """One class of a label map: its label value, its name and its colour as ``#rrggbb``."""

    id: int
    name: str
    colour: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three integers in [0, 255]."""
        value = self.colour.lstrip("#")
        return int(value[0:2], 16), int(value[2:4], 16), int(value[4:6], 16)


def is_colour(text: str) -> bool:
    """Whether a text is a colour as ``#rrggbb``."""
    return re.fullmatch("#[0-9a-fA-F]{6}", text) is not None


def class_mistake(classes: Sequence[LandCoverClass]) -> str:
    """What makes classes of a file unfit for a label map, its colour table and the pages about it; empty for nothing.

    They have numbers of their own from 0 to 254, names without control characters, and colours.
    """
    ids = [entry.id for entry in classes]
    if len(set(ids)) < len(ids) or not all(0 <= number < NODATA_LABEL for number in ids):
        return f"class numbers are not different ones of 0 to {NODATA_LABEL - 1}"
    for entry in classes:
        if unprintable(entry.name):
            return f"class {entry.id} has a line break or control character in its name"
        if not is_colour(entry.colour):
            return f"class {entry.id} has the colour {entry.colour[:20]!r}, not one of the form #rrggbb"
    return ""


def unprintable(name: str) -> bool:
    """Whether a name has a character that no file, page or terminal could show: control characters and ends of lines.

    Unicode's categories: control (Cc), halves of characters (Cs), separators of lines and paragraphs (Zl, Zp); and the
    two that are no characters to XML, which styles are written in.
    """
    return any(category(character) in ("Cc", "Cs", "Zl", "Zp") or character in "\ufffe\uffff" for character in name)


def printable(name: str) -> str:
    """A name that anything can show: blanks for what is :func:`unprintable`."""
    return " ".join("".join(" " if unprintable(c) else c for c in name).split()) if unprintable(name) else name


def one_spelling(name: str) -> str:
    """A name as all write it: no blanks around it, and letters with accents as one character (Unicode's NFC)."""
    return normalize("NFC", name).strip(" ")


def default_classes(count: int) -> tuple[LandCoverClass, ...]:
    """Names ("class 0", ...) and well-separated colours for ``count`` unnamed clusters."""
    return tuple(LandCoverClass(i, f"class {i}", _colour(i)) for i in range(count))


def classes_to_json(classes: Sequence[LandCoverClass]) -> str:
    """The classes as the JSON list that goes into raster tags, the model file and GeoPackages."""
    return json.dumps([asdict(c) for c in classes], ensure_ascii=False)


def classes_from_json(text: str) -> tuple[LandCoverClass, ...]:
    """Read what :func:`classes_to_json` wrote.

    Raises:
        ValueError: when the text is not such a list.
    """
    try:
        return tuple(
            LandCoverClass(int(c["id"]), printable(str(c["name"])), str(c["colour"])) for c in json.loads(text)
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a list of classes with id, name and colour: {error}") from error


def _colour(index: int) -> str:
    """Colour number ``index``: the palette first, then hues spread by the golden angle."""
    if index < len(_PALETTE):
        return _PALETTE[index]
    import colorsys

    ring = index - len(_PALETTE)
    r, g, b = colorsys.hsv_to_rgb(ring * 0.61803398875 % 1.0, 0.45 + 0.4 * (ring % 2), 0.95 - 0.3 * (ring % 3) / 2)
    return f"#{round(r * 255):02x}{round(g * 255):02x}{round(b * 255):02x}"
