"""Tables and sentences as plain text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from rich.console import Console, RenderableType


def as_text(parts: Iterable[RenderableType], width: int) -> str:
    """Rich tables and texts (with rich's markup) one below the other, in so many columns and without colours."""
    file = StringIO()
    console = Console(file=file, width=width, color_system=None, legacy_windows=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
