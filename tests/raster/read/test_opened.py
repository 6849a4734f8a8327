"""Rasters that GDAL opens, and that hold nothing, or more than can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

from benchmarks.reliability.raster_absurd import plain, tiff
from geohp.errors import SceneError, VectorError
from geohp.inspection.rasters import raster_info
from geohp.raster.block import Block, BlockGrid
from geohp.raster.grid import Grid
from geohp.raster.read.labels import open_labels, opened_raster
from geohp.raster.read.quantities import QuantityRaster
from geohp.raster.read.scene import open_scene


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_raster_without_bands_is_refused_and_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    rasterio.shutil.copy(image(tmp_path, bands=2), path, driver="netCDF")  # a container of two
    for opened in (open_labels, open_scene):
        with pytest.raises(SceneError, match=r"container of several rasters: .*netcdf:.*Band2"), opened(path):
            pass
    assert raster_info(path).bands == ()


def test_blocks_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    tiles = {"t273": None, "t278": None, "t279": None, "t322": [2**15], "t323": [2**15], "t324": [-1], "t325": [64]}
    path = written(tmp_path / "a.tif", tiff(plain(64, 48, **tiles), b"\1" * 64))
    for opened in (open_labels, open_scene):
        with pytest.raises(SceneError, match=r"blocks of 1\.1 GB"), opened(path):
            pass


def test_a_size_that_only_a_header_can_have_is_refused_at_once(tmp_path: Path) -> None:
    side = 2**31 - 1
    path = written(tmp_path / "a.vrt", f"<VRTDataset rasterXSize='{side}' rasterYSize='{side}'>"
                   "<VRTRasterBand dataType='Byte' band='1'/></VRTDataset>")  # fmt: skip
    with pytest.raises(SceneError, match="too large to go through"), open_scene(path):
        pass
    with open_labels(path) as labels, pytest.raises(SceneError, match="too large to go through"):
        BlockGrid(*labels.grid.shape)
    assert raster_info(path).width == side
    assert len(BlockGrid(200_000, 200_000).blocks) == 98**2


def test_what_gdal_comes_upon_after_opening_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"a\.tif cannot be read \(no\): .* damaged"), opened_raster(image(tmp_path)):
        raise rasterio.errors.RasterioIOError("no")


def test_complex_integers_are_looked_at_and_no_labels(tmp_path: Path) -> None:
    path = image(tmp_path, "complex_int16")
    assert raster_info(path).bands[0].dtype == "complex_int16"
    with pytest.raises(VectorError, match="labels are integers"), open_labels(path):
        pass


def test_complex_values_are_no_quantities(tmp_path: Path) -> None:
    with rasterio.open(image(tmp_path, "complex64")) as dataset, pytest.raises(SceneError, match="complex values"):
        QuantityRaster(dataset, "a.tif")


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (float("nan"),)
    with rasterio.open(path) as dataset, pytest.raises(SceneError, match="no finite number"):
        QuantityRaster(dataset, "a.tif")


def test_a_colour_table_of_fractions_is_refused(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.vrt",
        "<VRTDataset rasterXSize='4' rasterYSize='3'><VRTRasterBand dataType='Float32' band='1'>"
        "<ColorInterp>Palette</ColorInterp><ColorTable><Entry c1='1' c2='2' c3='3' c4='255'/></ColorTable>"
        "</VRTRasterBand></VRTDataset>",
    )
    with pytest.raises(SceneError, match="colour table but holds float32 values; choose its bands"), open_scene(path):
        pass
    with open_scene(path, bands=[1]) as scene:
        assert scene.read(0, 0, 3, 4)[0].shape == (1, 3, 4)


def test_where_nothing_can_be_brought_to_a_grid_there_is_no_data(tmp_path: Path) -> None:
    labels = image(tmp_path)
    with rasterio.open(labels, "r+") as dataset:
        dataset.nodata, dataset.crs, dataset.transform = 255, "EPSG:32633", from_origin(5e5, 5e6, 1, 1)
    # Pixels beyond where the projection reaches: GDAL finds no place for them, and returns what is in memory.
    beyond = Grid(96, 80, Affine(1e12, 0, 5e5, 0, -1e12, 5e6), CRS.from_epsg(3857))
    with open_labels(labels) as raster, raster.warped(beyond) as warped:
        memory = [np.full((80, 96), number, np.uint8) for number in range(50)]
        del memory
        assert not warped.read(Block(0, 0, 80, 96))[1].any()


def image(folder: Path, dtype: str = "uint8", bands: int = 1) -> Path:
    path = folder / "a.tif"
    profile = {"width": 4, "height": 3, "count": bands, "dtype": dtype, "transform": rasterio.Affine(1, 0, 9, 0, -1, 9)}
    with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
        dataset.write(np.ones((bands, 3, 4), "complex64" if dtype == "complex_int16" else dtype))
    return path
