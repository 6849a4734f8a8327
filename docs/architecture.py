"""Draw the packages of geohp and their imports into docs/architecture.md; with --check, tell whether it is up to date.

The order of the floors is read from the contract in pyproject.toml that CI holds the code to; the imports are read from
the code. Every dot of the drawing is an import: one to the right of the staircase goes down, as all must.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRAWING = ROOT / "docs" / "images" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by architecture.py -->", "<!-- end of rooms -->"

_ROW_PX, _LEFT_PX, _TOP_PX, _PURPOSE_PX = 26, 120, 96, 760


def floors() -> list[list[str]]:
    """The rooms of each floor from the roof down, as the layers contract lists them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def files_of(room: str) -> list[Path]:
    """The files of a room: a package's, or the one of a module."""
    package = ROOT / "geohp" / room
    return sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]


def imported_rooms(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, wherever in it; once for each import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "geohp":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("geohp."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("geohp."))


def count_imports(rooms: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many imports each room has from each of the others."""
    counts: dict[str, dict[str, int]] = {}
    for room in rooms:
        counts[room] = defaultdict(int)
        for path in files_of(room):
            for other in imported_rooms(path):
                if other != room and other in rooms:
                    counts[room][other] += 1
    return counts


def purpose(room: str) -> str:
    """The first line of a room's docstring."""
    path = ROOT / "geohp" / room
    source = (path / "__init__.py") if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").splitlines()[0]


def draw(layers: Sequence[Sequence[str]], counts: Mapping[str, Mapping[str, int]]) -> str:
    """The drawing: a row a room from the roof down, a column a room, a dot where the row imports the column."""
    rooms = [room for layer in layers for room in layer]
    width = _LEFT_PX + len(rooms) * _ROW_PX + _PURPOSE_PX
    height = _TOP_PX + len(rooms) * _ROW_PX + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="13" role="img" aria-label="Rooms of geohp and their imports">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    row = 0
    for number, layer in enumerate(layers):
        y = _TOP_PX + row * _ROW_PX
        shade = "#eef3f0" if number % 2 == 0 else "#ffffff"
        parts.append(f'<rect x="0" y="{y}" width="{width}" height="{len(layer) * _ROW_PX}" fill="{shade}"/>')
        row += len(layer)
    for index, room in enumerate(rooms):
        x, y = _LEFT_PX + (index + 0.5) * _ROW_PX, _TOP_PX + (index + 0.5) * _ROW_PX
        parts.append(
            f'<text x="{_LEFT_PX - 10}" y="{y + 4.5}" text-anchor="end" font-weight="bold">{escape(room)}</text>'
        )
        parts.append(f'<text transform="translate({x + 4.5} {_TOP_PX - 8}) rotate(-60)">{escape(room)}</text>')
        parts.append(f'<rect x="{x - 8}" y="{y - 8}" width="16" height="16" rx="3" fill="#2f5d50"/>')
        parts.append(
            f'<text x="{_LEFT_PX + len(rooms) * _ROW_PX + 12}" y="{y + 4.5}" fill="#444444" font-size="12">'
            f"{escape(purpose(room))}</text>"
        )
        for column, other in enumerate(rooms):
            imports = counts[room].get(other, 0)
            if imports:
                radius = min(9.0, 3 + imports**0.5)
                colour = "#d9822b" if column > index else "#b3261e"
                cx = _LEFT_PX + (column + 0.5) * _ROW_PX
                parts.append(
                    f'<circle cx="{cx}" cy="{y}" r="{radius:.1f}" fill="{colour}">'
                    f"<title>{escape(f'{room} imports {other}: {imports}')}</title></circle>"
                )
    return "\n".join([*parts, "</svg>"]) + "\n"


def table(rooms: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> str:
    """The same in words: each room, its purpose, and what it imports."""
    lines = ["| room | what it is | imports |", "|---|---|---|"]
    for room in rooms:
        others = ", ".join(other for other in rooms if counts[room].get(other))
        lines.append(f"| `{room}` | {purpose(room)} | {others or '-'} |")
    return "\n".join(lines)


def main() -> int:
    """Write the drawing and the table, or check them."""
    layers = floors()
    rooms = [room for layer in layers for room in layer]
    counts = count_imports(rooms)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = {
        DRAWING: draw(layers, counts),
        PAGE: f"{before}{BEGIN}\n{table(rooms, counts)}\n{END}{after}",
    }
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path in stale:
            path.write_text(wanted[path], encoding="utf-8")
        return 0
    for path in stale:
        sys.stderr.write(f"{path.relative_to(ROOT)}: not up to date; run python docs/architecture.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
