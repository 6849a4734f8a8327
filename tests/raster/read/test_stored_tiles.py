"""A raster that is stored in part only reads as one stored in full, and what is not stored costs nothing."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from geohp.raster.block import Block
from geohp.raster.read.labels import open_labels
from geohp.raster.read.patches import sample_origins
from geohp.raster.read.scene import Scene, open_scene
from geohp.raster.read.stored_tiles import StoredTiles

SIDE = 640
PLACE = {"crs": "EPSG:32633", "transform": from_origin(3e5, 5e6, 0.5, 0.5)}
FILLED = [(0, 0), (128, 256), (576, 512)]
"""First rows and columns of the squares of 64 px that hold data."""

_read_stored = Scene._read_stored


def write(path, *, sparse, bands=3, dtype="uint8", nodata=0, interleave="pixel"):
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": bands, "dtype": dtype, "nodata": nodata}
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "interleave": interleave}
    rng = np.random.default_rng(1)
    with rasterio.open(path, "w", **profile, **tiles, **PLACE, sparse_ok=sparse) as out:
        if not sparse:
            out.write(np.full((bands, SIDE, SIDE), 0 if nodata is None else nodata, dtype))
        for row, col in FILLED:
            data = rng.integers(1, 200, (bands, 64, 64))
            if bands == 4:
                data[3] = 255
            out.write(data.astype(dtype), window=Window(col, row, 64, 64))
    return path


KINDS = [
    {},
    {"bands": 4, "nodata": None},
    {"dtype": "uint16", "interleave": "band"},
    {"dtype": "float32", "nodata": np.nan},
    {"dtype": "int16", "nodata": -9999},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_reads_as_if_all_were_stored(tmp_path, kind):
    sparse, dense = (write(tmp_path / f"{s}.tif", sparse=s, **kind) for s in (True, False))
    with open_scene(sparse) as scene, open_scene(dense, scaling=scene.scaling) as whole:
        assert not scene.may_hold_data(Block(64, 0, 448, 256))
        assert scene.may_hold_data(Block(63, 0, 448, 256))
        assert whole.may_hold_data(Block(64, 0, 448, 256))
        for block in (
            Block(0, 0, SIDE, SIDE),
            Block(100, 200, 300, 64),
            Block(64, 0, 60, 60),
            Block(570, 500, 70, 140),
        ):
            for read, expected in zip(scene.read(*block), whole.read(*block), strict=True):
                np.testing.assert_array_equal(read, expected)
        for read, expected in zip(scene.thumbnail(80), whole.thumbnail(80), strict=True):
            np.testing.assert_array_equal(read, expected)
        _, valid = scene.thumbnail(77)
        _, expected = whole.thumbnail(77)
        assert abs(int(valid.sum()) - int(expected.sum())) <= len(FILLED) * 9


def test_pixels_that_hold_data_without_being_stored_count(tmp_path):
    with open_scene(write(tmp_path / "scene.tif", sparse=True, nodata=None)) as scene:
        assert scene.may_hold_data(Block(64, 0, 64, 64))
        assert scene.read(64, 0, 64, 64)[1].all()


def test_of_a_virtual_raster_only_its_files_are_read(tmp_path):
    part = tmp_path / "part.tif"
    with rasterio.open(part, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8") as out:
        out.write(np.full((1, 64, 64), 7, np.uint8))
    source = (
        '<SimpleSource><SourceFilename relativeToVRT="1">part.tif</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="64" ySize="64"/><DstRect xOff="250.5" yOff="-10" xSize="64" ySize="64"/>'
        "</SimpleSource>"
    )
    size = 'rasterXSize="2000" rasterYSize="1000"'
    band = f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>255</NoDataValue>{source}</VRTRasterBand>'
    (tmp_path / "scene.vrt").write_text(f"<VRTDataset {size}>{band}</VRTDataset>")
    with open_labels(tmp_path / "scene.vrt") as labels:
        assert [labels.may_hold_data(Block(0, col, 256, 256)) for col in (0, 256, 512)] == [True, True, False]
        assert not labels.may_hold_data(Block(256, 0, 256, 2000))
        assert labels.read(Block(0, 0, 1000, 2000))[1].sum() == 54 * 65  # to the half pixels
    derived = band.replace("<VRTRasterBand", '<VRTRasterBand subClass="VRTDerivedRasterBand"')
    derived = derived.replace("<NoData", "<PixelFunctionType>sum</PixelFunctionType><NoData")
    (tmp_path / "derived.vrt").write_text(f"<VRTDataset {size}>{derived}</VRTDataset>")
    with rasterio.open(tmp_path / "derived.vrt") as dataset:
        assert StoredTiles.of(dataset) is None


def test_labels_that_are_not_stored_are_not_read(tmp_path):
    path = write(tmp_path / "labels.tif", sparse=True, bands=1, nodata=255)
    with open_labels(path) as labels:
        assert [labels.may_hold_data(Block(row, 0, 64, 64)) for row in (0, 64)] == [True, False]
        assert not labels.read(Block(64, 0, 64, 128))[1].any()
        assert labels.read(Block(0, 0, SIDE, SIDE))[1].sum() == len(FILLED) * 64**2


def test_patches_are_drawn_where_the_little_data_is(tmp_path, monkeypatch):
    path, side = tmp_path / "scene.tif", 20_000
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "nodata": 0}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with rasterio.open(path, "w", **profile, **tiles, **PLACE, sparse_ok=True) as out:
        for row, col in ((0, 0), (10_240, 5_120), (19_712, 19_712)):
            out.write(np.full((3, 256, 256), 99, np.uint8), window=Window(col, row, 256, 256))
    reads = []
    monkeypatch.setattr(Scene, "_read_stored", lambda *args: reads.append(args[1]) or _read_stored(*args))
    with open_scene(path) as scene:
        origins = sample_origins(scene, 128, 32, np.random.default_rng(0))
        assert len(reads) <= 3 * 4
        assert len(origins) == 32
        assert sum(scene.read(*origin, 128, 128)[1].any() for origin in origins) >= 30
        assert len({row // 5000 for row, _ in origins}) == 3
