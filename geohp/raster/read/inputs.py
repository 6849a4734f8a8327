"""What people hold in their hands in place of a path: open datasets, numpy arrays, tensors, samples of TorchGeo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from geohp.errors import SceneError
from geohp.raster.read.arrays import nodata_value, packed_dtype, raster_variables

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

_BAND_VARIABLE = re.compile(r"band_(\d+)")  # as rioxarray calls what it makes of a band
_MOST_LAST = 4  # so many numbers along the last dimension are taken for colours


def scene_input(source: Any) -> Any:
    """A path, or an ``xarray.DataArray``, of whatever shows an image.

    Args:
        source: a path; an ``xarray.Dataset``, whose variables are the bands in their order; an open rasterio dataset,
            which stays open; an array or tensor (bands, rows, columns) or (rows, columns), which lies nowhere on Earth;
            a sample of TorchGeo's, of which the image is taken. Anything else is handed back.

    Raises:
        SceneError: it shows no image, or not in this way; with the remedy.
    """
    if isinstance(source, (str, Path)):
        return source
    if isinstance(source, WarpedVRT):
        raise SceneError("a WarpedVRT exists in memory alone", "write it to a file, or read it by rioxarray")
    if isinstance(source, DatasetReader):
        return source.name
    if hasattr(source, "data_vars"):
        return _dataset_image(source)
    if isinstance(source, Mapping):
        if "image" not in source:
            raise SceneError(
                f"a sample with the keys {', '.join(map(str, source))} has no image", "give one with the key 'image'"
            )
        source = source["image"]
    if hasattr(source, "detach"):
        source = source.detach().cpu().numpy()
    return _as_dataarray(source) if isinstance(source, np.ndarray) else source


def file_input(source: Any) -> str | Path:
    """What is read from a file, or from all that GDAL opens by a name: the path or name itself.

    Raises:
        SceneError: it is in memory alone.
    """
    if isinstance(source, (str, Path)):
        return source
    if isinstance(source, DatasetReader) and not isinstance(source, WarpedVRT):
        return str(source.name)
    raise SceneError(
        f"a {type(source).__name__} is no file",
        "save it first, as by array.rio.to_raster or labels.geohp.to_raster; geohp.segment maps arrays in memory",
    )


def _as_dataarray(values: np.ndarray[Any, Any]) -> Any:
    import xarray as xr

    if values.ndim not in (2, 3):
        remedy = "take one image of a batch" if values.ndim == 4 else "bands, rows and columns are expected"
        raise SceneError(f"an array of shape {values.shape} is no image", remedy)
    if values.ndim == 3 and values.shape[-1] <= _MOST_LAST < min(values.shape[:2]):
        problem = f"an array of shape {values.shape} has its bands last, where they come first"
        raise SceneError(problem, "use array.transpose(2, 0, 1)")
    return xr.DataArray(values, dims=("band", "y", "x")[-values.ndim :])


def _dataset_image(dataset: Dataset) -> DataArray:
    planes = raster_variables(dataset)
    if not planes:
        raise SceneError("the dataset has no variable with rows and columns", "give one that holds bands")
    first = next(iter(planes.values()))
    if len(planes) == 1:
        return first
    import rioxarray  # registers the accessor
    import xarray as xr

    assert rioxarray
    image: DataArray = xr.Dataset(planes).to_dataarray("band").rio.write_grid_mapping(first.rio.grid_mapping)
    image = _numbered(image, planes)
    packed = packed_dtype(first)
    if packed is not None and all(packed_dtype(plane) == packed for plane in planes.values()):
        image.encoding["dtype"] = packed
    fills = {name: nodata_value(plane, f"variable {name!r}") for name, plane in planes.items()}
    kinds = {planes[name].dtype.kind for name, fill in fills.items() if fill is not None and fill == fill}
    different = {"NaN" if fill != fill else fill for fill in fills.values()}
    if kinds and len(different) == 1:  # it would be lost on the way
        image = image.rio.write_nodata(different.pop())
    # Of bytes and their like all bands must have one for it to count; of others one is enough.
    elif kinds and (None not in different or kinds != {"u"}):
        problem = f"the dataset's variables have different nodata values ({', '.join(map(str, fills.values()))})"
        raise SceneError(problem, "open it with mask_and_scale=True, which makes NaN of each")
    return image


def _numbered(image: DataArray, planes: Mapping[str, DataArray]) -> DataArray:
    """The image with the numbers of its bands and their file, where rioxarray has made a variable of each band."""
    numbers = [_BAND_VARIABLE.fullmatch(name) for name in planes]
    files = {plane.encoding.get("source") for plane in planes.values() if "rasterio_dtype" in plane.encoding}
    if None in numbers or len(files) != 1:
        return image
    image = image.assign_coords(band=[int(number[1]) for number in numbers if number])
    image.attrs["long_name"] = tuple(str(plane.attrs.get("long_name", name)) for name, plane in planes.items())
    image.encoding |= {"rasterio_dtype": str(image.dtype), "source": files.pop()}
    return image
