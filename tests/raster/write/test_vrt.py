"""Maps side by side as one virtual raster: on which grid, and what lies on top."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.raster.grid import Grid
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.vrt import GridMismatch, common_grid, write_mosaic_vrt

UTM = CRS.from_epsg(32631)


def grid(left: float, top: float, width: int = 10, height: int = 8, px: float = 0.5, crs: CRS | None = UTM) -> Grid:
    return Grid(width, height, Affine(px, 0, left, 0, -px, top), crs)


def common(*grids: Grid) -> Grid | GridMismatch:
    return common_grid({Path(f"{number}.tif"): each for number, each in enumerate(grids)})


def test_the_grid_goes_on_from_the_first_ones_pixels_over_all() -> None:
    first = grid(100, 200)
    assert common(first) == first
    assert common(first, grid(105, 200)) == grid(100, 200, 20, 8)
    assert common(first, grid(100, 196)) == grid(100, 200, 10, 16)
    # Left and above, with a gap between; and one that is inside.
    assert common(first, grid(91, 207, 4, 5), grid(101, 199, 2, 2)) == grid(91, 207, 28, 22)


def test_what_lies_between_pixels_is_rounded_outwards() -> None:
    assert common(grid(100, 200), grid(104.8, 200)) == grid(100, 200, 20, 8)
    assert common(grid(100, 200), grid(99.8, 200.2)) == grid(99.5, 200.5, 11, 9)
    # Rounding of coordinates is not between pixels.
    assert common(grid(100, 200), grid(105.0004, 199.9997)) == grid(100, 200, 20, 8)
    assert common(grid(100, 200), grid(99.9996, 200.0003)) == grid(100, 200)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (grid(100, 200, crs=None), "1.tif has no CRS with a transform"),
        (grid(100, 200, crs=CRS.from_epsg(32632)), "1.tif has another CRS than 0.tif"),
        (grid(100, 200, px=0.25), "1.tif has another pixel size than 0.tif"),
        (grid(100, 200, px=0.5001), "1.tif has another pixel size than 0.tif"),
        (Grid(10, 8, Affine(0.5, 0, 100, 0, -0.51, 200), UTM), "1.tif has another pixel size than 0.tif"),
        (Grid(10, 8, Affine(0.5, 0.1, 100, 0, -0.5, 200), UTM), "1.tif is not north-up"),
        (Grid(10, 8, Affine(0.5, 0, 100, 0.1, -0.5, 200), UTM), "1.tif is not north-up"),
        (Grid(10, 8, Affine(-0.5, 0, 100, 0, -0.5, 200), UTM), "1.tif is not north-up"),
        (Grid(10, 8, Affine(0.5, 0, 100, 0, 0.5, 200), UTM), "1.tif is not north-up"),
        (
            Grid(10, 8, Affine.identity(), UTM, (GroundControlPoint(0, 0, 1, 2), GroundControlPoint(1, 1, 2, 1))),
            "1.tif has no CRS with a transform",
        ),
    ],
)
def test_rasters_that_make_no_mosaic(other: Grid, reason: str) -> None:
    assert common(grid(100, 200), other) == GridMismatch(reason)
    if "than" not in reason:
        assert common(other) == GridMismatch(reason.replace("1.tif", "0.tif"))


def test_no_raster_makes_no_mosaic_and_nearly_equal_pixels_do() -> None:
    assert common() == GridMismatch("there is no map")
    assert common(grid(100, 200), grid(105, 200, px=0.5 + 4e-5)) == grid(100, 200, 20, 8)


def write(path: Path, on: Grid, values: NDArray[np.uint8], layer: Layer) -> None:
    with ResumableRasterWriter.open({path: layer}, on, {}) as work:
        work.put(0, 0, {path: values})
        work.publish()


def test_later_files_lie_on_top_and_show_what_is_below_where_they_hold_no_data(tmp_path: Path) -> None:
    layer = Layer(colormap={1: (10, 20, 30)}, tags={"A": "b"}, band_descriptions=("land cover",))
    first, second = grid(100, 200, 6, 4), grid(102, 199.5, 5, 4)
    below, above = np.full((4, 6), 1, np.uint8), np.full((4, 5), 2, np.uint8)
    above[:2, :] = 255
    write(tmp_path / "below.tif", first, below, layer)
    write(tmp_path / "above.tif", second, above, layer)
    tiles = {tmp_path / "below.tif": first, tmp_path / "above.tif": second}
    whole = common_grid(tiles)
    assert isinstance(whole, Grid)
    write_mosaic_vrt(tmp_path / "mosaic.vrt", layer, whole, tiles)
    expected = np.full((5, 9), 255, np.uint8)
    expected[:4, :6] = 1
    expected[3:5, 4:9] = 2
    (tmp_path / "moved").mkdir()
    for path in tmp_path.glob("*.*"):  # the files are found beside it wherever they lie
        path.rename(tmp_path / "moved" / path.name)
    with rasterio.open(tmp_path / "moved" / "mosaic.vrt") as mosaic:
        np.testing.assert_array_equal(mosaic.read(1), expected)
        assert (mosaic.nodata, mosaic.crs, mosaic.transform) == (255, UTM, whole.transform)
        assert mosaic.colormap(1)[1] == (10, 20, 30, 255)
        assert mosaic.tags()["A"] == "b"
        assert mosaic.descriptions == ("land cover",)


def test_every_band_shows_its_own(tmp_path: Path) -> None:
    layer, on = Layer("uint8", None, bands=2), grid(0, 0, 3, 2)
    values = np.stack([np.full((2, 3), 4, np.uint8), np.full((2, 3), 7, np.uint8)])
    write(tmp_path / "a.tif", on, values, layer)
    write_mosaic_vrt(tmp_path / "mosaic.vrt", layer, on, {tmp_path / "a.tif": on})
    with rasterio.open(tmp_path / "mosaic.vrt") as mosaic:
        np.testing.assert_array_equal(mosaic.read(), values)
        assert mosaic.nodata is None


def test_a_file_between_pixels_is_shifted_by_less_than_half_of_one(tmp_path: Path) -> None:
    layer = Layer()
    first, shifted = grid(0, 0, 2, 2), grid(0.7, 0, 2, 2)  # 1.4 px further right
    write(tmp_path / "a.tif", first, np.ones((2, 2), np.uint8), layer)
    write(tmp_path / "b.tif", shifted, np.full((2, 2), 2, np.uint8), layer)
    tiles = {tmp_path / "a.tif": first, tmp_path / "b.tif": shifted}
    whole = common_grid(tiles)
    assert isinstance(whole, Grid)
    assert whole.shape == (2, 4)
    write_mosaic_vrt(tmp_path / "m.vrt", layer, whole, tiles)
    with rasterio.open(tmp_path / "m.vrt") as mosaic:
        assert mosaic.read(1)[0].tolist() == [1, 2, 2, 255]
