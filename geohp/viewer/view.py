"""A map as a page to look at: beside its scene, with its polygons, and a place to name its classes."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.classes import LandCoverClass
from geohp.errors import ConfigError, SourceError
from geohp.files.checks import check_output, check_suffix
from geohp.options import keywords
from geohp.progress import Progress, default_progress
from geohp.raster.read.bands import BandRequest
from geohp.raster.sources.paths import is_remote

if TYPE_CHECKING:
    from xarray import DataArray

    from geohp.inference.areas import ClassArea

PAGES = (".html", ".htm")

_INLINE_BYTES = 8 * 10**6
_FRAME_PX = 720


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How a map is shown.

    Attributes:
        out: the page to write; by default beside the labels, under their name with ``.html``.
        polygons: outlines to draw, a file such as :func:`geohp.polygonize_file` writes.
        layer: of the polygons, where their file has several.
        confidence: raster on the map's grid; by default the one that was written with the labels, if it lies beside
            them.
        bands, scaling: of the scene, see :func:`geohp.open_scene`.
        overwrite: replace an existing page.
        progress: called as the work goes on.
    """

    out: str | Path | None = None
    polygons: str | Path | None = None
    layer: str | None = None
    confidence: str | Path | DataArray | None = None
    bands: BandRequest = None
    scaling: str = "auto"
    overwrite: bool = False
    progress: Progress = field(default_factory=default_progress)


@dataclass(frozen=True)
class ViewPage:
    """A page that was written; it stands for its path, and shows itself in a notebook.

    Attributes:
        path: of the file.
        classes: of the map.
        areas: how much each covers.
        factor: so many pixels of the map lie along a side of the finest one in the page.
    """

    path: Path
    classes: tuple[LandCoverClass, ...]
    areas: tuple[ClassArea, ...]
    factor: int

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """A frame with the page: the page itself where it is small, so that the notebook works anywhere."""
        if self.path.stat().st_size <= _INLINE_BYTES:
            source = f'srcdoc="{html.escape(self.path.read_text(encoding="utf-8"))}"'
        else:
            source = f'src="{html.escape(os.path.relpath(self.path))}"'
        return f'<iframe {source} width="100%" height="{_FRAME_PX}" style="border:0"></iframe>'


@keywords(ViewOptions)
def view(labels: str | Path | DataArray, scene: str | Path | DataArray, options: ViewOptions) -> ViewPage:
    """Write a map as one page of HTML that needs nothing but a browser.

    Image and map lie upon each other to be swiped; a click tells class and confidence. Beside them is what each class
    covers, and examples of each cluster to name it by: the page gives a legend for :func:`geohp.recode_file` and all
    else that takes one. Maps of any size are gone through block by block; a page shows up to 33 million pixels.

    Args:
        labels: a label map, such as :func:`geohp.segment_file` writes; a file or an array.
        scene: what it is a map of; a file or an array, resampled where it lies on another grid.
        out, polygons, layer, confidence, bands, scaling, overwrite, progress: see :class:`ViewOptions`.

    Returns:
        what was written.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: no label map, a scene of another place, a confidence of another map.
        DataError: polygons that cannot be read or lie elsewhere.
        ConfigError: a scaling that is not understood, or no name for the page of an array.
        OutputError: another suffix than ``.html``, a page that exists, a folder that does not.
    """
    out = _target(labels, options)
    _check_there(labels, scene, options)
    from geohp.viewer.clusters import survey_clusters
    from geohp.viewer.examples import cluster_examples
    from geohp.viewer.inputs import open_inputs
    from geohp.viewer.page import PageContent, write_page
    from geohp.viewer.pyramid import build_levels, shown_factor

    with open_inputs(labels, scene, options.confidence, bands=options.bands, scaling=options.scaling) as inputs:
        outlines = None
        if options.polygons is not None:
            from geohp.viewer.outlines import read_outlines

            factor = shown_factor(inputs.labels.grid.shape)
            outlines = read_outlines(options.polygons, inputs.labels, factor, layer=options.layer)
        clusters = survey_clusters(inputs, options.progress)
        levels = build_levels(inputs, options.progress)
        shown = [(cluster, cluster_examples(inputs, cluster)) for cluster in clusters]
        content = PageContent(inputs.labels, inputs.scene.path, shown, levels, outlines, inputs.confidence is not None)
        inputs.check_unchanged()
        write_page(out, content)
    classes = tuple(cluster.entry for cluster in clusters)
    return ViewPage(out, classes, tuple(cluster.area for cluster in clusters), levels[0].factor)


def _target(labels: str | Path | DataArray, options: ViewOptions) -> Path:
    if options.out is not None:
        out = Path(options.out)
    elif isinstance(labels, str | Path) and not is_remote(str(labels)):
        out = Path(labels).with_suffix(PAGES[0])
    else:
        kind = "an address" if isinstance(labels, str | Path) else "an array"
        raise ConfigError(f"{kind} has no place for its page", "give {option}", option="out", value="page.html")
    check_suffix(out, PAGES, "pages")
    return check_output(out, overwrite=options.overwrite)


def _check_there(labels: str | Path | DataArray, scene: str | Path | DataArray, options: ViewOptions) -> None:
    """Refuse files that are not there, before anything heavy is imported."""
    for source in (labels, scene, options.confidence, options.polygons):
        named = isinstance(source, str | Path) and "://" not in str(source) and not str(source).startswith("/vsi")
        if named and ":" not in str(source)[2:] and not Path(str(source)).exists():
            raise SourceError(f"{source} does not exist", "check the path")
