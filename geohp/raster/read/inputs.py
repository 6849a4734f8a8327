"""What people hold in their hands in place of a path: open datasets, numpy arrays, tensors, samples of TorchGeo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from geohp.errors import SceneError

_MOST_LAST = 4  # so many numbers along the last dimension are taken for colours


def scene_input(source: Any) -> Any:
    """A path, or an ``xarray.DataArray``, of whatever shows an image.

    Args:
        source: a path; an open rasterio dataset, which stays open; an array or tensor (bands, rows, columns) or (rows,
            columns), which lies nowhere on Earth; a sample of TorchGeo's, of which the image is taken. Anything else
            is handed back.

    Raises:
        SceneError: it shows no image, or not in this way; with the remedy.
    """
    if isinstance(source, (str, Path)):
        return source
    if isinstance(source, WarpedVRT):
        raise SceneError("a WarpedVRT exists in memory alone", "write it to a file, or read it by rioxarray")
    if isinstance(source, DatasetReader):
        return source.name
    if isinstance(source, Mapping) and not hasattr(source, "data_vars"):
        if "image" not in source:
            raise SceneError(
                f"a sample with the keys {', '.join(map(str, source))} has no image", "give one with the key 'image'"
            )
        source = source["image"]
    if hasattr(source, "detach"):
        source = source.detach().cpu().numpy()
    return _as_dataarray(source) if isinstance(source, np.ndarray) else source


def _as_dataarray(values: np.ndarray[Any, Any]) -> Any:
    import xarray as xr

    if values.ndim not in (2, 3):
        remedy = "take one image of a batch" if values.ndim == 4 else "bands, rows and columns are expected"
        raise SceneError(f"an array of shape {values.shape} is no image", remedy)
    if values.ndim == 3 and values.shape[-1] <= _MOST_LAST < min(values.shape[:2]):
        problem = f"an array of shape {values.shape} has its bands last, where they come first"
        raise SceneError(problem, "use array.transpose(2, 0, 1)")
    return xr.DataArray(values, dims=("band", "y", "x")[-values.ndim :])
