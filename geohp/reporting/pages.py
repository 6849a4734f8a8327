"""What a report is written as: pages of HTML that need nothing but themselves, and plain text for terminals."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console, RenderableType


@dataclass(frozen=True)
class Picture:
    """A picture inside a page, which loads nothing from a network.

    Attributes:
        png: the bytes of a PNG file.
        alt: what it shows, for those who cannot see it.
        caption: below it; none where empty.
    """

    png: bytes
    alt: str
    caption: str = ""

    @property
    def address(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/png;base64,{b64encode(self.png).decode('ascii')}"


def render_page(template: str, **content: object) -> str:
    """A page as HTML, to be written as UTF-8.

    Args:
        template: name of a file in ``templates/``; it says what it is to be filled with.
        content: plain values, :class:`Picture` and the like. Whatever text they hold is escaped.
    """
    return page_templates().get_template(template).render(content)


@cache
def page_templates() -> Environment:
    """The templates of this package; a name that a template uses and nobody gave is an error."""
    templates = Environment(
        loader=PackageLoader("geohp.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["listed"] = listed
    return templates


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def as_text(parts: Iterable[RenderableType], width: int) -> str:
    """Rich tables and texts (with rich's markup) one below the other, in so many columns and without colours."""
    file = StringIO()
    console = Console(file=file, width=width, color_system=None, legacy_windows=False, force_jupyter=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
