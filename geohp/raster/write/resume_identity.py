"""What an unfinished work was to become: all that must agree before another run may go on with it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from geohp.credentials import without_credentials
from geohp.files.reading import json_value
from geohp.files.state import file_state
from geohp.files.unfinished import name_beside
from geohp.raster.grid import Grid
from geohp.raster.write.layer import Layer

NAME = "identity.json"
SIDE_FILE = ".aux.xml"
"""What the files end with that GDAL keeps beside rasters."""

_FORMAT = 1
_SHOWN_CHARACTERS = 60


def describe(identity: Mapping[str, Any], outputs: Mapping[Path, Layer], grid: Grid) -> dict[str, Any]:
    """Everything in JSON's own types.

    Args:
        identity: what the caller says the pixels depend on, in the order in which differences shall be named.
        outputs: files and how they are stored.
        grid: of all of them.
    """
    first = next(iter(outputs))
    described = {
        "format": _FORMAT,
        "identity": dict(identity),
        "grid": {
            "width": grid.width,
            "height": grid.height,
            "crs": None if grid.crs is None else grid.crs.to_wkt(),
            "transform": list(grid.transform)[:6],
            "control points": [[p.row, p.col, p.x, p.y, p.z] for p in grid.gcps],
        },
        "outputs": {name_beside(first, path): asdict(layer) for path, layer in outputs.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(described, default=_plain))
    return plain


def file_states(names: Iterable[str]) -> list[list[Any]]:
    """What tells the files of a raster from others of their names."""
    states = (_side_file(Path(name)) if name.endswith(SIDE_FILE) else _file(name) for name in names)
    return [state for state in states if state is not None]


def _file(name: str) -> list[Any]:
    path = Path(name)
    state = None if path.is_dir() else file_state(name)
    return [str(path.resolve()) if path.exists() else without_credentials(name), *(state or ())]


def _side_file(path: Path) -> list[Any] | None:
    """What GDAL keeps beside a raster, but for statistics, which QGIS writes there when it shows the raster.

    Georeference, nodata values and the like count; ``None`` where there is nothing of that kind.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError):
        return _file(str(path))
    for parent in reversed(list(root.iter())):  # from the leaves up
        for child in list(parent):
            is_statistic = child.tag == "Histograms" or child.get("key", "").startswith("STATISTICS_")
            if is_statistic or (child.tag in ("Metadata", "PAMRasterBand") and not len(child)):
                parent.remove(child)
    if not len(root):
        return None
    text = ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"), strip_text=True)
    return [str(path.resolve()), hashlib.sha256(text.encode()).hexdigest()]


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What a folder's work was to become; ``None`` where nothing legible says so.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        described = json_value((folder / NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return described if isinstance(described, dict) else None


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first thing that differs between two descriptions, in words; ``None`` where they agree."""
    old, new = dict(_flatten(before)), dict(_flatten(now))
    for key in dict.fromkeys((*new, *old)):
        # As text, in which "not a number" equals itself.
        texts = [json.dumps(values[key], ensure_ascii=False) if key in values else "none" for values in (old, new)]
        if texts[0] != texts[1]:
            name = key.removeprefix("identity.")
            return f"another {name} ({_shortened(texts[0])} there, {_shortened(texts[1])} now)"
    return None


def _flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2 - 1
    return f"{text[:half]}...{text[-half:]}"


def _plain(value: Any) -> Any:
    """What ``json`` does not know by itself: paths, and numpy's numbers."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot be part of an identity")
