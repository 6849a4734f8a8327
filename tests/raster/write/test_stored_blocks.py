"""Finished blocks as files: whole, or not there, and told apart from damaged ones."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

from geohp.errors import OutputError
from geohp.raster.write import stored_blocks
from geohp.raster.write.layer import Layer
from geohp.raster.write.stored_blocks import StoredBlock, block_path, checksum_matches, has_full_size, write_block

VALUES = np.arange(200 * 150, dtype=np.uint16).reshape(200, 150)
LAYER = Layer("uint16", 0)


def test_a_block_is_a_small_tiled_file_named_after_its_place(tmp_path: Path) -> None:
    stored = write_block(tmp_path, 3, LAYER, 40, 7, VALUES)
    path = tmp_path / "3-40-7.tif"
    assert block_path(tmp_path, 3, 40, 7) == path
    content = path.read_bytes()
    assert stored == StoredBlock(3, 200, 150, len(content), zlib.crc32(content))
    assert len(content) < VALUES.nbytes
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), VALUES)
        assert dataset.block_shapes == [(128, 128)]
        assert dataset.profile["compress"] == "deflate"
    two = write_block(tmp_path, 0, Layer("uint16", 0, bands=2), 0, 0, np.stack([VALUES, VALUES[::-1]]))
    assert two is not None
    with rasterio.open(tmp_path / "0-0-0.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(2), VALUES[::-1])
        assert dataset.interleaving == rasterio.enums.Interleaving.band


def test_a_block_without_data_is_no_file_and_takes_an_earlier_one_away(tmp_path: Path) -> None:
    blank = np.zeros((3, 3), np.uint16)
    assert write_block(tmp_path, 0, LAYER, 0, 0, blank) is None
    assert list(tmp_path.iterdir()) == []
    write_block(tmp_path, 0, LAYER, 0, 0, VALUES)
    assert write_block(tmp_path, 0, LAYER, 0, 0, blank) is None
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told_by_size_and_checksum(tmp_path: Path) -> None:
    stored = write_block(tmp_path, 0, LAYER, 5, 6, VALUES)
    assert stored is not None
    assert (has_full_size(tmp_path, 5, 6, stored), checksum_matches(tmp_path, 5, 6, stored)) == (True, True)
    assert (has_full_size(tmp_path, 6, 5, stored), checksum_matches(tmp_path, 6, 5, stored)) == (False, False)
    path = tmp_path / "0-5-6.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert (has_full_size(tmp_path, 5, 6, stored), checksum_matches(tmp_path, 5, 6, stored)) == (True, False)
    path.write_bytes(content[:-1])
    assert (has_full_size(tmp_path, 5, 6, stored), checksum_matches(tmp_path, 5, 6, stored)) == (False, False)
    path.unlink()
    assert (has_full_size(tmp_path, 5, 6, stored), checksum_matches(tmp_path, 5, 6, stored)) == (False, False)


def test_what_gdal_or_the_disk_says_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"0-1-2\.tif"):
        write_block(tmp_path / "nowhere", 0, LAYER, 1, 2, VALUES)

    def fails(values: object) -> bytes:
        raise RasterioIOError("no memory")

    monkeypatch.setattr(stored_blocks, "_encode", fails)
    with pytest.raises(OutputError, match=r"0-1-2\.tif.*no memory"):
        write_block(tmp_path, 0, LAYER, 1, 2, VALUES)
    assert list(tmp_path.iterdir()) == []
