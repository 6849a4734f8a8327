"""What ``.geohp`` of an xarray array or dataset offers: from an image its label map, from a label map all that follows.

>>> labels = rioxarray.open_rasterio("scene.tif").geohp.segment(classes=6)
>>> labels.geohp.plot()
>>> labels.geohp.areas()
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.classes import LandCoverClass
from geohp.errors import GeohpError, VectorError
from geohp.inference.map_options import SegmentOptions
from geohp.options import keywords
from geohp.progress import Progress, default_progress
from geohp.raster.read.arrays import raster_variables
from geohp.raster.read.label_array import open_label_array
from geohp.vector.polygonize import PolygonizeOptions

if TYPE_CHECKING:
    import folium
    import geopandas
    import pandas as pd
    from matplotlib.axes import Axes
    from xarray import DataArray, Dataset

_PLOT_PX = 2000
_EXPLORE_PX = 2048
_NAME = "landcover"  # of the label maps that geohp makes


class ArrayAccessor:
    """``array.geohp``: of an image :meth:`segment`, of a label map everything else.

    A label map is what :func:`geohp.segment` gives, or any array of integers (y, x); its classes are those that its
    attribute ``classes`` declares, else one for every label.
    """

    def __init__(self, array: DataArray) -> None:
        self._array = array

    def __repr__(self) -> str:
        try:
            names = ", ".join(entry.name for entry in self.classes) or "none declared"
        except GeohpError as error:
            return f"<geohp: no label map ({error.problem})>"
        return f"<geohp: {self.origin or 'made by no model'}; classes: {names}>"

    @keywords(SegmentOptions)
    def segment(self, options: SegmentOptions) -> DataArray:
        """Label this image (band, y, x); options and result as of :func:`geohp.segment`."""
        from geohp.inference.segment import segment

        return segment(self._array, **vars(options))

    @property
    def classes(self) -> tuple[LandCoverClass, ...]:
        """The classes that this label map declares."""
        with open_label_array(self._array) as labels:
            return labels.classes

    @property
    def origin(self) -> str | None:
        """Says in words which model made this label map; ``None`` where it does not say."""
        from geohp.inference.map_tags import ORIGIN_TAG

        return self._array.attrs.get(ORIGIN_TAG)

    @keywords(PolygonizeOptions)
    def polygonize(self, options: PolygonizeOptions) -> geopandas.GeoDataFrame:
        """The polygons of this label map; options and result as of :func:`geohp.polygonize`."""
        from geohp.vector.polygonize import polygonize

        return polygonize(self._array, **vars(options))

    def areas(self) -> pd.DataFrame:
        """How much of this label map each class covers.

        Dask chunks are computed block by block.

        Returns:
            by class name: ``class_id``, ``pixels``, ``share`` (of what holds data, from 0 to 1), ``area_ha`` (true area
            in hectares; NaN where the map does not lie on the Earth).

        Raises:
            VectorError: no label map.
        """
        import pandas as pd

        from geohp.inference.areas import label_areas

        with open_label_array(self._array) as labels:
            rows = [asdict(area) for area in label_areas(labels)]
        frame = pd.DataFrame(rows, columns=["name", "id", "pixels", "share", "area_ha"]).astype({"area_ha": float})
        return frame.rename(columns={"name": "class_name", "id": "class_id"}).set_index("class_name")

    def plot(self, ax: Axes | None = None, *, legend: bool = True, figsize: tuple[float, float] | None = None) -> Axes:
        """Draw this label map in the colours of its classes, where it lies.

        Maps of more than 2000 pixels a side are thinned out.

        Args:
            ax: where to; a new figure by default.
            legend: names of the classes that are seen, beside it.
            figsize: of a new figure, in inches.

        Returns:
            The axes.

        Raises:
            VectorError: no label map.
        """
        from geohp.notebook.plot import draw_labels

        with open_label_array(self._array) as labels:
            values = labels.as_bytes(*labels.thinned(_PLOT_PX))
            return draw_labels(values, labels.classes, labels.grid, ax, legend=legend, figsize=figsize)

    def explore(self, *, opacity: float = 0.7, tiles: str | None = "OpenStreetMap") -> folium.Map:
        """This label map on a web map to pan and zoom, with a legend.

        Maps of more than 2048 pixels a side are thinned out. Without georeference there is no background.

        Args:
            opacity: of the map, from 0 to 1.
            tiles: the background as folium names it, from the network; none for ``None``.

        Raises:
            VectorError: no label map.
            GeohpError: folium is missing, or the map cannot be brought into the projection of web maps.
        """
        from geohp.notebook.explore import web_map

        return web_map(self._array, _EXPLORE_PX, opacity, tiles)

    def to_raster(self, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
        """Write this label map as a cloud-optimised GeoTIFF with colour table, class names and overviews.

        See :func:`geohp.raster.write.label_map.write_label_map`; by default its progress is a bar in a notebook.
        """
        from geohp.raster.write.label_map import write_label_map

        return write_label_map(self._array, path, overwrite=overwrite, progress=progress or default_progress())


class DatasetAccessor:
    """``dataset.geohp``: as of an array; the variables are the bands of an image, or one of them is a label map.

    The label map is the variable ``landcover``, else the only one that declares classes, else the only one.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __repr__(self) -> str:
        try:
            return repr(self._labels)
        except VectorError:
            return f"<geohp: an image of {len(self._planes)} variables>"

    @keywords(SegmentOptions)
    def segment(self, options: SegmentOptions) -> DataArray:
        """Label this image, whose variables are its bands in their order; see :func:`geohp.segment`."""
        from geohp.inference.segment import segment

        return segment(self._dataset, **vars(options))

    @property
    def classes(self) -> tuple[LandCoverClass, ...]:
        """See :attr:`ArrayAccessor.classes`."""
        return self._labels.classes

    @property
    def origin(self) -> str | None:
        """See :attr:`ArrayAccessor.origin`."""
        return self._labels.origin

    @keywords(PolygonizeOptions)
    def polygonize(self, options: PolygonizeOptions) -> geopandas.GeoDataFrame:
        """The polygons of the label map; see :func:`geohp.polygonize`."""
        return self._labels.polygonize(**vars(options))

    def areas(self) -> pd.DataFrame:
        """See :meth:`ArrayAccessor.areas`."""
        return self._labels.areas()

    def plot(self, ax: Axes | None = None, *, legend: bool = True, figsize: tuple[float, float] | None = None) -> Axes:
        """See :meth:`ArrayAccessor.plot`."""
        return self._labels.plot(ax, legend=legend, figsize=figsize)

    def explore(self, *, opacity: float = 0.7, tiles: str | None = "OpenStreetMap") -> folium.Map:
        """See :meth:`ArrayAccessor.explore`."""
        return self._labels.explore(opacity=opacity, tiles=tiles)

    def to_raster(self, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
        """See :meth:`ArrayAccessor.to_raster`."""
        return self._labels.to_raster(path, overwrite=overwrite, progress=progress)

    @property
    def _planes(self) -> dict[str, DataArray]:
        return raster_variables(self._dataset)

    @property
    def _labels(self) -> ArrayAccessor:
        planes = self._planes
        declaring = [name for name, plane in planes.items() if "classes" in plane.attrs]
        names = [_NAME] if _NAME in planes else declaring or list(planes)
        if len(names) != 1:
            raise VectorError(
                f"the dataset has {len(names)} variables that may be label maps: {', '.join(names) or 'none'}",
                "choose one, as in dataset['landcover'].geohp",
            )
        return ArrayAccessor(planes[names[0]])
