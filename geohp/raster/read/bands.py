"""Choosing a scene's bands: by number, by name, by colour, or sensibly when nobody says."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from geohp.errors import SceneError

BandRequest = int | str | Sequence[int | str] | None

COLOURS = ("red", "green", "blue")
_KNOWN = frozenset({*COLOURS, "nir"})
_ASSIGNMENT = re.compile(r"([^=]+)=\s*(\d{1,9})")
"""A band by number, and what it is where the file does not say: nir=4."""

# What people and cameras write for the same thing; compared case-insensitively and without separators.
_SYNONYMS = {
    "r": "red",
    "g": "green",
    "b": "blue",
    "n": "nir",
    "nearinfrared": "nir",
    "grey": "gray",
    "panchromatic": "pan",
    "a": "alpha",
}
_MASK_NAMES = frozenset({"alpha", "mask", "valid", "validity", "validmask", "nodatamask", "datamask"})


@dataclass(frozen=True)
class BandTable:
    """What a file says about its bands, in file order.

    Attributes:
        descriptions: free names, ``None`` where a band has none.
        interpretations: colour interpretations in lower case ("red", "gray", "palette", "undefined", ...).
        where: the file, for messages.
    """

    descriptions: tuple[str | None, ...]
    interpretations: tuple[str, ...]
    where: str

    def __len__(self) -> int:
        return len(self.interpretations)

    @property
    def is_palette(self) -> bool:
        """Whether band 1 holds indices into a colour table and no other band holds colours."""
        return self.interpretations[0] == "palette" and not set(COLOURS) & set(self.interpretations)

    def __str__(self) -> str:
        """The bands as a message lists them: ``1 (red), 2 (green)``."""
        return ", ".join(
            f"{number} ({description or interpretation})"
            for number, (description, interpretation) in enumerate(
                zip(self.descriptions, self.interpretations, strict=True), start=1
            )
        )


@dataclass(frozen=True)
class BandSelection:
    """Which bands fill a scene's channels.

    Attributes:
        numbers: the 1-based band of each channel.
        palette_columns: for a colour-table band, the column of the table (0 red, 1 green, 2 blue) each channel
            takes; ``None`` where channels are the bands' own values.
        colours: what each channel shows, "red", "green", "blue" or "nir"; ``None`` where neither the request nor the
            file says.
    """

    numbers: tuple[int, ...]
    palette_columns: tuple[int, ...] | None = None
    colours: tuple[str | None, ...] = ()


def band_list(requested: BandRequest) -> tuple[int | str, ...] | None:
    """Bands as they were asked for, each by itself: of one number, and of a text that is split at its commas, too."""
    if isinstance(requested, str):
        return tuple(part.strip() for part in requested.split(",") if part.strip())
    if requested is None or isinstance(requested, Iterable):
        return None if requested is None else tuple(requested)
    return (requested,)


def asked_colours(requested: BandRequest) -> tuple[str | None, ...]:
    """What channels show by the request: "red", "green", "blue", "nir" or ``None``; without one the first three."""
    requested = band_list(requested)
    if requested is None:
        return COLOURS
    names = (_plain(band.partition("=")[0]) if isinstance(band, str) else "" for band in requested)
    return tuple(name if name in _KNOWN else None for name in names)


def are_named(requested: BandRequest) -> bool:
    """Whether a request says of any band what it shows."""
    return requested is not None and any(asked_colours(requested))


def as_infrared(requested: BandRequest) -> str:
    """A request that calls these bands near infrared, red and green: by their numbers, or else 1, 2 and 3."""
    numbers = [band for band in band_list(requested) or () if isinstance(band, int)][:3]
    numbers = numbers if len(numbers) == 3 else [1, 2, 3]
    return ",".join(f"{colour}={number}" for colour, number in zip(("nir", "red", "green"), numbers, strict=True))


def select_bands(table: BandTable, requested: BandRequest = None) -> BandSelection:
    """Resolve the bands somebody asked for, or choose three when nobody asked.

    Without a request: red, green and blue by colour interpretation in that order, whatever their order in the
    file; else by band description; else the first three bands that are neither alpha nor a mask; with fewer than
    three such bands the first, three times, so that a network trained on colour can read it.

    Args:
        table: the file's bands.
        requested: 1-based numbers, band descriptions, colour interpretations ("red", "nir", "gray"), short
            forms ("R", "G", "B", "N"), or colours with numbers where the file does not tell ("nir=4"); a text is split
            at its commas.

    Raises:
        SceneError: a band that is not there; the message lists those that are.
    """
    selection = _select(table, band_list(requested))
    if selection.palette_columns is not None:
        return replace(selection, colours=tuple(COLOURS[column] for column in selection.palette_columns))
    asked = () if requested is None else asked_colours(requested)
    pairs = zip_longest(asked, selection.numbers)
    return replace(selection, colours=tuple(colour or _colour_of(table, number) for colour, number in pairs))


def _select(table: BandTable, requested: tuple[int | str, ...] | None) -> BandSelection:
    if requested is None:
        return _default(table)
    if len(requested) == 0:
        raise SceneError(f"No bands were asked of {table.where}: name at least one of {table}.")
    if table.is_palette and all(isinstance(band, str) and _plain(band) in COLOURS for band in requested):
        columns = tuple(COLOURS.index(_plain(str(band))) for band in requested)
        return BandSelection(numbers=(1,) * len(columns), palette_columns=columns)
    return BandSelection(tuple(_resolve(table, band) for band in requested))


def _default(table: BandTable) -> BandSelection:
    if table.is_palette:
        return BandSelection(numbers=(1, 1, 1), palette_columns=(0, 1, 2))
    names = tuple(_plain(description or "") for description in table.descriptions)
    for labels in (table.interpretations, names):
        if all(colour in labels for colour in COLOURS):
            return BandSelection(tuple(labels.index(colour) + 1 for colour in COLOURS))
    usable = [
        number
        for number, (interpretation, name) in enumerate(zip(table.interpretations, names, strict=True), start=1)
        if interpretation != "alpha" and name not in _MASK_NAMES
    ]
    if not usable:
        raise SceneError(f"{table.where} holds nothing but masks ({table}): choose a file with image bands.")
    return BandSelection(tuple(usable[:3]) if len(usable) >= 3 else (usable[0],) * 3)


def _colour_of(table: BandTable, number: int) -> str | None:
    """What a band shows by its description, or its colour interpretation."""
    names = (_plain(table.descriptions[number - 1] or ""), _plain(table.interpretations[number - 1]))
    return next((name for name in names if name in _KNOWN), None)


def _resolve(table: BandTable, request: int | str) -> int:
    if isinstance(request, str) and (assigned := _assignment(table, request)):
        return _resolve(table, assigned)
    if isinstance(request, str) and not re.fullmatch(r"[-+]?\d+", request.strip()):
        return _by_name(table, request.strip())
    try:
        number = int(request)
    except (OverflowError, TypeError, ValueError):  # nothing, infinite, or of thousands of figures
        number = 0
    if not 1 <= number <= len(table) or (number != request and not isinstance(request, str)):
        raise SceneError(f"{table.where} has no band {request}: bands count from 1, and it has {table}.")
    return number


def _assignment(table: BandTable, request: str) -> int | None:
    """The number in a request such as "nir=4"; ``None`` in another, or where a band is called so."""
    parts = _ASSIGNMENT.fullmatch(request.strip())
    if parts is None or request.strip() in table.descriptions:
        return None
    if _plain(parts[1]) not in _KNOWN:
        raise SceneError(f'Nothing is known of "{parts[1]}" in "{request.strip()}": say red, green, blue or nir.')
    return int(parts[2])


def _by_name(table: BandTable, requested: str) -> int:
    # A file's own names win over what its colours are tagged as, and an exact name over a synonym.
    described = [description or "" for description in table.descriptions]
    candidates = (
        [name.casefold() == requested.casefold() for name in described],
        [bool(name) and _plain(name) == _plain(requested) for name in described],
        [_plain(name) == _plain(requested) for name in table.interpretations],
    )
    for hits in candidates:
        if sum(hits) > 1 and requested.casefold() != "undefined":
            numbers = ", ".join(str(number) for number, hit in enumerate(hits, start=1) if hit)
            raise SceneError(f'In {table.where} the name "{requested}" fits bands {numbers}: choose by number.')
        if sum(hits) == 1:
            return hits.index(True) + 1
    known = {name.casefold(): name for name in (*described, *table.interpretations) if name}
    known.pop("undefined", None)
    near = difflib.get_close_matches(requested.casefold(), known, n=1, cutoff=0.5)
    hint = f'; did you mean "{known[near[0]]}"?' if near else "."
    raise SceneError(f'{table.where} has no band "{requested}": it has {table}{hint}')


def _plain(name: str) -> str:
    """A name without case or separators, synonyms folded together."""
    bare = name.casefold().replace(" ", "").replace("-", "").replace("_", "")
    return _SYNONYMS.get(bare, bare)
