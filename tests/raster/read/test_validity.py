"""Validity of a scene's pixels: each kind alone, and all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from geohp.raster.block import Block
from geohp.raster.read.scene import open_scene
from geohp.raster.read.validity import ValidityPlan

SIZE = 8
TRANSFORM = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def write(path: Path, values: NDArray[Any], colours: str = "", **options: Any) -> Path:
    """A GeoTIFF of ``values`` (bands, rows, columns); colours as letters: r, g, b, a, n, or - for undefined."""
    letters = {"r": "red", "g": "green", "b": "blue", "a": "alpha", "-": "undefined", "y": "gray"}
    count, height, width = values.shape
    profile: dict[str, Any] = {"driver": "GTiff", "count": count, "height": height, "width": width}
    profile |= {"dtype": values.dtype.name, "crs": "EPSG:32631", "transform": TRANSFORM, "photometric": "MINISBLACK"}
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        if colours:
            dataset.colorinterp = [ColorInterp[letters[letter]] for letter in colours]
        dataset.write(values)
    return path


def write_mask(path: Path, mask: NDArray[np.bool_], *, inside: bool) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert Path(f"{path}.msk").exists() is not inside


def bytes_of(bands: int) -> NDArray[np.uint8]:
    return np.full((bands, SIZE, SIZE), 100, dtype=np.uint8)


def invalid_pixels(path: Path, **options: Any) -> set[tuple[int, int]]:
    """Invalid pixels as read whole, after checking that they are 0 and that windows agree."""
    with open_scene(path, **options) as scene:
        data, valid = scene.read(0, 0, scene.height, scene.width)
        parts = [scene.read(row, col, 4, 4) for row in (0, 4) for col in (0, 4)]
    assert not data[:, ~valid].any()
    assert np.isfinite(data).all()
    tiled = np.block([[parts[0][1], parts[1][1]], [parts[2][1], parts[3][1]]])
    np.testing.assert_array_equal(tiled, valid)
    return {(int(row), int(col)) for row, col in np.argwhere(~valid)}


def test_nothing_declared_is_all_valid(tmp_path: Path) -> None:
    values = bytes_of(3)
    values[:, 0, 0], values[:, 1, 1] = 0, 255
    assert invalid_pixels(write(tmp_path / "a.tif", values)) == set()


@pytest.mark.parametrize("nodata", [0, 255])
def test_unsigned_nodata_needs_all_bands(tmp_path: Path, nodata: int) -> None:
    values = bytes_of(3)
    values[:, 2, 3] = nodata
    values[1, 5, 5] = nodata
    path = write(tmp_path / "a.tif", values, nodata=nodata)
    assert invalid_pixels(path) == {(2, 3)}
    assert invalid_pixels(path, bands=[2]) == {(2, 3), (5, 5)}
    assert invalid_pixels(path, bands=[1, 1, 1]) == {(2, 3)}


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_signed_nodata_needs_one_band(tmp_path: Path, dtype: str) -> None:
    values = np.full((3, SIZE, SIZE), 100, dtype=dtype)
    values[:, 2, 3] = -9999
    values[1, 5, 5] = -9999
    path = write(tmp_path / "a.tif", values, nodata=-9999)
    assert invalid_pixels(path, scaling="0,200") == {(2, 3), (5, 5)}
    assert invalid_pixels(path, scaling="0,200", bands=[1, 3]) == {(2, 3)}


def test_float_nodata_is_compared_as_stored(tmp_path: Path) -> None:
    values = np.full((1, SIZE, SIZE), 0.5, dtype=np.float32)
    values[0, 1, 1] = 0.1
    values[0, 2, 2] = np.finfo(np.float32).min
    for nodata, pixel in ((0.1, (1, 1)), (-3.4028234663852886e38, (2, 2))):
        assert invalid_pixels(write(tmp_path / "a.tif", values, nodata=nodata), scaling="0,1") == {pixel}


def test_nan_and_infinity_are_invalid_declared_or_not(tmp_path: Path) -> None:
    values = np.full((3, SIZE, SIZE), 0.5, dtype=np.float32)
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = np.nan, np.inf, -np.inf
    for nodata in (None, np.nan, 7.0):
        path = write(tmp_path / "a.tif", values, nodata=nodata)
        assert invalid_pixels(path) == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("colours", "alpha"), [("rgba", 3), ("abgr", 0), ("ya", 1), ("r-ba", 3)])
def test_alpha_0_is_invalid_and_partly_transparent_is_valid(
    tmp_path: Path, dtype: str, colours: str, alpha: int
) -> None:
    values = np.full((len(colours), SIZE, SIZE), 100, dtype=dtype)
    values[alpha] = 255
    values[alpha, 3, 4], values[alpha, 6, 6] = 0, 1
    path = write(tmp_path / "a.tif", values, colours)
    assert invalid_pixels(path, scaling="type") == {(3, 4)}
    assert invalid_pixels(path, scaling="type", bands=[1 + (alpha == 0)]) == {(3, 4)}
    assert invalid_pixels(path, scaling="type", bands=["alpha"]) == {(3, 4)}


def test_fourth_band_that_is_no_alpha_is_no_mask(tmp_path: Path) -> None:
    values = bytes_of(4)
    values[3] = 0
    assert invalid_pixels(write(tmp_path / "a.tif", values, "rgb-")) == set()


@pytest.mark.parametrize("inside", [True, False])
def test_mask_inside_or_beside_the_file(tmp_path: Path, inside: bool) -> None:
    mask = np.ones((SIZE, SIZE), dtype=bool)
    mask[4, 2] = False
    path = write(tmp_path / "a.tif", bytes_of(3))
    write_mask(path, mask, inside=inside)
    assert invalid_pixels(path) == {(4, 2)}


@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_what_is_read_reduced_is_valid_where_it_is_opaque(tmp_path: Path, kind: str) -> None:
    opaque = np.zeros((SIZE, SIZE), bool)
    opaque[:, SIZE // 2 :] = True
    if kind == "alpha":
        path = write(tmp_path / "a.tif", np.stack([*bytes_of(3), opaque * np.uint8(255)]), "rgba")
    else:
        write_mask(path := write(tmp_path / "a.tif", bytes_of(3)), opaque, inside=True)
    with rasterio.open(path) as dataset:
        plan = ValidityPlan.of(dataset, [1, 2, 3])
        planes = dataset.read([1, 2, 3], out_shape=(3, 4, 4))
        valid = plan.of_block(dataset, Block(0, 0, SIZE, SIZE), planes)
    np.testing.assert_array_equal(valid, opaque[::2, ::2])


def test_all_kinds_together(tmp_path: Path) -> None:
    values = bytes_of(4)
    values[3] = 255
    values[:3, 0, 0] = 7  # nodata
    values[3, 1, 1] = 0  # alpha
    path = write(tmp_path / "a.tif", values, "rgba", nodata=7)
    beside, inside = np.ones((2, SIZE, SIZE), dtype=bool)
    inside[2, 2] = False
    beside[3, 3] = False
    other = write(tmp_path / "other.tif", bytes_of(3))
    write_mask(other, beside, inside=False)
    write_mask(path, inside, inside=True)
    Path(f"{other}.msk").rename(f"{path}.msk")
    assert invalid_pixels(path) == {(0, 0), (1, 1), (2, 2), (3, 3)}


@pytest.mark.parametrize("inside", [True, False])
def test_mask_does_not_hide_nodata(tmp_path: Path, inside: bool) -> None:
    values = bytes_of(3)
    values[:, 0, 0] = 0
    path = write(tmp_path / "a.tif", values, nodata=0)
    mask = np.ones((SIZE, SIZE), dtype=bool)
    mask[5, 5] = False
    write_mask(path, mask, inside=inside)
    assert invalid_pixels(path) == {(0, 0), (5, 5)}


def test_bands_of_different_nodata_and_type_in_a_vrt(tmp_path: Path) -> None:
    colour = bytes_of(1)
    colour[0, 0, 0], colour[0, 1, 1] = 9, 8
    height = np.full((1, SIZE, SIZE), 0.5, dtype=np.float32)
    height[0, 2, 2] = -1
    write(tmp_path / "colour.tif", colour)
    write(tmp_path / "height.tif", height)
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for number, (kind, nodata, name) in enumerate(
            [("Byte", 9, "colour"), ("Float32", -1, "height"), ("Byte", 8, "colour")], start=1
        )
    )
    path = tmp_path / "both.vrt"
    path.write_text(f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}">{bands}</VRTDataset>')
    assert invalid_pixels(path, bands=[1, 2], scaling="0,255;0,1") == {(0, 0), (2, 2)}
    assert invalid_pixels(path, bands=[3]) == {(1, 1)}
    assert invalid_pixels(path, bands=[1, 3]) == set()  # no pixel holds both 9 and 8


def test_nodata_that_the_type_cannot_hold_is_no_nodata(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.zeros((1, SIZE, SIZE), dtype=np.uint8))
    path = tmp_path / "a.vrt"
    for nodata in ("-9999", "256", "0.5", "nan"):
        path.write_text(
            f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}"><VRTRasterBand dataType="Byte" band="1">'
            f"<NoDataValue>{nodata}</NoDataValue><SimpleSource>"
            '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>'
            "</SimpleSource></VRTRasterBand></VRTDataset>"
        )
        assert invalid_pixels(path) == set()


def test_a_scene_without_masks_does_not_read_any(tmp_path: Path) -> None:
    class Counting:
        def __init__(self, dataset: Any):
            self.dataset, self.masks = dataset, 0

        def read_masks(self, *args: Any, **options: Any) -> Any:
            self.masks += 1
            return self.dataset.read_masks(*args, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.dataset, name)

    values = np.full((4, SIZE, SIZE), 100, dtype=np.uint8)
    plain = write(tmp_path / "a.tif", values, "rgba", nodata=0)
    masked = write(tmp_path / "b.tif", values, "rgba")
    write_mask(masked, np.ones((SIZE, SIZE), dtype=bool), inside=True)
    for path, expected in ((plain, 0), (masked, 1)):
        with open_scene(path) as scene:
            scene._dataset = counting = Counting(scene._dataset)
            scene.read(0, 0, SIZE, SIZE)
        assert counting.masks == expected
