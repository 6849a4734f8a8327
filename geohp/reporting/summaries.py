"""What a notebook shows of models and results: HTML in which whatever they hold is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from geohp.classes import LandCoverClass, is_colour
from geohp.reporting.pages import render_page

_NO_COLUMNS: Mapping[str, Sequence[str]] = {}


def summary(
    title: str,
    facts: Mapping[str, object],
    classes: Sequence[LandCoverClass] = (),
    columns: Mapping[str, Sequence[str]] = _NO_COLUMNS,
) -> str:
    """A value in a few lines.

    Args:
        title: what it is.
        facts: what there is to say, by what it is; empty ones are left out.
        classes: shown as a table, with their colours.
        columns: of that table by their headings, a word for each class.
    """
    known = {name: words for name, words in facts.items() if words not in (None, "", ())}
    return render_page("summary.html.j2", title=title, facts=known, classes=_coloured(classes), columns=columns)


def preformatted(text: str) -> str:
    """A text with columns as it is in a terminal."""
    return render_page("text.html.j2", text=text)


def legend(classes: Sequence[LandCoverClass]) -> str:
    """A legend that lies over a map."""
    return render_page("legend.html.j2", classes=_coloured(classes))


def _coloured(classes: Sequence[LandCoverClass]) -> list[LandCoverClass]:
    """The classes; grey in place of a colour that is none, which would be a rule of style of somebody else's."""
    return [entry if is_colour(entry.colour) else replace(entry, colour="#888888") for entry in classes]
