"""Which tiles of a raster and its overviews hold data: the others are neither read nor stored."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geohp.raster.write.layer import Layer
from geohp.raster.write.overviews import TILE_PX, build_overviews, halve

SIDE = 2 * TILE_PX + 100
ALL = {(row, col) for row in range(3) for col in range(3)}


@pytest.mark.parametrize("filled", [{(0, 0)}, {(0, 1)}, {(1, 0)}, {(1, 1), (2, 2)}, {(0, 2), (2, 0)}, ALL, set()])
def test_tiles_with_data_are_known_on_every_level(tmp_path, filled):
    values = np.full((1, SIDE, SIDE), 255, np.uint8)
    for row, col in filled:
        values[0, row * TILE_PX : (row + 1) * TILE_PX, col * TILE_PX : (col + 1) * TILE_PX] = 3 * row + col
    path, layer = tmp_path / "labels.tif", Layer()
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8", "nodata": 255,
               "tiled": True, "transform": from_origin(0, 0, 1, 1), "crs": "EPSG:32633"}  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
    files, full = build_overviews(path, layer, ALL)
    assert full[0] == filled
    assert full[1] == {(row // 2, col // 2) for row, col in filled}
    assert full[2] == ({(0, 0)} if filled else set())
    expected = values
    for file in files:
        expected = halve(expected, layer)
        with rasterio.open(file) as dataset:
            np.testing.assert_array_equal(dataset.read(), expected)
