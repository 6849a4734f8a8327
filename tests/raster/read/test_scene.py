"""Opening and reading scenes of every shape, type and georeference."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from geohp.errors import ConfigError, SceneError
from geohp.inference.segmenter import as_scene
from geohp.raster.read.lazy import LazyScene
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import Scene, open_scene

rng = np.random.default_rng(5)


def write(path: Path, values: NDArray[Any], **options: Any) -> Path:
    count, height, width = values.shape
    profile: dict[str, Any] = {"driver": "GTiff", "count": count, "height": height, "width": width}
    profile |= {"dtype": values.dtype.name, "crs": "EPSG:32631", "transform": Affine(2, 0, 4e5, 0, -2, 5e6)}
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        dataset.write(values)
    return path


def colours(height: int, width: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (3, height, width), dtype=np.uint8)


def test_values_windows_and_attributes(tmp_path: Path) -> None:
    values = colours(37, 53)
    path = write(tmp_path / "a.tif", values)
    with open_scene(path) as scene:
        assert (scene.height, scene.width, scene.bands, scene.path) == (37, 53, (1, 2, 3), str(path))
        assert scene.scaling == Scaling("type", (0.0,) * 3, (255.0,) * 3)
        assert scene.grid.transform == Affine(2, 0, 4e5, 0, -2, 5e6)
        assert scene.grid.crs == CRS.from_epsg(32631)
        data, valid = scene.read(5, 7, 20, 30)
    assert data.dtype == np.float32
    assert valid.dtype == bool
    assert valid.all()
    np.testing.assert_array_equal(data, values[:, 5:25, 7:37] / np.float32(255))


def test_band_order_and_repeats(tmp_path: Path) -> None:
    values = colours(6, 5)
    path = write(tmp_path / "a.tif", values, photometric="RGB")
    for bands, order in (([3, 1], [2, 0]), (["blue", "R", 1], [2, 0, 0]), ([2, 2, 2], [1, 1, 1])):
        with open_scene(path, bands=bands) as scene:
            assert scene.bands == tuple(number + 1 for number in order)
            np.testing.assert_array_equal(scene.read(0, 0, 6, 5)[0], values[order] / np.float32(255))


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_windows_are_cuttings_of_the_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    tall, wide = data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col))
    values = rng.integers(0, 4000, (3, height, width)).astype(np.uint16)
    path = write(tmp_path_factory.mktemp("windows") / "a.tif", values, nodata=0)
    with open_scene(path) as scene:  # percentiles: a tile's own would give it away
        whole, all_valid = scene.read(0, 0, height, width)
        part, valid = scene.read(row, col, tall, wide)
    np.testing.assert_array_equal(part, whole[:, row : row + tall, col : col + wide])
    np.testing.assert_array_equal(valid, all_valid[row : row + tall, col : col + wide])


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
def test_every_real_type(tmp_path: Path, dtype: str) -> None:
    values = np.arange(3 * 64).reshape(3, 8, 8).astype(dtype) % np.array(100, dtype=dtype)
    with open_scene(write(tmp_path / "a.tif", values), scaling="0,100") as scene:
        np.testing.assert_allclose(scene.read(0, 0, 8, 8)[0], values / 100, atol=1e-6)
    with open_scene(tmp_path / "a.tif") as scene:
        data, valid = scene.read(0, 0, 8, 8)
        assert scene.scaling.rule == ("type" if dtype == "uint8" else "percentiles:2,98")
        assert valid.all()
        assert 0 <= data.min() < data.max() <= 1


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_is_refused(tmp_path: Path, dtype: str) -> None:
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=1, height=4, width=4, dtype=dtype):
        pass
    with pytest.raises(SceneError, match=f"a.tif: band 1 holds {dtype}"):
        open_scene(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("window"), [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 7, 2), (5, 0, 2, 2), (0, 4, 1, 2), (0, 0, 0, 1)]
)
def test_windows_outside_are_refused(tmp_path: Path, window: tuple[int, int, int, int]) -> None:
    with (
        open_scene(write(tmp_path / "a.tif", colours(6, 5))) as scene,
        pytest.raises(SceneError, match="outside the scene of 6 x 5 px"),
    ):
        scene.read(*window)


def test_single_pixel(tmp_path: Path) -> None:
    with open_scene(write(tmp_path / "a.tif", np.full((1, 1, 1), 51, np.uint8))) as scene:
        data, valid = scene.read(0, 0, 1, 1)
        np.testing.assert_allclose(data, np.full((3, 1, 1), 0.2), atol=1e-7)
        assert valid.tolist() == [[True]]
        assert scene.thumbnail(100)[0].shape == (3, 1, 1)


def test_rotated_and_without_georeference(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    rotated = Affine.translation(100, 200) * Affine.rotation(30) * Affine.scale(20, -10)
    write(tmp_path / "a.tif", colours(4, 4), transform=rotated, crs=None)
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.grid.transform.almost_equals(rotated)
        assert scene.grid.crs is None
    recwarn.clear()
    with rasterio.open(tmp_path / "b.png", "w", driver="PNG", count=3, height=4, width=4, dtype="uint8") as dataset:
        dataset.write(colours(4, 4))
    recwarn.clear()
    with open_scene(tmp_path / "b.png") as scene:
        assert scene.grid.transform.is_identity
        assert scene.read(0, 0, 4, 4)[0].shape == (3, 4, 4)
    assert not recwarn.list


def test_ground_control_points(tmp_path: Path) -> None:
    points = [GroundControlPoint(0, 0, 5, 50), GroundControlPoint(0, 8, 6, 50), GroundControlPoint(8, 0, 5, 49)]
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=1, height=8, width=8, dtype="uint8", gcps=points, crs="EPSG:4326"
    ) as dataset:
        dataset.write(np.ones((1, 8, 8), np.uint8))
    with open_scene(tmp_path / "a.tif") as scene:
        assert [(point.row, point.col, point.x, point.y) for point in scene.grid.gcps] == [
            (point.row, point.col, point.x, point.y) for point in points
        ]
        assert scene.grid.crs == CRS.from_epsg(4326)


def test_palette_is_read_as_colour(tmp_path: Path) -> None:
    table = {0: (255, 0, 0, 255), 1: (0, 51, 0, 255), 2: (0, 0, 102, 255)}
    index = np.array([[0, 1, 2], [255, 0, 255]], dtype=np.uint8)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=1, height=2, width=3, dtype="uint8", nodata=255
    ) as dataset:
        dataset.write_colormap(1, table)
        dataset.write(index, 1)
    with open_scene(tmp_path / "a.tif") as scene:
        data, valid = scene.read(0, 0, 2, 3)
        assert scene.bands == (1, 1, 1)
        assert scene.thumbnail(2)[0].shape == (3, 1, 2)
    assert valid.tolist() == [[True, True, True], [False, True, False]]
    np.testing.assert_allclose(data[:, 0], [[1, 0, 0], [0, 0.2, 0], [0, 0, 0.4]], atol=1e-7)
    np.testing.assert_allclose(data[:, 1], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    with open_scene(tmp_path / "a.tif", bands=["green"]) as scene:
        np.testing.assert_allclose(scene.read(0, 0, 1, 3)[0], [[[0, 0.2, 0]]], atol=1e-7)
    with open_scene(tmp_path / "a.tif", bands=[1], scaling="0,2") as scene:
        np.testing.assert_allclose(scene.read(0, 0, 1, 3)[0], [[[0, 0.5, 1]]])


def test_transparent_and_missing_palette_entries_are_invalid(tmp_path: Path) -> None:
    index = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    write(tmp_path / "a.tif", index[None])
    entries = "".join(f'<Entry c1="51" c2="0" c3="0" c4="{opacity}"/>' for opacity in (255, 0, 1))
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">'
        f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable><SimpleSource>"
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with open_scene(tmp_path / "a.vrt") as scene:
        data, valid = scene.read(0, 0, 1, 4)
    assert valid.tolist() == [[True, False, True, False]]
    np.testing.assert_allclose(data[0], [[0.2, 0, 0.2, 0]], atol=1e-7)


def test_palette_without_a_table_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">'
        "<ColorInterp>Palette</ColorInterp></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(SceneError, match=r"a.vrt is marked as having a colour table but has none"):
        open_scene(tmp_path / "a.vrt")


def test_thumbnail_averages_valid_pixels_and_keeps_proportions(tmp_path: Path) -> None:
    values = np.zeros((3, 40, 80), dtype=np.uint8)
    values[:, ::2] = 200
    values[:, :, 40:] = 255
    with open_scene(write(tmp_path / "a.tif", values, nodata=255)) as scene:
        data, valid = scene.thumbnail(20)
        assert data.shape == (3, 10, 20)
        np.testing.assert_allclose(data[:, :, :10], 100 / 255, atol=0.003)
        assert valid[:, :10].all()
        assert not valid[:, 10:].any()
        np.testing.assert_array_equal(scene.thumbnail(1000)[0], scene.read(0, 0, 40, 80)[0])


def test_settled_scaling_of_another_scene_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", colours(4, 4).astype(np.uint16))
    scaling = Scaling("percentiles:2,98", (0.0, 1.0, 2.0), (10.0, 11.0, 12.0))
    with open_scene(path, scaling=scaling) as scene:
        assert scene.scaling is scaling
    with pytest.raises(SceneError, match="3 channels was given for 1 bands"):
        open_scene(path, bands=[1], scaling=scaling)
    with pytest.raises(ConfigError, match="minmax"):
        open_scene(path, scaling="minmax")


def ramp(path: Path, size: int = 2600, *, first_valid_row: int) -> Path:
    """Values 1000 to 3000 from left to right, nodata above a row."""
    values = np.zeros((1, size, size), dtype=np.uint16)
    values[:, first_valid_row:] = np.linspace(1000, 3000, size).astype(np.uint16)
    return write(path, values, nodata=0, tiled=True, blockxsize=256, blockysize=256)


@pytest.mark.parametrize(("first_valid_row", "overviews", "reads"), [(650, 0, 256), (650, 4, 1), (2590, 0, 256)])
def test_percentiles_of_a_large_scene_are_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_valid_row: int, overviews: int, reads: int
) -> None:
    path = ramp(tmp_path / "a.tif", first_valid_row=first_valid_row)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([overviews])
    fetched = []
    stored = Scene._stored

    def counted(scene: Scene, window: Any, shape: Any = None, *options: Any) -> Any:
        fetched.append(np.prod(shape or (window.height, window.width)))
        return stored(scene, window, shape, *options)

    monkeypatch.setattr(Scene, "_stored", counted)
    with open_scene(path) as scene:
        assert scene.scaling.low[0] == pytest.approx(1040, abs=30)
        assert scene.scaling.high[0] == pytest.approx(2960, abs=30)
    assert len(fetched) == reads
    assert sum(fetched) <= 1024 * 1024


def test_percentiles_find_the_few_valid_pixels_that_samples_miss(tmp_path: Path) -> None:
    values = np.zeros((1, 2600, 2600), dtype=np.uint16)
    values[0, 100:140, 100:140] = 500  # between the patches of the sample
    values[0, 100:140, 140:150] = 700
    with open_scene(write(tmp_path / "a.tif", values, nodata=0)) as scene:
        assert (scene.scaling.low[0], scene.scaling.high[0]) == (500, 700)


def test_constant_and_all_invalid_scenes(tmp_path: Path) -> None:
    for value in (0, 7):
        path = write(tmp_path / "a.tif", np.full((3, 9, 9), value, np.uint16), nodata=0)
        with open_scene(path) as scene:
            data, valid = scene.read(0, 0, 9, 9)
            assert valid.all() == valid.any() == (value == 7)
            assert not data.any()
            assert np.isfinite(scene.thumbnail(3)[0]).all()


def test_threads_read_what_one_thread_reads(tmp_path: Path) -> None:
    values = colours(256, 256)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    windows = [(row, col, 50, 50) for row in range(0, 200, 25) for col in range(0, 200, 25)]
    with open_scene(path) as scene, ThreadPoolExecutor(8) as pool:
        for (row, col, tall, wide), (data, _) in zip(windows, pool.map(lambda w: scene.read(*w), windows), strict=True):
            np.testing.assert_array_equal(data, values[:, row : row + tall, col : col + wide] / np.float32(255))


def test_threads_take_turns(tmp_path: Path) -> None:
    class Guarded:
        """Fails where a second thread enters while a first one is inside, as GDAL may."""

        def __init__(self, dataset: Any):
            self.dataset, self.busy = dataset, threading.Semaphore(1)

        def read(self, *args: Any, **options: Any) -> Any:
            assert self.busy.acquire(blocking=False), "two threads inside"
            time.sleep(0.002)
            self.busy.release()
            return self.dataset.read(*args, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.dataset, name)

    with open_scene(write(tmp_path / "a.tif", colours(16, 16))) as scene, ThreadPoolExecutor(4) as pool:
        scene._dataset = Guarded(scene._dataset)
        assert all(valid.all() for _, valid in pool.map(lambda row: scene.read(row, 0, 1, 16), range(16)))


def test_closed_scene_says_so(tmp_path: Path) -> None:
    with open_scene(write(tmp_path / "a.tif", colours(4, 4))) as scene:
        pass
    scene.close()
    with pytest.raises(SceneError, match="has been closed"):
        scene.read(0, 0, 1, 1)


def test_missing_folder_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"nowhere.tif does not exist"):
        open_scene(tmp_path / "nowhere.tif")
    with pytest.raises(SceneError, match="is a folder, not a raster"):
        open_scene(tmp_path)
    (tmp_path / "notes.txt").write_text("no raster")
    with pytest.raises(SceneError, match=r"notes.txt is not a raster GDAL can read"):
        open_scene(tmp_path / "notes.txt")
    with pytest.raises(SceneError, match=r"a.tif cannot be opened .*check the address"):
        open_scene("/vsizip/nowhere.zip/a.tif")


def test_containers_name_their_rasters(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    for number, name in enumerate(("north", "south")):
        with rasterio.open(
            path, "w", driver="GPKG", count=3, height=8, width=8, dtype="uint8", crs="EPSG:32631", raster_table=name,
            append_subdataset="YES" if number else "NO", transform=Affine(2, 0, 4e5, 0, -2, 5e6),
        ) as dataset:  # fmt: skip
            dataset.write(colours(8, 8))
    with pytest.raises(SceneError, match=r"two.gpkg is a container.*:north, .*:south"):
        open_scene(path)
    with open_scene(f"GPKG:{path}:south", bands=[1]) as scene:
        assert scene.read(0, 0, 8, 8)[0].shape == (1, 8, 8)


def test_virtual_paths_are_passed_through(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", colours(4, 4))
    with open_scene(f"/vsisubfile/0_{path.stat().st_size},{path}") as scene:
        assert scene.height == 4


def cut_short(tmp_path: Path) -> Path:
    path = write(tmp_path / "cut.tif", colours(256, 256), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with path.open("r+b") as file:  # the directory stands in front, so the file still opens
        file.truncate(path.stat().st_size // 2)
    return path


def test_damaged_file_names_file_and_window_from_any_thread(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    messages = []
    with open_scene(cut_short(tmp_path)) as scene:

        def read() -> None:
            with pytest.raises(
                SceneError, match=r"cut.tif cannot be read at row 200, column 190 \(56 x 60 px\)"
            ) as info:
                scene.read(200, 190, 56, 60)
            messages.append(str(info.value))

        assert scene.read(0, 0, 64, 64)[1].all()
        read()
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(messages) == 2
    assert "export it again" in messages[0]
    assert capfd.readouterr() == ("", "")


def test_damaged_file_whose_range_is_to_be_measured_fails_when_opened(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"cut.tif cannot be read"):
        open_scene(cut_short(tmp_path), scaling="percentiles")


def test_jpeg_cut_short_is_no_grey_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write(path, np.repeat(np.repeat(colours(40, 40), 8, 1), 8, 2), driver="JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_scene(path) as scene, pytest.raises(SceneError, match=r"a.jpg cannot be read"):
        scene.read(0, 0, scene.height, scene.width)


def located(values: NDArray[Any], dims: tuple[str, ...], **options: Any) -> xr.DataArray:
    sizes = dict(zip(dims, values.shape, strict=True))
    coords = {"x": 4e5 + 1 + 2 * np.arange(sizes["x"]), "y": 5e6 - 1 - 2 * np.arange(sizes["y"])}
    return xr.DataArray(values, dims=dims, coords=coords, **options).rio.write_crs("EPSG:32631")


@pytest.mark.parametrize("dims", [("band", "y", "x"), ("y", "x", "band")])
def test_dataarray_of_bands(dims: tuple[str, ...]) -> None:
    values = rng.integers(0, 256, (4, 6, 9), dtype=np.uint8)
    array = located(values, ("band", "y", "x"), attrs={"long_name": ("nir", "red", "green", "blue")}, name="tile")
    with Scene.from_dataarray(array.transpose(*dims)) as scene:
        assert scene.bands == (2, 3, 4)
        assert scene.grid.transform == Affine(2, 0, 4e5, 0, -2, 5e6)
        assert scene.grid.crs == CRS.from_epsg(32631)
        data, valid = scene.read(1, 2, 4, 5)
    assert valid.all()
    np.testing.assert_array_equal(data, values[1:, 1:5, 2:7] / np.float32(255))
    named = located(values, ("band", "y", "x")).assign_coords(band=["a", "b", "c", "d"])
    with Scene.from_dataarray(named, bands=["c"]) as scene:
        assert scene.bands == (3,)


def test_dataarray_of_one_band_with_nan_time_and_nodata() -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(1, 6, 8)
    values[0, 2, 3] = np.nan
    with Scene.from_dataarray(located(values, ("time", "y", "x"))[0], scaling="0,1") as scene:
        data, valid = scene.read(0, 0, 6, 8)
    assert np.argwhere(~valid).tolist() == [[2, 3]]
    np.testing.assert_allclose(data, np.repeat(np.nan_to_num(values), 3, axis=0))
    flags = located(np.eye(4, dtype=bool), ("y", "x"))
    with Scene.from_dataarray(flags, scaling="0,1") as scene:
        np.testing.assert_array_equal(scene.read(0, 0, 4, 4)[0][0], np.eye(4))
    marked = located(np.eye(4, dtype=np.uint8), ("y", "x")).rio.write_nodata(1)
    with Scene.from_dataarray(marked) as scene:
        np.testing.assert_array_equal(scene.read(0, 0, 4, 4)[1], ~np.eye(4, dtype=bool))


def test_arrays_that_tell_their_alpha_band_are_masked_like_its_file(tmp_path: Path) -> None:
    values = rng.integers(0, 256, (4, 40, 50), dtype=np.uint8)
    values[3] = 255
    values[3, :12] = 0
    path = write(tmp_path / "rgba.tif", values, photometric="RGB", alpha="YES")
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    named = located(values, ("band", "y", "x"), attrs={"long_name": ("red", "green", "blue", "Alpha")})
    by_coordinate = located(values, ("band", "y", "x")).assign_coords(band=["red", "green", "blue", "alpha"])
    with open_scene(path) as scene:
        data, valid = scene.read(2, 5, 30, 40)
        seen = scene.sample()
    assert valid.sum() == 20 * 40
    for like in (array, array.isel(band=[3, 0, 1, 2]), named, by_coordinate):
        for scene in (Scene.from_dataarray(like), LazyScene(like.chunk({"y": 13, "x": 20}))):
            with scene:
                got, holds = scene.read(2, 5, 30, 40)
                np.testing.assert_array_equal(scene.sample(), seen)
            np.testing.assert_array_equal(holds, valid)
            np.testing.assert_array_equal(got, data)
            if isinstance(scene, LazyScene):
                planes = scene.planes[:, 2:32, 5:45].compute()
                np.testing.assert_array_equal(scene.read_transform.read(planes)[1], valid)
    quantities = named.astype("float32")  # an angle may be called so, too
    path.unlink()
    for unknown in (array, quantities, located(values, ("band", "y", "x"))):
        with Scene.from_dataarray(unknown) as scene:
            assert scene.read(0, 0, 40, 50)[1].all()


BLUE_FIRST = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)


@pytest.mark.parametrize(("dtype", "bits"), [("uint16", 12), ("uint8", 4)])
def test_arrays_have_the_bits_of_their_file(tmp_path: Path, dtype: str, bits: int) -> None:
    values = rng.integers(1, 2**bits, (3, 30, 40)).astype(dtype)
    path = tmp_path / "few.tif"
    with rasterio.open(path, "w", driver="GTiff", width=40, height=30, count=3, dtype=dtype, nbits=bits) as dataset:
        dataset.write(values)
    rule = "type" if dtype == "uint16" else "auto"
    with open_scene(path, scaling=rule) as scene:
        assert scene.scaling.high == (2**bits - 1,) * 3
    array, bands = (rioxarray.open_rasterio(path, band_as_variable=several) for several in (False, True))
    for like in (array, rioxarray.open_rasterio(path, masked=True), array.chunk({"y": 16}), bands):
        with as_scene(like, scaling=rule) as scene:
            assert scene.scaling.high == (2**bits - 1,) * 3
    array.values[0, 0, 0] = 2**bits  # more than the file could hold
    for like in (array, array.chunk({"y": 16})):
        with as_scene(like, scaling=rule) as scene:
            assert scene.scaling.high == (np.iinfo(dtype).max,) * 3


def test_each_band_of_an_array_has_bits_of_its_own_in_any_order(tmp_path: Path) -> None:
    write(tmp_path / "both.tif", rng.integers(1, 2**10, (2, 30, 40)).astype(np.uint16))
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}"><Metadata domain="IMAGE_STRUCTURE"><MDI key="NBITS">{bits}'
        '</MDI></Metadata><SimpleSource><SourceFilename relativeToVRT="1">both.tif</SourceFilename>'
        f"<SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, bits in ((1, 12), (2, 10))
    )
    path = tmp_path / "both.vrt"
    path.write_text(f'<VRTDataset rasterXSize="40" rasterYSize="30">{bands}</VRTDataset>')
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    for chosen, highest in (([1, 2], (4095, 1023)), ([2, 1], (1023, 4095)), ([2], (1023,))):
        with Scene.from_dataarray(array.sel(band=chosen), bands=[*range(1, len(chosen) + 1)], scaling="type") as scene:
            assert scene.scaling.high == highest


@pytest.mark.parametrize("named", [False, True])
def test_arrays_have_the_colours_of_their_file(tmp_path: Path, named: bool) -> None:
    values = rng.integers(0, 4000, (4, 30, 40)).astype(np.uint16)
    path = write(tmp_path / "bgrn.tif", values)
    with rasterio.open(path, "r+") as dataset:
        if named:
            dataset.descriptions = ("blue", "green", "red", "nir")
        else:
            dataset.colorinterp = BLUE_FIRST
    with open_scene(path) as scene:
        assert scene.bands == (3, 2, 1)
        data, _ = scene.read(0, 0, 30, 40)
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    bands = rioxarray.open_rasterio(path, band_as_variable=True)
    for like in (array, rioxarray.open_rasterio(path, masked=True), array.drop_vars("band"), bands):
        with as_scene(like) as scene:
            np.testing.assert_allclose(scene.read(0, 0, 30, 40)[0], data)
    with as_scene(array.chunk({"y": 16})) as scene:
        np.testing.assert_allclose(scene.read(0, 0, 30, 40)[0], data)
    # Bands that somebody has chosen are meant in that order, unless they have names.
    chosen = array.sel(band=[4, 3, 2, 1])
    with as_scene(chosen, scaling="0,1") as scene:
        assert scene.bands == ((2, 3, 4) if named else (1, 2, 3))
    with as_scene(chosen.assign_attrs(long_name=("red", "x", "green", "blue"))) as scene:
        assert scene.bands == (1, 3, 4)


def test_arrays_of_numbers_of_a_colour_table_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", rng.integers(0, 9, (1, 30, 40), dtype=np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {number: (9 * number, 90, 200) for number in range(256)})
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    for like in (
        array,
        array[0],
        array[0].drop_vars("band"),
        array.chunk(),
        rioxarray.open_rasterio(path, masked=True),
    ):
        with pytest.raises(SceneError, match=r"colour table but .*give the path"), as_scene(like):
            pass
        with as_scene(like, bands=[1]) as scene:
            assert scene.stored_types[0].dtype == np.uint8


def test_dataarrays_that_are_no_rasters() -> None:
    array = xr.DataArray(np.zeros((2, 3, 4, 5)), dims=("time", "band", "y", "x"), name="cube")
    with pytest.raises(SceneError, match=r"array cube has dimensions"):
        Scene.from_dataarray(array)
    with pytest.raises(SceneError, match="pixel grid"):
        Scene.from_dataarray(xr.DataArray(np.zeros((3, 4)), dims=("a", "b")))
    with pytest.raises(SceneError, match="complex"):
        Scene.from_dataarray(xr.DataArray(np.zeros((3, 4), complex), dims=("y", "x")))
    with pytest.raises(SceneError, match=r"no xarray.DataArray"):
        Scene.from_dataarray(xr.Dataset({"a": array}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("proj:epsg", 32633), ("proj:code", "EPSG:32633"), ("epsg", 32633)])
def test_arrays_of_stac_items_lie_where_their_coordinate_says(name, value) -> None:
    """As stackstac makes them, of which a mean over time has lost the attributes."""
    dates = xr.DataArray(
        np.random.default_rng(0).random((2, 3, 8, 9)).astype(np.float32),
        dims=("time", "band", "y", "x"),
        coords={"y": 100 - np.arange(8), "x": 500 + np.arange(9), name: np.array(value, object)},
        attrs={"crs": "epsg:32633", "spec": object()},
    )
    for array in (dates.isel(time=[0]), dates.mean("time", keep_attrs=False)):
        with Scene.from_dataarray(array) as scene:
            assert scene.grid.crs == CRS.from_epsg(32633)
    unknown = dates.assign_coords({name: np.array(None, object)}).mean("time", keep_attrs=False)
    with Scene.from_dataarray(unknown) as scene:
        assert scene.grid.crs is None


@pytest.mark.parametrize("chunks", [None, {"x": 7}])
@pytest.mark.parametrize(
    ("dtype", "values", "rule"),
    [
        (np.uint8, lambda image: image, "type"),
        (np.uint8, lambda image: image.isel(x=slice(3, 20)), "type"),
        (np.uint8, lambda image: image / 255, "percentiles:2,98"),
        (np.uint8, lambda image: image.copy(data=image.data / 255), "percentiles:2,98"),
        (np.uint8, lambda image: image.copy(data=image.data * 100), "percentiles:2,98"),
        (np.uint16, lambda image: image, "percentiles:2,98"),
    ],
)
def test_floats_are_scaled_as_the_integers_that_they_were_read_from(dtype, values, rule, chunks, write_scene) -> None:
    path = write_scene(np.random.default_rng(0).integers(0, 200, (3, 30, 40)).astype(dtype), nodata=0)
    image = values(rioxarray.open_rasterio(path, masked=True, chunks=chunks))
    with LazyScene(image) if chunks else Scene.from_dataarray(image) as scene:
        assert scene.scaling.rule == rule
        if rule == "type":
            assert scene.scaling.high == (255,) * 3
            with Scene.from_dataarray(image, scaling="type") as asked:
                assert asked.scaling == scene.scaling


@pytest.mark.parametrize(
    ("scale", "offset", "rule"), [(1, 0, "type"), (0.5, 0, "percentiles:2,98"), (1, 3, "percentiles:2,98")]
)
def test_what_was_scaled_as_it_was_read_is_not_what_was_stored(scale, offset, rule, write_scene) -> None:
    path = write_scene(np.random.default_rng(0).integers(0, 200, (3, 30, 40)).astype(np.uint8), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (scale,) * 3, (offset,) * 3
    with Scene.from_dataarray(rioxarray.open_rasterio(path, mask_and_scale=True)) as scene:
        assert scene.scaling.rule == rule


_MIXED = [0, 1, 5, 3, 4, 2, 6, 7, 8]


@pytest.mark.parametrize(
    "unlike",
    [
        {"x": _MIXED},  # the ends are where they should be
        {"x": [0, 1, 2, 3, 6, 7, 8]},
        {"y": [0, 1, 1, 2, 4, 5]},
        {"y": [3, 3, 3]},
    ],
    ids=["mixed up", "left out", "repeated", "all one"],
)
def test_rows_and_columns_that_are_no_grid_are_refused(unlike: dict[str, list[int]]) -> None:
    array = located(np.zeros((3, 6, 9), np.uint8), ("band", "y", "x")).rio.write_transform()
    with pytest.raises(SceneError, match=rf"coordinates along '{next(iter(unlike))}' that are not evenly spaced"):
        Scene.from_dataarray(array.isel(unlike))


@pytest.mark.parametrize(
    "coordinate", [np.arange(9).astype("datetime64[D]"), list("abcdefghi"), [0, 1, 2, 3, np.nan, 5, 6, 7, 8]]
)
def test_coordinates_that_are_no_numbers_are_refused(coordinate: Any) -> None:
    array = located(np.zeros((6, 9), np.uint8), ("y", "x")).assign_coords(x=coordinate)
    with pytest.raises(SceneError, match="evenly spaced"):
        Scene.from_dataarray(array)


def test_coordinates_may_be_rounded() -> None:
    """Metres in the millions in single precision, every second of which is the same half."""
    array = located(np.zeros((600, 9), np.uint8), ("y", "x"))
    array = array.assign_coords(y=array.y.astype(np.float32), x=np.linspace(7, 7.0008, 9, dtype=np.float32))
    with Scene.from_dataarray(array) as scene:
        assert scene.grid.transform.e == pytest.approx(-2, rel=1e-3)


def test_a_single_row_says_how_large_it_is_or_is_refused() -> None:
    array = located(np.zeros((6, 9), np.uint8), ("y", "x"))
    with pytest.raises(SceneError, match="single row or column"):
        Scene.from_dataarray(array[:1])
    with Scene.from_dataarray(array.rio.write_transform()[2:3]) as scene:
        assert scene.grid.transform == Affine(2, 0, 4e5, 0, -2, 5e6 - 4)


@pytest.mark.parametrize("part", [(slice(20, 50), slice(10, 40)), (slice(None, None, 2), slice(None, None, -1))])
def test_a_part_of_a_rotated_array_lies_where_it_does(tmp_path: Path, part: tuple[slice, slice]) -> None:
    rotated = Affine.translation(4e5, 5e6) * Affine.rotation(30) * Affine.scale(2, -2)
    write(tmp_path / "a.tif", colours(60, 60), transform=rotated)
    array = rioxarray.open_rasterio(tmp_path / "a.tif")[:, *part]
    with Scene.from_dataarray(array) as scene:
        first = scene.grid.transform * (0.5, 0.5)
        last = scene.grid.transform * (scene.width - 0.5, scene.height - 0.5)
    assert first == pytest.approx((array.xc.values[0, 0], array.yc.values[0, 0]))
    assert last == pytest.approx((array.xc.values[-1, -1], array.yc.values[-1, -1]))
    with pytest.raises(SceneError, match="evenly spaced"):
        Scene.from_dataarray(array.isel(x=_MIXED))


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("uint8", 255), ("uint16", 65535), ("int16", -32768), ("int16", 32767)]
)
def test_a_nodata_value_may_be_the_least_or_the_largest_of_its_type(dtype: str, nodata: int) -> None:
    values = np.full((6, 9), 7, dtype)
    values[2, 3] = nodata
    with Scene.from_dataarray(located(values, ("y", "x")).rio.write_nodata(nodata)) as scene:
        assert np.argwhere(~scene.read(0, 0, 6, 9)[1]).tolist() == [[2, 3]]


@pytest.mark.parametrize("nodata", [np.nan, -9999])
def test_a_nodata_value_that_an_array_cannot_hold_is_none(nodata: float) -> None:
    array = located(np.zeros((6, 9), np.uint8), ("y", "x")).assign_attrs(_FillValue=nodata, long_name=3)
    with Scene.from_dataarray(array) as scene:
        assert scene.read(0, 0, 6, 9)[1].all()
    with pytest.raises(SceneError, match="nodata value that is no number"):
        Scene.from_dataarray(array.assign_attrs(_FillValue=[0]))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_what_cannot_be_decoded_never_passes_for_sound(write_scene, interleave, compress):
    """GDAL hands out a block that it failed to decode as if it were sound when it is asked again."""
    data = np.random.default_rng(0).integers(1, 255, (3, 256, 256), dtype=np.uint8)
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_scene(data, interleave=interleave, compress=compress, **tiles)
    with rasterio.open(path) as dataset:
        offset, size = (int(dataset.get_tag_item(f"BLOCK_{what}_1_2", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    with open_scene(path) as scene:
        for _ in range(3):
            with pytest.raises(SceneError, match="cannot be read"):
                scene.read(100, 0, 100, 256)
            sound, valid = scene.read(0, 128, 128, 128)
            assert valid.all()
            np.testing.assert_array_equal(np.rint(sound * 255), data[:, :128, 128:])
