"""An xarray array as a raster in memory, so that a notebook's data is read like a file's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.io import MemoryFile

from geohp.classes import NODATA_LABEL
from geohp.errors import SceneError, VectorError
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message, open_env, open_raster
from geohp.raster.grid import is_upright

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

STORED = "GEOHP"
"""Namespace of tags by which a raster made of an array says how its file stores the values: NBITS, as GDAL has it."""

ATTRIBUTES = "GEOHP_"
"""What the attributes that say how a label map was made begin with."""

_CLASSES = "classes"

# Types GDAL does not store, and the nearest it does.
_STORED_AS = {"bool": "uint8", "float16": "float32"}

_STAC_CRS = ("proj:epsg", "proj:code", "epsg")

# Attributes by which stored values stand for others, and as rioxarray calls them where they differ from band to band.
_SCALES = (("scale_factor", "scales", 1.0), ("add_offset", "offsets", 0.0))

_AGREEING_PX = 0.01
_EVEN_PX = 0.1
"""What a coordinate may be off the middle of its pixel, besides what its type rounds."""


def to_memory_file(array: DataArray, name: str, *, pixels: bool = True) -> MemoryFile:
    """Copy an array into a GeoTIFF in memory.

    Args:
        array: dimensions y and x (or their like: latitude, longitude), or those and one more for bands, in any order;
            CRS, transform, ground control points and nodata as rioxarray knows them. Bands are named by the attribute
            ``long_name`` or by a band coordinate of texts. What they show, the file tells that rioxarray has read them
            from, else of opacity the name "alpha" of bytes. A dask array is computed.
        name: the array in messages.
        pixels: copy them too; without them nothing is computed, and the file only tells how the raster is laid out.

    Raises:
        SceneError: dimensions or values that no raster has.
    """
    if not hasattr(array, "dims") or hasattr(array, "data_vars"):
        problem = f"{name} is no xarray.DataArray but a {type(array).__name__}"
        remedy = "choose one variable of a dataset; several files are for geohp.segment_files"
        if not hasattr(array, "data_vars") and hasattr(array, "shape") and not hasattr(array, "crs"):
            remedy = "make one of it: xarray.DataArray(values, dims=('y', 'x'))"
        raise SceneError(problem, remedy)
    source = array
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
            bands = _described(array, source.encoding)
            for number, text in enumerate(bands.names, start=1):
                dataset.set_band_description(number, text)
            for number, bits in enumerate(bands.bits, start=1):
                if bits is not None:
                    dataset.update_tags(number, ns=STORED, NBITS=bits)
            if {*bands.shown} != {ColorInterp.undefined}:
                dataset.colorinterp = bands.shown
            dataset.update_tags(**{tag: str(text) for tag, text in array.attrs.items() if _is_tag(tag)})
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
        place = {"gcps": gcps} if gcps else {"transform": _transform(array, name)}
        return array, {"crs": array.rio.crs or _stac_crs(array), **place}, nodata_value(array, name)
    except RioXarrayError as error:
        raise SceneError(f"{name} cannot be placed on a pixel grid ({gdal_message(error)}).") from error


def _stac_crs(array: Any) -> CRS | None:
    """The coordinate reference system by the coordinate that stackstac makes of STAC's property, if there is one.

    It outlasts the attributes, which tell rioxarray, where dates are put together.
    """
    for name in _STAC_CRS:
        if name in array.coords and array.coords[name].ndim == 0:
            code = str(array.coords[name].item())
            with suppress(CRSError):
                return CRS.from_string(f"EPSG:{code}" if code.isdigit() else code)
    return None


def nodata_value(array: Any, name: str) -> Any:
    """The nodata value as rioxarray knows it; ``None`` without one, and where the array's type cannot hold it.

    Raises:
        SceneError: it is no number.
    """
    try:
        return array.rio.nodata
    except (OverflowError, ValueError):  # such as NaN among integers
        return None
    except TypeError as error:
        raise SceneError(
            f"{name} has a nodata value that is no number: set one with array.rio.write_nodata."
        ) from error


def _transform(array: Any, name: str) -> Any:
    """Where the pixels lie by the coordinates: a part of an array takes the transform of the whole along unchanged.

    Of the two the transform has all digits, and is taken where the coordinates agree to a hundredth of a pixel.

    Raises:
        SceneError: the coordinates are not those of evenly spaced pixels.
    """
    across, down = array.rio.x_dim, array.rio.y_dim
    for dimension in (across, down):
        if dimension in array.coords:
            _check_even(array.coords[dimension].to_numpy(), dimension, name)
    stored = array.rio.transform()
    corners = (0, 0), (array.sizes[across], array.sizes[down])
    if stored.is_identity and 1 in corners[1] and array.rio.crs is not None and {across, down} <= set(array.coords):
        raise SceneError(f"{name} has a single row or column, of unknown size", "say it: array.rio.write_transform")
    actual = array.rio.transform(recalc=True) if is_upright(stored) else _turned(array, stored, name)
    if stored.is_degenerate:
        return actual
    apart = [np.subtract(~stored * (actual * corner), corner) for corner in corners]
    return stored if np.abs(apart).max() < _AGREEING_PX else actual


def _turned(array: Any, stored: Any, name: str) -> Any:
    """The transform of a rotated array by the coordinates of all pixels, where it has them as rioxarray gives them."""
    plane = (array.rio.y_dim, array.rio.x_dim)
    if any(coordinate not in array.coords or array.coords[coordinate].dims != plane for coordinate in ("xc", "yc")):
        return stored
    x, y = (array.coords[coordinate].to_numpy() for coordinate in ("xc", "yc"))
    cols, rows = (~stored * (x[0], y[0]))[0], (~stored * (x[:, 0], y[:, 0]))[1]
    for dimension, places in zip(plane, (rows, cols), strict=True):
        _check_even(places, dimension, name)
    right, below = ((places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else 1.0 for places in (cols, rows))
    middle = stored.translation(cols[0], rows[0]) * stored.scale(right, below)
    return stored * middle * stored.translation(-0.5, -0.5)


def _check_even(places: NDArray[Any], dimension: str, name: str) -> None:
    """Refuse coordinates that are not evenly spaced: of rows or columns left out, mixed up or repeated."""
    if len(places) < 2:
        return
    if places.dtype.kind in "iuf" and np.isfinite(places).all():
        exact = places.astype(np.float64)
        pixel = abs(exact[-1] - exact[0]) / (len(exact) - 1)
        rounded = np.spacing(np.abs(places).max()) if places.dtype.kind == "f" else 0.0
        off = np.abs(exact - np.linspace(exact[0], exact[-1], len(exact))).max()
        if pixel > 0 and off <= _EVEN_PX * pixel + rounded:
            return
    raise SceneError(
        f"{name} has coordinates along {dimension!r} that are not evenly spaced, and so no pixel grid",
        "sort it and fill in what is missing (array.sortby, array.reindex), or bring it to a grid (array.interp)",
    )


def packed_dtype(array: DataArray) -> np.dtype[Any] | None:
    """The integer type that xarray has read an array of floats from, with the values as they were stored.

    xarray makes floats of integers to hold NaN for what has no data, and notes in the array's encoding what it has
    read; whatever computes new values drops that. ``None`` of all other arrays.
    """
    encoding = array.encoding
    dtype = np.dtype(encoding.get("dtype", "f4"))
    as_stored = encoding.get("scale_factor", 1) == 1 and encoding.get("add_offset", 0) == 0
    return dtype if array.dtype.kind == "f" and dtype.kind in "iu" and as_stored else None


def unmasked(array: DataArray) -> DataArray:
    """Labels as integers again, where xarray has made floats of them to hold NaN for what has no data.

    It does so when it opens a netCDF, zarr or raster file with a fill value, and where parts of an array are masked. Of
    a truth value no label is a class any more: such an array loses what it declares.

    Raises:
        VectorError: an array that declares classes holds fractions; of dask chunks when they are computed.
    """
    if not (hasattr(array, "encoding") and hasattr(array, "dtype")):  # no array of xarray's, as will be said
        return array
    import rioxarray  # registers the accessor

    assert rioxarray
    dtype, fill = packed_dtype(array), array.encoding.get("_FillValue")
    if dtype is not None and fill is not None:  # resampled since, rounded as integers are
        stored: DataArray = array.fillna(fill).round().astype(dtype).rio.write_nodata(fill)
        return stored
    if array.dtype.kind == "f" and _CLASSES in array.attrs:
        return _whole(array)
    if array.dtype.kind == "b":
        attributes = array.attrs
        array = array.copy(deep=False)
        array.attrs = {name: value for name, value in attributes.items() if not _of_labels(str(name))}
    return array


def _whole(labels: DataArray) -> DataArray:
    """Floats that are labels, or NaN, as bytes."""
    import xarray as xr

    name, declared = array_label(labels), nodata_value(labels, array_label(labels))

    def as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
        present = ~np.isnan(values) & (values != declared)
        with np.errstate(invalid="ignore"):
            stored = np.where(present, values, NODATA_LABEL).astype(np.uint8)
        if not np.array_equal(stored[present], values[present]):
            raise VectorError(
                f"{name} holds {values.dtype} values, but labels are integers", "give the labels, not what they became"
            )
        return stored

    whole: DataArray = xr.apply_ufunc(
        as_bytes, labels, dask="parallelized", output_dtypes=[np.uint8], keep_attrs=True
    ).rio.write_nodata(NODATA_LABEL)
    return whole


def _of_labels(attribute: str) -> bool:
    return attribute == _CLASSES or _is_tag(attribute) or any(attribute in names for names in _SCALES)


def _is_tag(attribute: object) -> bool:
    return str(attribute).startswith(ATTRIBUTES)


def raster_variables(dataset: Dataset) -> dict[str, DataArray]:
    """The variables of a dataset that have rows and columns, each with the coordinate reference system.

    That may be a variable of its own, as xarray reads it from a file unless told otherwise.
    """
    variables = dataset.data_vars
    named = {plane.encoding.get("grid_mapping", plane.attrs.get("grid_mapping")) for plane in variables.values()}
    placed = dataset.set_coords([name for name in named if name in variables])
    return {str(name): plane for name, plane in placed.data_vars.items() if plane.ndim >= 2}


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


class _Bands(NamedTuple):
    """What is known of the bands of an array: their names, none at all or one each, what each shows, and its bits."""

    names: list[str]
    shown: list[ColorInterp]
    bits: list[str | None]


def _described(array: Any, encoding: Mapping[Any, Any]) -> _Bands:
    """The bands of an array (band, y, x) by its attributes and, as far as its encoding names it, its file.

    Of bands that somebody has chosen from a file only their opacity counts, no colours: they are meant in the order
    chosen. Names that are those of all of the file's bands are told by their numbers.
    """
    undefined, names = ColorInterp.undefined, _names(array)
    if "rasterio_dtype" in encoding:
        file = str(encoding.get("source"))
        with suppress(*FAILURES), open_env(file), open_raster(file) as dataset:
            every = [*dataset.indexes]
            chosen = _numbers(array) or every
            if len(chosen) == len(array) and {*chosen} <= {*every}:
                shown = [dataset.colorinterp[number - 1] for number in chosen]
                if names == [text or "" for text in dataset.descriptions]:
                    names = [names[number - 1] for number in chosen]
                bits = [dataset.tags(number, ns="IMAGE_STRUCTURE").get("NBITS") for number in chosen]
                if chosen != every:
                    shown = [meaning if meaning == ColorInterp.alpha else undefined for meaning in shown]
                return _Bands(names if len(names) == len(array) else [], shown, bits)
    names = names if len(names) == len(array) else []
    alphas = [array.dtype.kind == "u" and name.strip().casefold() == "alpha" for name in names]
    shown = [ColorInterp.alpha if alpha else undefined for alpha in alphas] or [undefined] * len(array)
    return _Bands(names, shown, [])


def _numbers(array: Any) -> list[int]:
    """The numbers of an array's bands (band, y, x) by their coordinate; empty where it has none."""
    coordinate = array.coords.get(array.dims[0]) if array.dims[0] in array.coords else None
    return [] if coordinate is None or coordinate.dtype.kind not in "iu" else coordinate.to_numpy().tolist()


def _names(array: Any) -> list[str]:
    named = array.attrs.get("long_name")
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, list | tuple) or not named:
        coordinate = array.coords.get(array.dims[0])
        named = coordinate.to_numpy().tolist() if coordinate is not None and coordinate.dtype.kind in "UOT" else ()
    return ["" if name is None else str(name) for name in named]


def quantity_scale(array: DataArray, name: str) -> tuple[float, float]:
    """Scale and offset by which the values of an array's first band stand for quantities, as xarray keeps them.

    Raises:
        VectorError: it has such attributes, and nobody knows whether its values are still those that were stored.
    """
    encoding, array = array.encoding, bands_first(array, name)
    place = (_numbers(array) or [1])[0] - 1

    def of_first(one: str, several: str, usual: float) -> float:
        try:
            if several in array.attrs:
                return float(array.attrs[several][place])
            return float(np.asarray(array.attrs.get(one, usual)).item())
        except (IndexError, TypeError, ValueError):
            return np.nan

    scale, offset = (of_first(*names) for names in _SCALES)
    computed = array.dtype.kind == "f" and not {"dtype", "rasterio_dtype"} & {*encoding}
    if computed and (scale, offset) != (1, 0):
        raise VectorError(
            f"{name} has the attributes of a scale, and does not say whether its values were multiplied by it",
            "open it with mask_and_scale=True, or take the attributes away (array.drop_attrs())",
        )
    return scale, offset


def _fitting(nodata: Any, dtype: np.dtype[Any]) -> Any:
    """The nodata value, unless the array's type cannot hold it and so never does."""
    if nodata is None or dtype.kind == "f":
        return nodata
    info = np.iinfo(dtype)
    return int(nodata) if info.min <= nodata <= info.max and nodata == int(nodata) else None
