"""A label map on a web map, as a picture in its projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import array_bounds
from rasterio.warp import calculate_default_transform, transform_bounds

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.errors import GeohpError, SceneError
from geohp.raster.gdal import FAILURES, gdal_message
from geohp.raster.grid import Grid
from geohp.raster.read.label_array import open_label_array
from geohp.raster.read.labels import occurring_classes, open_labels
from geohp.reporting.figures import colourise
from geohp.reporting.summaries import legend

if TYPE_CHECKING:
    import folium
    from xarray import DataArray

_WEB_MERCATOR = CRS.from_epsg(3857)
_DEGREES = CRS.from_epsg(4326)


def web_map(labels: DataArray, most_px: int, opacity: float, tiles: str | None) -> folium.Map:
    """See :meth:`geohp.notebook.accessor.ArrayAccessor.explore`.

    Args:
        labels: the label map.
        most_px: longer side of the picture.
        opacity, tiles: see there.
    """
    try:
        import folium
    except ImportError as error:
        raise GeohpError("maps to explore need folium", "install geohp[notebook]") from error
    with open_label_array(labels) as raster:
        placed, name, classes = raster.grid.map_crs is not None, raster.name, raster.classes
        if placed:
            picture, bounds = _projected(labels, raster.grid, most_px, name)
        else:
            picture = raster.as_bytes(*raster.thinned(most_px))
            bounds = [[-raster.grid.height, 0], [0, raster.grid.width]]
    seen = occurring_classes(classes, picture)
    shown = folium.Map(tiles=tiles, max_zoom=22) if placed else folium.Map(tiles=None, crs="Simple", min_zoom=-8)
    overlay = folium.raster_layers.ImageOverlay(_rgba(picture, seen), bounds, name="land cover", opacity=opacity)
    overlay.add_to(shown)
    folium.LayerControl().add_to(shown)
    page = shown.get_root()
    assert isinstance(page, folium.Figure)
    # folium takes texts for templates once more, names that hold braces among them.
    page.html.add_child(folium.Element(legend(seen).replace("{", "&#123;")))
    shown.fit_bounds(bounds)
    return shown


def _projected(labels: DataArray, grid: Grid, most_px: int, name: str) -> tuple[NDArray[np.uint8], list[list[float]]]:
    """Labels in the projection of web maps, and south, west, north and east of them."""
    try:
        target = _web_grid(grid, most_px)
        with open_labels(labels) as raster, raster.warped(target) as warped:
            picture = warped.read_bytes(target.block)
        west, south, east, north = array_bounds(*target.shape, target.transform)
        west, south, east, north = transform_bounds(_WEB_MERCATOR, _DEGREES, west, south, east, north)
    except FAILURES as error:
        raise SceneError(f"{name} cannot be shown on a web map ({gdal_message(error)})", "use plot()") from error
    return picture, [[south, west], [north, east + 360 * (east < west)]]


def _web_grid(grid: Grid, most_px: int) -> Grid:
    """The pixels of the picture."""
    place = (
        {"gcps": list(grid.gcps)}
        if grid.gcps
        else dict(zip(("left", "bottom", "right", "top"), _corners(grid), strict=True))
    )
    transform, width, height = calculate_default_transform(
        grid.map_crs, _WEB_MERCATOR, grid.width, grid.height, **place
    )
    assert width is not None
    assert height is not None
    factor = max(1.0, max(width, height) / most_px)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    scale = transform.scale(width / size[0], height / size[1])
    return Grid(*size, transform * scale, _WEB_MERCATOR)


def _corners(grid: Grid) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of the box around a grid."""
    corners = [grid.affine * (col, row) for col in (0, grid.width) for row in (0, grid.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _rgba(labels: NDArray[np.uint8], classes: Sequence[LandCoverClass]) -> NDArray[np.uint8]:
    """(rows, cols, 4) uint8, transparent where there is no data."""
    opaque = np.where(labels == NODATA_LABEL, 0, 255).astype(np.uint8)
    return np.dstack([colourise(labels, classes), opaque])
