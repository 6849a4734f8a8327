"""A label map on a web map, as a picture in its projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import array_bounds
from rasterio.warp import calculate_default_transform, transform

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
_RADIUS_M = 6378137
_AROUND = (
    f"+proj=merc +a={_RADIUS_M} +b={_RADIUS_M} "
    "+lat_ts=0 +lon_0={} +x_0=0 +y_0=0 +k=1 +units=m +nadgrids=@null +no_defs"
)
"""The projection of web maps, moved along the equator."""


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
    """Labels in the projection of web maps, and south, west, north and east of them: beyond 180 where they go on."""
    try:
        middle = _middle(grid)
        target = _web_grid(grid, CRS.from_string(_AROUND.format(middle)) if middle else _WEB_MERCATOR, most_px)
        with open_labels(labels) as raster, raster.warped(target) as warped:
            picture = warped.read_bytes(target.block)
    except FAILURES as error:
        raise SceneError(f"{name} cannot be shown on a web map ({gdal_message(error)})", "use plot()") from error
    west, south, east, north = np.array(array_bounds(*target.shape, target.transform)) / _RADIUS_M
    lat, lon = np.degrees(np.arctan(np.sinh([south, north]))), middle + np.degrees([west, east])
    return picture, np.stack([lat, lon], axis=1).tolist()


def _middle(grid: Grid) -> float:
    """Longitude in the middle of a map, around which nothing is torn apart; 0 of maps in the web's own projection."""
    if grid.map_crs == _WEB_MERCATOR:
        return 0.0
    x, y = grid.affine * (grid.width / 2, grid.height / 2)
    (longitude,), _ = transform(grid.map_crs, _DEGREES, [x], [y])
    return float(longitude)


def _web_grid(grid: Grid, projection: CRS, most_px: int) -> Grid:
    """The pixels of the picture."""
    place = (
        {"gcps": list(grid.gcps)}
        if grid.gcps
        else dict(zip(("left", "bottom", "right", "top"), _corners(grid), strict=True))
    )
    placed, width, height = calculate_default_transform(grid.map_crs, projection, grid.width, grid.height, **place)
    assert width is not None
    assert height is not None
    factor = max(1.0, max(width, height) / most_px)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    scale = placed.scale(width / size[0], height / size[1])
    return Grid(*size, placed * scale, projection)


def _corners(grid: Grid) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of the box around a grid."""
    corners = [grid.affine * (col, row) for col in (0, grid.width) for row in (0, grid.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _rgba(labels: NDArray[np.uint8], classes: Sequence[LandCoverClass]) -> NDArray[np.uint8]:
    """(rows, cols, 4) uint8, transparent where there is no data."""
    opaque = np.where(labels == NODATA_LABEL, 0, 255).astype(np.uint8)
    return np.dstack([colourise(labels, classes), opaque])
