"""Labelled imagery of several places, and how it is split: by place, never by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geohp.errors import DataError

EVERY = {"MKRU": 2, "KROM": 4, "VYSK": 8}
"""Of places with many sheets that are nearly all field every so-manyth is taken, in the order of their names,"""
INFORMATIVE = ("VYSK111_", "VYSK122_", "VYSK14_", "VYSK151_", "VYSK301_", "VYSK101_")
"""and these, with houses, roads and water."""


COLOURS = {
    "bare land": "#e9d8a6", "building": "#d1495b", "car": "#f4a300", "clutter": "#8e6bbf", "ground": "#e9d8a6",
    "land": "#e9d8a6", "paved road": "#7f7f7f", "road": "#7f7f7f", "unpaved road": "#a9743a", "vegetation": "#4c9f38",
    "water": "#3a86c8",
}  # fmt: skip
"""Of the classes in pictures."""


@dataclass(frozen=True)
class Fold:
    """Places to learn from, and others to be judged on."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """For files: the places that are judged."""
        return "-".join(self.test)


@dataclass(frozen=True)
class LabelledPlaces:
    """A data set: a folder a place, with images ``NAME.jpg`` and labels ``NAME_labels.png``.

    Attributes:
        classes: what the values 0, 1, 2, ... of labels mean; 255 is unknown.
        folds: how it is split.
        window_px, input_px: side of what a model sees at once in pixels of an image, and for the backbone.
        stride_px: from a window that is learnt from to the next; a sheet of 1,024 px is four windows.
    """

    classes: tuple[str, ...]
    folds: tuple[Fold, ...]
    window_px: int = 448
    input_px: int = 448
    stride_px: int = 576


PLACES = {
    "czech": LabelledPlaces(
        ("vegetation", "unpaved road", "paved road", "building", "water", "bare land"),
        (
            Fold(("BOS", "KROM", "MKRU", "PROS"), ("VYSK",)),
            Fold(("BOS", "MKRU", "VYSK"), ("KROM", "PROS")),
        ),
    ),
    "dubai": LabelledPlaces(
        ("building", "land", "road", "vegetation", "water"),
        (Fold(("tile1", "tile3", "tile5"), ("tile2", "tile7")), Fold(("tile2", "tile7"), ("tile1", "tile3", "tile5"))),
    ),
    # Chips of 300 px, the patches of a transformer 14 px.
    "drone": LabelledPlaces(
        ("building", "clutter", "vegetation", "water", "ground", "car"), (Fold(("housing",), ("site",)),), 300, 294, 300
    ),
}


def images_of(folder: Path) -> list[Path]:
    """The images of a place, in the order of their names.

    Raises:
        DataError: there are none.
    """
    paths = [path for path in sorted(folder.glob("*.jpg")) if "_labels" not in path.name]
    if not paths:
        raise DataError(f"{folder}: no image NAME.jpg there", "give the folder that holds the places as --images")
    step = EVERY.get(folder.name, 1)
    return [path for number, path in enumerate(paths) if not number % step or path.name.startswith(INFORMATIVE)]


def images_of_places(folders: Sequence[Path], places: Sequence[str]) -> list[Path]:
    """The images of places, each in the first of the folders that has it.

    Raises:
        DataError: a place is in none of them.
    """
    chosen = []
    for place in places:
        folder = next((folder / place for folder in folders if (folder / place).is_dir()), None)
        if folder is None:
            raise DataError(f"{place}: no such place in {', '.join(map(str, folders))}", "give its folder as --images")
        chosen += images_of(folder)
    return chosen
