"""Pages of HTML that need nothing but themselves: no network, no script, pictures inside, readable on a phone."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin: 1.5rem 0 0; }
p { max-width: 46rem; } a { color: #0b5394; } img { max-width: 100%; height: auto; } figure { margin: 1rem 0; }
figcaption { font-size: .9rem; color: #444; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .7rem; text-align: right; vertical-align: top; } .words { text-align: left; }
thead th { border-bottom: 2px solid #444; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border: 1px solid #8888; }
"""


class Markup(str):
    """Text that is HTML already; whatever else goes into a page is escaped."""


def markup(text: str) -> Markup:
    """HTML of a text: itself where it is HTML already, escaped where it is not."""
    return text if isinstance(text, Markup) else Markup(escape(text))


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Parts one after the other, each escaped unless it is HTML."""
    return Markup(between.join(markup(part) for part in parts))


def element(name: str, content: str = "", **attributes: str) -> Markup:
    """An element with its end tag; ``class_`` gives the attribute ``class``."""
    told = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value)
    return Markup(f"<{name}{told}>{markup(content)}</{name}>")


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole page.

    Args:
        title: of the window; a heading is the parts' own matter.
        parts: what it holds, in order.
        style: rules beyond those that all pages share.

    Returns:
        HTML, to be written as UTF-8.
    """
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n"
    )
    return head + join(parts, "\n") + "\n</body>\n</html>\n"


def picture(png: bytes | Path, alt: str, caption: str = "") -> Markup:
    """A figure with a PNG inside the page.

    Args:
        png: the file's bytes, or the file.
        alt: what it shows, for those who cannot see it.
        caption: below it; none where empty.

    Raises:
        OSError: the file cannot be read.
    """
    data = b64encode(png if isinstance(png, bytes) else png.read_bytes()).decode("ascii")
    image = Markup(f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">')
    return element("figure", join([image, element("figcaption", caption)] if caption else [image]))


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[int] = (0,), kinds: Sequence[str] = ()
) -> Markup:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        head: titles of the columns; no head where empty.
        rows: the cells, as texts or :class:`Markup`.
        words: columns that are texts, set from the left; the others are figures.
        kinds: the rows' classes, where they have some.
    """

    def cells(name: str, row: Sequence[str]) -> Markup:
        return join(element(name, cell, class_="words" if n in words else "") for n, cell in enumerate(row))

    body = [
        element("tr", cells("td", row), class_=kinds[number] if number < len(kinds) else "")
        for number, row in enumerate(rows)
    ]
    top = [element("thead", element("tr", cells("th", head)))] if head else []
    return element("div", element("table", join([*top, element("tbody", join(body))])), class_="wide")


def swatch(colour: str) -> Markup:
    """A small square of a colour ``#rrggbb``."""
    return element("span", class_="swatch", style=f"background:{colour}")
