"""Which pixels hold data: nodata values, alpha bands, masks and NaN, all together.

GDAL's own mask stops at the first kind it finds (a mask file hides the nodata value, the nodata value hides the alpha
band), so the kinds are looked up one by one here and a pixel must pass all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from geohp.raster.block import Block


@dataclass(frozen=True)
class ValidityPlan:
    """What must be looked at to know whether a pixel is valid; empty where a scene declares nothing.

    Attributes:
        nodata: for each band read, its nodata value, or ``None``.
        alphas: 1-based alpha bands.
        masks: 1-based bands whose GDAL mask band must be read.
    """

    nodata: tuple[float | int | None, ...]
    alphas: tuple[int, ...]
    masks: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Any, bands: Sequence[int], default_nodata: int | None = None) -> ValidityPlan:
        """Plan for the distinct ``bands`` of an open rasterio dataset; a default for those that declare no nodata."""
        alphas = alpha_bands(dataset)
        masks = []
        for band in bands:
            flags = dataset.mask_flag_enums[band - 1]
            is_alpha_band = MaskFlags.alpha in flags and alphas
            if MaskFlags.all_valid in flags or is_alpha_band or flags == [MaskFlags.nodata]:
                continue
            masks.append(band)
            if MaskFlags.per_dataset in flags:  # one mask for all bands
                break
        declared = ((band, dataset.nodatavals[band - 1]) for band in bands)
        nodata = tuple(
            _storable(default_nodata if value is None else value, np.dtype(dataset.dtypes[band - 1]))
            for band, value in declared
        )
        return cls(nodata, alphas, tuple(masks))

    @classmethod
    def undeclared(cls, bands: int) -> ValidityPlan:
        """Plan for values of which nothing is known: what is no finite number is invalid."""
        return cls((None,) * bands, (), ())

    def unstored_is_invalid(self, dataset: Any, bands: Sequence[int]) -> bool:
        """Whether pixels that an open rasterio dataset does not store are without data.

        Such pixels hold the nodata value, or 0 where there is none.

        Args:
            dataset: as it was planned for.
            bands: the planned ones.
        """

        def pixel(band: int) -> NDArray[Any]:
            value = dataset.nodatavals[band - 1]
            return np.full((1, 1), 0 if value is None else value).astype(dataset.dtypes[band - 1])

        try:
            planes, alphas = ([pixel(band) for band in of] for of in (bands, self.alphas))
        except (ValueError, TypeError, OverflowError):
            return False
        return not self.of_planes(planes, alphas).any()

    def of_block(self, dataset: Any, block: Block, planes: NDArray[Any]) -> NDArray[np.bool_]:
        """Validity of a block of which the planned bands have been read; masks and alpha bands are read here.

        Args:
            dataset: open, of rasterio.
            block: the pixels.
            planes: (bands, rows, columns) of them, possibly fewer than the block has.
        """
        where = {"window": block.window, "out_shape": planes.shape[1:]}
        masks = [dataset.read_masks(band, **where) for band in self.masks]
        alphas = [dataset.read(band, **where) for band in self.alphas]
        return self.of_planes(planes, [*masks, *alphas])

    def of_planes(
        self, planes: Sequence[NDArray[Any]] | NDArray[Any], masks: Sequence[NDArray[Any]] | NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Validity by the stored values of the planned bands, and masks and alpha bands, which are 0 where invalid."""
        valid = self.of_values(planes)
        for mask in masks:
            valid &= mask != 0
        return valid

    def of_values(self, planes: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.bool_]:
        """Validity ``(rows, columns)`` by the stored values of the planned bands, the first of ``planes``, alone.

        0 and 255 are ordinary values of a single 8-bit band, so unsigned bands are nodata only where all of them hold
        it. Signed and floating-point nodata (-9999, NaN) is no ordinary value: one band that holds it is enough.
        """
        values = planes[: len(self.nodata)]
        valid = np.ones(values[0].shape, dtype=bool)
        unsigned = [pair for pair in zip(values, self.nodata, strict=True) if pair[0].dtype.kind == "u"]
        if unsigned and all(nodata is not None for _, nodata in unsigned):
            empty = unsigned[0][0] == unsigned[0][1]
            for band, nodata in unsigned[1:]:
                empty &= band == nodata
            valid &= ~empty
        for band, nodata in zip(values, self.nodata, strict=True):
            if band.dtype.kind == "u":
                continue
            if nodata is not None:
                valid &= band != nodata
            if band.dtype.kind == "f":
                valid &= np.isfinite(band)
        return valid


def alpha_bands(dataset: Any) -> tuple[int, ...]:
    """1-based numbers of the alpha bands of an open rasterio dataset."""
    return tuple(band for band, meaning in enumerate(dataset.colorinterp, start=1) if meaning == ColorInterp.alpha)


def _storable(nodata: float | int | None, dtype: np.dtype[Any]) -> float | int | None:
    """The nodata value as a band of ``dtype`` stores it; ``None`` where it cannot store it at all."""
    if nodata is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata).item()  # type: ignore[no-any-return]
    info = np.iinfo(dtype)
    if nodata != nodata or nodata != int(nodata) or not info.min <= nodata <= info.max:
        return None
    return int(nodata)
