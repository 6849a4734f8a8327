"""How one output raster is stored: type, nodata, colours, names, and what its overviews say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL, LandCoverClass, classes_to_json

OVERVIEWS = ("mode", "average", "nearest")

# GDAL's names of the types that every reader of GeoTIFF knows.
GDAL_TYPES = {
    "uint8": "Byte",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True)
class Layer:
    """One output raster without its pixels.

    Attributes:
        dtype: numpy name of the stored type.
        nodata: stored value of pixels without data; ``None`` where every value is data, and pixels never written are 0.
        bands: how many bands of that type.
        colormap: colour table of a single 8- or 16-bit band, value to (red, green, blue[, alpha]) in 0..255.
        band_descriptions: a name for each band, or none at all.
        tags: metadata of the file.
        band_tags: metadata of each band.
        scale: real value = stored value * scale, for readers that honour it (confidence: 1/254).
        overviews: how overviews summarise: "mode" or "nearest" for classes, "average" for quantities.

    Raises:
        ValueError: when these do not fit together.
    """

    dtype: str = "uint8"
    nodata: float | None = 255
    bands: int = 1
    colormap: Mapping[int, tuple[int, ...]] | None = None
    band_descriptions: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    band_tags: Mapping[str, str] = field(default_factory=dict)
    scale: float | None = None
    overviews: str = "mode"

    def __post_init__(self) -> None:
        if self.dtype not in GDAL_TYPES:
            raise ValueError(f"dtype must be one of {tuple(GDAL_TYPES)}, not {self.dtype!r}")
        if self.nodata is not None and not _holds(np.dtype(self.dtype), self.nodata):
            raise ValueError(f"nodata {self.nodata} cannot be stored as {self.dtype}")
        if self.overviews not in OVERVIEWS:
            raise ValueError(f"overviews must be one of {OVERVIEWS}, not {self.overviews!r}")
        if self.bands < 1 or len(self.band_descriptions) not in (0, self.bands):
            raise ValueError(f"{len(self.band_descriptions)} descriptions do not fit {self.bands} band(s)")
        if self.colormap is not None and (self.bands > 1 or self.dtype not in ("uint8", "uint16")):
            raise ValueError("a colour table needs a single band of type uint8 or uint16")

    @property
    def fill(self) -> float:
        """What a pixel holds that nobody wrote."""
        return 0 if self.nodata is None else self.nodata

    def missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Where values are nodata, as an array of the same shape."""
        if self.nodata is None:
            return np.zeros(values.shape, dtype=bool)
        absent: NDArray[np.bool_] = np.isnan(values) if np.isnan(self.nodata) else np.equal(values, self.nodata)
        return absent

    def is_blank(self, values: NDArray[Any]) -> bool:
        """Whether values say no more than not writing them would."""
        if np.isnan(self.fill):
            return bool(np.isnan(values).all())
        return bool((values == self.fill).all())

    def as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of shape (rows, cols) or (bands, rows, cols) as (bands, rows, cols) of the stored type.

        Raises:
            ValueError: they have another number of bands, or do not fit the type.
        """
        stacked = values[None] if values.ndim == 2 else values
        if stacked.ndim != 3 or len(stacked) != self.bands or 0 in stacked.shape:
            raise ValueError(f"a block of shape {values.shape} does not fit {self.bands} band(s)")
        if not np.can_cast(stacked.dtype, self.dtype, "safe"):
            raise ValueError(f"{stacked.dtype} values cannot be stored as {self.dtype}")
        return stacked.astype(self.dtype, copy=False)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a type has this value; any number will do where the type has fractions."""
    if dtype.kind == "f":
        return True
    return float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def label_layer(classes: Sequence[LandCoverClass], tags: Mapping[str, str]) -> Layer:
    """How labels are stored: with a colour table and the classes' names."""
    return Layer(
        colormap={c.id: (*c.rgb, 255) for c in classes},
        band_descriptions=("land cover",),
        band_tags={"classes": classes_to_json(classes)},
        tags=tags,
        nodata=NODATA_LABEL,
        overviews="mode",
    )
