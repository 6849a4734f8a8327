"""Writing a raster block by block, whole or not at all: a cloud-optimised GeoTIFF, or nothing."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from geohp.errors import OutputError
from geohp.outputs import check_output
from geohp.raster._gdal import FAILURES, logged_errors, open_quietly, quiet, reason
from geohp.raster.grid import Grid

_BLOCK_PX = 512
_OVERVIEWS = ("mode", "average", "nearest")
# Files that GDAL keeps beside a raster; those of a replaced raster would be taken for the new one's.
_SIDE_FILES = (".aux.xml", ".ovr", ".msk")


class RasterWriter:
    """Write one band block by block and leave a cloud-optimised GeoTIFF.

    Blocks go into a tiled, compressed GeoTIFF in a hidden folder beside the target, so memory does not grow with the
    scene; leaving the ``with`` block converts it and moves it into place. If anything goes wrong before that, also an
    interrupt, nothing is left behind and a file that stood at the target stays as it was. Pixels never written hold
    ``nodata``. Writes may come from any thread.
    """

    def __init__(
        self,
        path: str | Path,
        grid: Grid,
        *,
        dtype: str = "uint8",
        nodata: float | None = 255,
        colormap: Mapping[int, tuple[int, ...]] | None = None,
        band_description: str | None = None,
        tags: Mapping[str, str] | None = None,
        band_tags: Mapping[str, str] | None = None,
        scale: float | None = None,
        overviews: str = "mode",
    ):
        """Check the target; nothing is written before the ``with`` block is entered.

        Args:
            path: the file to appear; its folder must exist.
            grid: size and georeference, kept exactly: transform or ground control points, and CRS.
            dtype: numpy name of the stored type.
            nodata: stored value of pixels without data.
            colormap: colour table for 8- and 16-bit bands, value to (red, green, blue[, alpha]) in 0..255.
            band_description: name of the band.
            tags: metadata of the file.
            band_tags: metadata of the band.
            scale: real value = stored value * scale, for readers that honour it (confidence: 1/254).
            overviews: how overviews summarise: "mode" or "nearest" for classes, "average" for quantities.

        Raises:
            OutputError: the folder is missing or not writable, or the target is a folder.
        """
        if overviews not in _OVERVIEWS:
            raise ValueError(f"overviews must be one of {_OVERVIEWS}, not {overviews!r}")
        self.path = Path(path)
        self.grid = grid
        self.dtype = np.dtype(dtype)
        self.nodata = nodata
        self.colormap = colormap
        self.band_description = band_description
        self.tags = dict(tags or {})
        self.band_tags = dict(band_tags or {})
        self.scale = scale
        self.overviews = overviews
        self._lock = threading.Lock()
        self._dataset: Any = None
        self._folder: Path | None = None
        self._sealed = False
        check_output(self.path, overwrite=True)

    def __enter__(self) -> RasterWriter:
        try:
            self._folder = Path(
                tempfile.mkdtemp(prefix=f".{self.path.name[:40]}.", suffix=".part", dir=self.path.parent)
            )
        except OSError as error:
            raise OutputError(
                f"{self.path.parent} cannot be written to ({error.strerror}): "
                f"choose another folder for {self.path.name}."
            ) from error
        try:
            self._dataset = self._create(self._folder / "blocks.tif")
        except BaseException as error:
            self._discard()
            if isinstance(error, FAILURES):
                raise self._failure(error) from error
            raise
        return self

    def write(self, row: int, col: int, block: NDArray[Any]) -> None:
        """Write a block ``(rows, columns)`` of the declared dtype with its upper left pixel at (row, col).

        Raises:
            OutputError: the disk is full or the file cannot be written.
            ValueError: the block does not fit the grid or its dtype.
        """
        height, width = block.shape
        if row < 0 or col < 0 or row + height > self.grid.height or col + width > self.grid.width:
            raise ValueError(
                f"block of {height} x {width} px at row {row}, column {col} does not fit {self.grid.shape}"
            )
        if not np.can_cast(block.dtype, self.dtype, "safe"):
            raise ValueError(f"{block.dtype} values cannot be stored as {self.dtype}")
        with self._lock:
            if self._dataset is None:
                raise ValueError("write inside the writer's with statement")
            try:
                with quiet():
                    self._dataset.write(block.astype(self.dtype, copy=False), 1, window=Window(col, row, width, height))
            except FAILURES as error:
                raise self._failure(error) from error

    def seal(self) -> None:
        """Convert what was written, so that leaving the ``with`` block only has to rename a file.

        Several outputs that belong together are sealed before the first is moved into place: whatever can fail has
        then happened. Nothing can be written afterwards.

        Raises:
            OutputError: the disk is full or the file cannot be written.
        """
        if not self._sealed:
            self._convert()
            self._sealed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.seal()
                self._publish()
        finally:
            self._discard()

    def _create(self, path: Path) -> Any:
        options: dict[str, Any] = {}
        if self.grid.gcps:
            options["gcps"] = list(self.grid.gcps)
        else:
            options["transform"] = self.grid.transform
        with quiet():
            dataset = open_quietly(
                path,
                "w",
                driver="GTiff",
                width=self.grid.width,
                height=self.grid.height,
                count=1,
                dtype=self.dtype.name,
                nodata=self.nodata,
                # For control points rasterio insists on a CRS; an empty one is stored as none.
                crs=CRS() if self.grid.gcps and self.grid.crs is None else self.grid.crs,
                tiled=True,
                blockxsize=_BLOCK_PX,
                blockysize=_BLOCK_PX,
                compress="deflate",
                zlevel=1,  # this file lives for minutes
                bigtiff="if_safer",
                **options,
            )
            # GDAL takes all of this before the first pixel, or rewrites the file's directory, or refuses.
            with ExitStack() as stack:
                stack.callback(dataset.close)
                if self.colormap is not None:
                    dataset.write_colormap(1, {value: tuple(colour) for value, colour in self.colormap.items()})
                if self.band_description is not None:
                    dataset.set_band_description(1, self.band_description)
                if self.scale is not None:
                    dataset.scales = (self.scale,)
                dataset.update_tags(**self.tags)
                dataset.update_tags(1, **self.band_tags)
                stack.pop_all()
        return dataset

    def _convert(self) -> None:
        """Close the blocks and convert them to a COG beside them."""
        assert self._folder is not None
        blocks, cog = self._folder / "blocks.tif", self._folder / "cog.tif"
        try:
            with quiet(), logged_errors() as errors:
                self._dataset.close()
                _check_complete(blocks, errors)
                rasterio.shutil.copy(
                    blocks,
                    cog,
                    driver="COG",
                    compress="DEFLATE",
                    # Neighbouring quantities are alike and their differences compress; class numbers are only names.
                    predictor="YES" if self.overviews == "average" else "NO",
                    blocksize=_BLOCK_PX,
                    overview_resampling=self.overviews.upper(),
                    bigtiff="IF_SAFER",
                    num_threads="ALL_CPUS",
                )
                _check_complete(cog, errors)
        except FAILURES as error:
            raise self._failure(error) from error

    def _publish(self) -> None:
        """Move the COG into place."""
        assert self._folder is not None
        try:
            (self._folder / "cog.tif").replace(self.path)
        except OSError as error:
            raise self._failure(error) from error
        for suffix in _SIDE_FILES:
            with suppress(OSError):
                Path(f"{self.path}{suffix}").unlink()

    def _discard(self) -> None:
        dataset, self._dataset = self._dataset, None
        if dataset is not None and not dataset.closed:
            with quiet():
                dataset.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _failure(self, error: BaseException) -> OutputError:
        return OutputError(
            f"{self.path} could not be written ({reason(error)}): "
            "check the free space and the access rights of its folder; nothing was changed there."
        )


def _check_complete(path: Path, errors: list[str]) -> None:
    """Raise OSError unless every block of a TIFF, overviews included, lies inside the file.

    GDAL writes its last blocks while it closes, where a full disk raises nothing: a block that could not be written is
    simply absent, and would read as nodata.
    """
    if errors:
        raise OSError(errors[0])
    size = path.stat().st_size
    with open_quietly(path) as dataset:
        levels: list[int | None] = [None, *range(len(dataset.overviews(1)))]
    for level in levels:
        with open_quietly(path, "r", **({} if level is None else {"overview_level": level})) as dataset:
            for (row, col), _ in dataset.block_windows(1):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)
                if offset is None or length is None or int(offset) + int(length) > size:
                    raise OSError(f"a block at row {row}, column {col} was not stored")
