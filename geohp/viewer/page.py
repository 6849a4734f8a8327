"""The page itself: everything that a browser needs in one file of HTML.

Whatever text a raster or a file of polygons holds goes into the page as JSON with ``<``, ``>``, ``&`` and ``'``
escaped, and reaches the document as text alone. A content security policy lets nothing run but the script of this
package, told by its hash, and lets nothing be loaded.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from geohp.credentials import without_credentials
from geohp.files.atomic import atomic_write
from geohp.raster.grid import Grid, parse_crs
from geohp.raster.read.labels import LabelRaster
from geohp.version import __version__
from geohp.viewer.clusters import Cluster
from geohp.viewer.examples import Example
from geohp.viewer.outlines import Outlines
from geohp.viewer.pyramid import TILE_PX, Level

_ASSETS = "page"


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        labels: the map.
        scene: name of what it is a map of.
        clusters: of the map, each with its examples.
        levels: tiles, the finest level first.
        outlines: of polygons; ``None`` without.
        has_confidence: whether tiles tell it.
    """

    labels: LabelRaster
    scene: str
    clusters: Sequence[tuple[Cluster, Sequence[Example]]]
    levels: Sequence[Level]
    outlines: Outlines | None
    has_confidence: bool

    def document(self) -> dict[str, Any]:
        """All but the tiles, for the script of the page."""
        grid = self.labels.grid
        return {
            "map": _file_name(self.labels.name),
            "scene": _file_name(self.scene),
            "width": grid.width,
            "height": grid.height,
            "tile": TILE_PX,
            "levels": [{"factor": level.factor, "rows": level.rows, "columns": level.columns} for level in self.levels],
            **_place(grid),
            "model": self.labels.model_sha256,
            "has_confidence": self.has_confidence,
            "clusters": [_cluster(cluster, examples) for cluster, examples in self.clusters],
            "outlines": None if self.outlines is None else self.outlines.document(),
        }


def write_page(path: Path, content: PageContent) -> None:
    """Write a page, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    style, script = _asset("view.css"), _asset("view.js")
    stream = (
        _templates()
        .get_template("view.html.j2")
        .stream(
            title=_file_name(content.labels.name),
            policy=_policy(style, script),
            style=Markup(style),
            script=Markup(script),
            document=content.document(),
            levels=[(number, Markup(level.as_json())) for number, level in reversed([*enumerate(content.levels)])],
            version=__version__,
        )
    )
    with atomic_write(path) as draft:
        stream.dump(str(draft), encoding="utf-8")


def north_degrees(grid: Grid) -> float | None:
    """Where north is at the middle of a raster, in degrees clockwise from its columns' upper ends.

    Returns:
        ``None`` of a raster that does not lie on the Earth.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    if grid.map_crs is None:
        return None
    crs, middle = parse_crs(grid.map_crs), (grid.width / 2, grid.height / 2)
    if crs.geodetic_crs is None:
        return None
    try:
        to_map = Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True)
        lon, lat = to_map.transform(*grid.affine * middle, direction="INVERSE", errcheck=True)
        col, row = ~grid.affine * to_map.transform(lon, lat + 1e-4, errcheck=True)
    except ProjError:
        return None
    return math.degrees(math.atan2(col - middle[0], middle[1] - row))


def _file_name(path: str) -> str:
    """The last part of a path, or of an address without what gives access to it, also where its bytes are no UTF-8."""
    return Path(without_credentials(path)).name.encode("utf-8", "replace").decode("utf-8")


def _place(grid: Grid) -> dict[str, Any]:
    """Where pixels lie."""
    crs = None if grid.map_crs is None else parse_crs(grid.map_crs)
    code = None if crs is None else crs.to_authority()
    return {
        "transform": grid.affine[:6],
        "crs": None if crs is None else f"{crs.name} ({':'.join(code)})" if code else crs.name,
        "degrees": crs is not None and crs.is_geographic,
        "pixel_size_m": grid.pixel_size_m,
        "north": north_degrees(grid),
    }


def _cluster(cluster: Cluster, examples: Sequence[Example]) -> dict[str, Any]:
    shown = [{"image": e.image, "row": e.block.row, "col": e.block.col, "side": e.block.height} for e in examples]
    return {**asdict(cluster.area), "colour": cluster.entry.colour.lower(), "examples": shown}


def _policy(style: str, script: str) -> str:
    """A content security policy under which this style and this script work, and nothing else."""
    hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'" for text in (style, script)]
    return f"default-src 'none'; img-src data: blob:; style-src {hashes[0]}; script-src {hashes[1]}; base-uri 'none'"


def _asset(name: str) -> str:
    return (files("geohp.viewer") / _ASSETS / name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("geohp.viewer", _ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
