"""An xarray array as a raster in memory, so that a notebook's data is read like a file's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.io import MemoryFile

from geohp.errors import SceneError
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message, open_raster

if TYPE_CHECKING:
    from xarray import DataArray

# Types GDAL does not store, and the nearest it does.
_STORED_AS = {"bool": "uint8", "float16": "float32"}

_AGREEING_PX = 0.01


def to_memory_file(array: DataArray, name: str, *, pixels: bool = True) -> MemoryFile:
    """Copy an array into a GeoTIFF in memory.

    Args:
        array: dimensions y and x (or their like: latitude, longitude), or those and one more for bands, in any order;
            CRS, transform, ground control points and nodata as rioxarray knows them. Bands are named by the attribute
            ``long_name`` or by a band coordinate of texts. A dask array is computed.
        name: the array in messages.
        pixels: copy them too; without them nothing is computed, and the file only tells how the raster is laid out.

    Raises:
        SceneError: dimensions or values that no raster has.
    """
    if not hasattr(array, "dims") or hasattr(array, "data_vars"):
        raise SceneError(f"{name} is no xarray.DataArray: choose one variable, or use dataset.to_dataarray().")
    array, georeference, nodata = _laid_out(array, name)
    dtype = stored_as(array.dtype)
    if dtype.kind not in "uif":
        raise SceneError(f"{name} holds {dtype} values: convert them to integers or floats first.")
    values = array.to_numpy().astype(dtype, copy=False) if pixels else None
    layout = dict(zip(("count", "height", "width"), array.shape, strict=True), dtype=dtype.name, **georeference)
    memory = MemoryFile()
    try:
        with (
            gdal_env(),
            open_raster(
                memory.name,
                "w",
                driver="GTiff",
                nodata=_fitting(nodata, dtype),
                photometric="MINISBLACK",  # or GDAL would take three bytes for colours and a fourth for opacity
                alpha="NO",
                bigtiff="IF_SAFER",
                sparse_ok=values is None,
                **layout,
            ) as dataset,
        ):
            for number, text in enumerate(_names(array), start=1):
                dataset.set_band_description(number, text)
            if values is not None:
                dataset.write(values)
    except (*FAILURES, ValueError) as error:
        memory.close()
        raise SceneError(f"{name} cannot be made a raster ({gdal_message(error)}).") from error
    return memory


def _laid_out(array: DataArray, name: str) -> tuple[Any, dict[str, Any], Any]:
    """An array as (band, y, x), its georeference as rasterio takes it, and its nodata value."""
    import rioxarray  # registers the accessor
    from rioxarray.exceptions import RioXarrayError

    assert rioxarray
    try:
        array = bands_first(array, name)
        gcps = array.rio.get_gcps()
        place = {"gcps": gcps} if gcps else {"transform": _transform(array)}
        return array, {"crs": array.rio.crs, **place}, array.rio.nodata
    except RioXarrayError as error:
        raise SceneError(f"{name} cannot be placed on a pixel grid ({gdal_message(error)}).") from error


def _transform(array: Any) -> Any:
    """Where the pixels lie by the coordinates: a part of an array takes the transform of the whole along unchanged.

    Of the two the transform has all digits, and is taken where the coordinates agree to a hundredth of a pixel.
    """
    stored = array.rio.transform()
    if not stored.is_rectilinear:  # coordinates along rows and columns cannot tell
        return stored
    actual = array.rio.transform(recalc=True)
    rows, columns = array.sizes[array.rio.y_dim], array.sizes[array.rio.x_dim]
    apart = [np.subtract(~stored * (actual * corner), corner) for corner in ((0, 0), (columns, rows))]
    return stored if np.abs(apart).max() < _AGREEING_PX else actual


def unmasked(array: DataArray) -> DataArray:
    """Stored integers again, where xarray has made floats of them to hold NaN for what has no data; else the array.

    xarray does so when it opens a netCDF, zarr or raster file with a fill value, and notes in the array's encoding what
    it has read.
    """
    encoding = getattr(array, "encoding", {})
    dtype, fill = np.dtype(encoding.get("dtype", "f4")), encoding.get("_FillValue")
    if array.dtype.kind != "f" or dtype.kind not in "iu" or fill is None or encoding.get("scale_factor", 1) != 1:
        return array
    import rioxarray  # registers the accessor

    assert rioxarray
    stored: DataArray = array.fillna(fill).astype(dtype).rio.write_nodata(fill)
    return stored


def array_label(array: DataArray) -> str:
    """An array of labels in messages."""
    return f"the array {array.name!r}" if getattr(array, "name", None) else "the label array"


def stored_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type itself, or where GDAL does not store it the nearest it does."""
    return np.dtype(_STORED_AS.get(dtype.name, dtype))


def bands_first(array: Any, name: str) -> Any:
    """An array of a raster's dimensions as (band, y, x), whatever they are called; nothing is computed.

    Raises:
        SceneError: it has more dimensions than a raster.
    """
    import rioxarray  # registers the accessor

    assert rioxarray
    rows, columns = array.rio.y_dim, array.rio.x_dim
    others = [dimension for dimension in array.dims if dimension not in (rows, columns)]
    idle = [dimension for dimension in others if array.sizes[dimension] == 1]
    if len(others) > 1:  # say, one moment in time
        array = array.squeeze(idle, drop=True)
        others = [dimension for dimension in others if dimension not in idle]
    if len(others) > 1:
        raise SceneError(f"{name} has dimensions {array.dims}: select one of each but y, x and a band dimension.")
    if not others:
        return array.expand_dims("band").transpose("band", rows, columns)
    return array.transpose(others[0], rows, columns)


def _names(array: Any) -> list[str]:
    named = array.attrs.get("long_name")
    if isinstance(named, str):
        named = [named]
    if not named:
        coordinate = array.coords.get(array.dims[0])
        named = coordinate.to_numpy().tolist() if coordinate is not None and coordinate.dtype.kind in "UOT" else ()
    return [str(name) for name in named] if len(named) == array.shape[0] else []


def _fitting(nodata: Any, dtype: np.dtype[Any]) -> Any:
    """The nodata value, unless the array's type cannot hold it and so never does."""
    if nodata is None or dtype.kind == "f":
        return nodata
    info = np.iinfo(dtype)
    return int(nodata) if info.min <= nodata <= info.max and nodata == int(nodata) else None
