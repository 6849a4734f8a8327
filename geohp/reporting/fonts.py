"""Fonts for what matplotlib's own has no glyphs of: names of classes may be Chinese, Arabic or Hindi."""

from __future__ import annotations

from functools import cache

from matplotlib.artist import Artist
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

_REGULAR = (400, "normal", "regular", "book")
_BOXES = "Last Resort"
"""Begins the names of fonts that have a box with a sign in it for every letter there is."""


def use_fonts_that_have_its_letters(drawing: Artist) -> None:
    """Write what the font of a figure has no glyphs of in others that are installed; where there is none, as boxes."""
    texts = [text for text in drawing.findobj(Text) if isinstance(text, Text)]
    letters = {letter for text in texts for letter in text.get_text() if not letter.isascii()}
    families = _families_with("".join(sorted(letters)))
    if len(families) > 1:
        for text in texts:
            text.set_fontfamily(list(families))


@cache
def _families_with(letters: str) -> tuple[str, ...]:
    """The usual family, and as many others as it takes for letters that it lacks."""
    usual = FontProperties()
    families, missing = [usual.get_name()], {*map(ord, letters)} - _glyphs(findfont(usual))
    for entry in _regular_fonts() if missing else ():
        found = missing & _glyphs(entry.fname)
        if found:
            families.append(entry.name)
            missing -= found
        if not missing:
            break
    return tuple(families)


def _regular_fonts() -> list[FontEntry]:
    """Those that are installed, the ones for many languages first."""
    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in _REGULAR]
    fonts = [font for font in upright if not font.name.startswith(_BOXES)]
    return sorted(fonts, key=lambda font: ("Sans" not in font.name, font.name))


def _glyphs(path: str) -> set[int]:
    """Code points that a font has glyphs of; none where it cannot be read."""
    try:
        return {*get_font(path).get_charmap()}
    except (OSError, RuntimeError):
        return set()
