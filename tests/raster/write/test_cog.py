"""What finished blocks become: a cloud-optimised GeoTIFF that keeps everything it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from rio_cogeo import cog_validate

from geohp.raster.block import Block
from geohp.raster.grid import Grid
from geohp.raster.read.scene import open_scene
from geohp.raster.write.assemble import PlacedBlock
from geohp.raster.write.cog import _tiles, check_complete
from geohp.raster.write.layer import Layer
from geohp.raster.write.overviews import halve
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.stored_blocks import StoredBlock

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM = CRS.from_epsg(32631)
NORTH_UP = Affine(0.5, 0, 4e5, 0, -0.5, 5e6)
COLOURS = {0: (200, 30, 30), 1: (40, 160, 60), 2: (60, 110, 200), 3: (230, 220, 170)}


def labels(height: int, width: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 4, (height // 16 + 1, width // 16 + 1), dtype=np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)[:height, :width]


def write(path: Path, grid: Grid, values: NDArray[Any], rows: int = 200, **options: Any) -> None:
    """Write (rows, cols) or (bands, rows, cols) in strips."""
    with ResumableRasterWriter.open({path: Layer(**options)}, grid, {}) as work:
        for row in range(0, grid.height, rows):
            work.put(row, 0, {path: values[..., row : row + rows, :]})
        work.publish()


def assert_only(folder: Path, *names: str) -> None:
    assert sorted(one.name for one in folder.iterdir()) == sorted(names)


def test_labels_keep_pixels_and_all_their_metadata(tmp_path: Path) -> None:
    values = labels(1100, 1300)
    path = tmp_path / "labels.tif"
    classes = '[{"name": "dächer & <Wege>",\n "id": 0}]'
    write(
        path, Grid(1300, 1100, NORTH_UP, UTM), values, colormap=COLOURS, band_descriptions=("land cover",),
        tags={"GEOHP_VERSION": "1.2", "MODEL": "ü"}, band_tags={"classes": classes},
    )  # fmt: skip
    assert_only(tmp_path, "labels.tif")
    assert cog_validate(path) == (True, [], [])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert (dataset.transform, dataset.crs, dataset.nodata) == (NORTH_UP, UTM, 255)
        assert dataset.descriptions == ("land cover",)
        assert dataset.tags()["GEOHP_VERSION"] == "1.2"
        assert dataset.tags()["MODEL"] == "ü"
        assert dataset.tags(1)["classes"] == classes
        assert {value: dataset.colormap(1)[value][:3] for value in COLOURS} == COLOURS
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1) == [2, 4]
        assert dataset.compression.name == "deflate"
    with rasterio.open(path, overview_level=0) as dataset:  # classes, never their mean
        np.testing.assert_array_equal(dataset.read(1), values[::2, ::2])
        assert {value: dataset.colormap(1)[value][:3] for value in COLOURS} == COLOURS


def test_confidence_has_scale_nodata_and_averaged_overviews(tmp_path: Path) -> None:
    values = np.tile(np.array([[10, 20], [30, 40]], dtype=np.uint8), (400, 400))
    values[:400] = 255
    path = tmp_path / "confidence.tif"
    write(path, Grid(800, 800, NORTH_UP, UTM), values, scale=1 / 254, overviews="average")
    assert cog_validate(path)[0]
    with rasterio.open(path) as dataset:
        assert dataset.scales == (1 / 254,)
        assert dataset.nodata == 255
        np.testing.assert_array_equal(dataset.read(1), values)
    with rasterio.open(path, overview_level=0) as dataset:
        overview = dataset.read(1)
    assert (overview[:200] == 255).all()
    assert (overview[200:] == 25).all()


@pytest.mark.parametrize(("bands", "dtype"), [(3, "uint8"), (6, "float32"), (2, "uint16")])
def test_several_bands_with_their_names(tmp_path: Path, bands: int, dtype: str) -> None:
    values = np.random.default_rng(2).integers(0, 200, (bands, 900, 700)).astype(dtype)
    values[1] = 255  # a band without any data does not make the others nodata
    names = tuple(f"class {number}" for number in range(bands))
    path = tmp_path / "probabilities.tif"
    grid = Grid(700, 900, NORTH_UP, UTM)
    write(path, grid, values, dtype=dtype, bands=bands, band_descriptions=names, scale=0.5, overviews="average")
    assert cog_validate(path) == (True, [], [])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.descriptions == names
        assert dataset.scales == (0.5,) * bands
        assert dataset.nodatavals == (255,) * bands
        assert ColorInterp.red not in dataset.colorinterp
    with rasterio.open(path, overview_level=0) as dataset:
        expected = values[0].reshape(450, 2, 350, 2).mean((1, 3))
        np.testing.assert_allclose(dataset.read(1), expected, atol=0 if dtype == "float32" else 0.5)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine.identity(), None),
        (Affine(1, 0, 0, 0, -1, 0), None),
        (Affine(1, 0, 0, 0, -1, 0), UTM),
        (Affine(2, 0, 7, 0, 2, 9), None),
        (NORTH_UP, CRS.from_epsg(4326)),
        (Affine.translation(100, 200) * Affine.rotation(30) * Affine.scale(20, -10), UTM),
        (Affine(0.1, 0, 13467532.123456789, 0, -0.0999755859375, 1632019.875), CRS.from_epsg(3395)),
    ],
)
def test_georeference_is_kept_exactly(tmp_path: Path, transform: Affine, crs: CRS | None) -> None:
    grid = Grid(30, 20, transform, crs)
    write(tmp_path / "a.tif", grid, labels(20, 30))
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.grid == grid
    assert_only(tmp_path, "a.tif")


@pytest.mark.parametrize("crs", [CRS.from_epsg(4326), None])
def test_ground_control_points_survive_the_conversion(tmp_path: Path, crs: CRS | None) -> None:
    points = tuple(
        GroundControlPoint(row, col, 5 + col / 99, 50 - row / 99, 7.5) for row in (0, 700) for col in (0, 600)
    )
    grid = Grid(600, 700, Affine.identity(), crs, points)
    write(tmp_path / "a.tif", grid, labels(700, 600))
    assert cog_validate(tmp_path / "a.tif")[0]
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.grid.crs == crs
        assert [(p.row, p.col, p.x, p.y, p.z) for p in scene.grid.gcps] == [
            (p.row, p.col, p.x, p.y, p.z) for p in points
        ]
    assert_only(tmp_path, "a.tif")


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 65535), ("float32", np.nan), ("int16", None)])
def test_other_types(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    values = np.arange(600 * 600).reshape(600, 600).astype(dtype)
    grid = Grid(600, 1200, NORTH_UP, UTM)  # the lower half is never written
    with ResumableRasterWriter.open({tmp_path / "a.tif": Layer(dtype, nodata, overviews="average")}, grid, {}) as work:
        work.put(0, 0, {tmp_path / "a.tif": values})
        work.publish()
    assert cog_validate(tmp_path / "a.tif")[0]
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1)[:600], values)
        np.testing.assert_array_equal(dataset.read(1)[600:], 0 if nodata is None else nodata)
        assert dataset.nodata == nodata or (np.isnan(dataset.nodata) and np.isnan(nodata))


def halves(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + 2, length)) for start in range(0, length, 2)]


def halve_slowly(values: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """Pixel by pixel, from the definition."""
    rows, cols = halves(values.shape[0]), halves(values.shape[1])
    result = np.full((len(rows), len(cols)), layer.fill, values.dtype)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(cols):
            four = [v for v in values[top:bottom, left:right].ravel().tolist() if v != layer.nodata and v == v]
            if not four:
                continue
            mean = sum(four) / len(four)
            if layer.overviews == "mode":
                result[i, j] = max(four, key=four.count)  # the first of equals
            else:
                result[i, j] = mean if layer.dtype == "float32" else np.floor(mean + 0.5)
    return result


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_overviews_say_what_most_or_all_of_four_pixels_say(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["uint8", "int16", "float32"]))
    nodata = data.draw(st.sampled_from([None, 3, np.nan] if dtype == "float32" else [None, 3]))
    layer = Layer(dtype, nodata, overviews=data.draw(st.sampled_from(["mode", "average"])))
    shape = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 5, shape).astype(dtype)
    if nodata is not None and np.isnan(nodata):
        values[values == 3] = np.nan
    expected = halve_slowly(values, layer)
    np.testing.assert_array_equal(halve(values[None], layer)[0], expected)
    nearest = Layer(dtype, nodata, overviews="nearest")
    np.testing.assert_array_equal(halve(values[None], nearest)[0], values[::2, ::2])


@given(st.data())
@settings(deadline=None, max_examples=15)
def test_any_layout_of_blocks_in_any_order_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("layouts")
    height, width = data.draw(st.integers(1, 1300)), data.draw(st.integers(1, 1300))
    grid = Grid(width, height, NORTH_UP, UTM)
    values = labels(height, width).copy()
    top, left = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    values[top:, left:] = 255
    written = []
    for name in ("a.tif", "b.tif"):
        rows, cols = data.draw(st.integers(150, 1400)), data.draw(st.integers(150, 1400))
        blocks = [(row, col) for row in range(0, height, rows) for col in range(0, width, cols)]
        with ResumableRasterWriter.open({folder / name: Layer()}, grid, {}) as work:
            for row, col in data.draw(st.permutations(blocks)):
                work.put(row, col, {folder / name: values[row : row + rows, col : col + cols]})
            work.publish()
        written.append((folder / name).read_bytes())
    assert written[0] == written[1]
    with rasterio.open(folder / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)


def test_tiles_without_data_cost_nothing_and_read_as_nodata(tmp_path: Path) -> None:
    grid = Grid(60_000, 50_000, NORTH_UP, UTM)
    path = tmp_path / "a.tif"
    with ResumableRasterWriter.open({path: Layer()}, grid, {}) as work:
        work.put(20_480, 30_720, {path: labels(1024, 1024)})
        work.put(0, 0, {path: np.full((1024, 1024), 255, np.uint8)})
        work.put(0, 1024, {path: None})
        work.publish()
    assert path.stat().st_size < 1e6
    assert cog_validate(path) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4, 8, 16, 32, 64, 128]
        np.testing.assert_array_equal(dataset.read(1, window=Window(30_720, 20_480, 1024, 1024)), labels(1024, 1024))
        assert (dataset.read(1, window=Window(30_720, 21_504, 600, 600)) == 255).all()
        assert not dataset.read_masks(1, window=Window(0, 0, 600, 600)).any()
    with rasterio.open(path, overview_level=6) as dataset:  # a single block is still to be seen from afar
        assert (dataset.read(1) != 255).sum() == 64


def test_a_raster_without_any_data_can_be_written(tmp_path: Path) -> None:
    for side in (30, 1500):
        with ResumableRasterWriter.open(
            {tmp_path / "a.tif": Layer(colormap=COLOURS)}, Grid(side, side, NORTH_UP, UTM), {}
        ) as work:
            work.publish()
        assert cog_validate(tmp_path / "a.tif")[0]
        with rasterio.open(tmp_path / "a.tif") as dataset:
            assert (dataset.read(1) == 255).all()


def test_incomplete_files_are_told_from_complete_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, Grid(1200, 1200, NORTH_UP, UTM), labels(1200, 1200))
    full, half, quarter = ({(row, col) for row in range(n) for col in range(n)} for n in (3, 2, 1))
    check_complete(path, [], [full, half, quarter])
    with pytest.raises(OSError, match="no space"):
        check_complete(path, ["no space", "and more"], [full, half, quarter])
    with pytest.raises(OSError, match="2 overviews were stored instead of 1"):
        check_complete(path, [], [full, half])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])  # the full resolution's last block stands at the end of a COG
    with pytest.raises(OSError, match="row 2, column 2 was not stored"):
        check_complete(path, [], [full, half, quarter])
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "height": 1200, "width": 1200, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, tiled=True, blockxsize=512, blockysize=512, sparse_ok=True) as dataset:
        dataset.write(labels(1200, 600), 1, window=Window(0, 0, 600, 1200))
    with pytest.raises(OSError, match="row 0, column 2 was not stored"):
        check_complete(path, [], [full])
    check_complete(path, [], [{(0, 0), (2, 1)}])


def test_layers_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"overviews": "cubic"},
        {"dtype": "complex64"},
        {"nodata": np.nan},
        {"dtype": "int16", "nodata": 40_000},
        {"band_descriptions": ("a", "b")},
        {"bands": 0},
        {"bands": 2, "colormap": COLOURS},
        {"dtype": "float32", "colormap": COLOURS},
    ):
        with pytest.raises(ValueError, match=r"must be one of|do not fit|colour table|cannot be stored"):
            Layer(**wrong)  # type: ignore[arg-type]


LARGE = """
import sys
import numpy as np
from affine import Affine
from geohp.raster.grid import Grid
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
path, side, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
block = np.random.default_rng(0).integers(0, 6, (32, 32), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
rows = side // 1024
with ResumableRasterWriter.open({path: Layer(overviews="average")}, Grid(side, side, Affine.identity()), {}) as work:
    for number in np.linspace(0, rows * rows - 1, count).astype(int).tolist():
        work.put(number // rows * 1024, number % rows * 1024, {path: block})
    work.publish()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("side", "count"), [(100_000, 5), (72_704, 5000)])
def test_memory_grows_neither_with_the_grid_nor_with_the_parts(
    tmp_path: Path, side: int, count: int, peak_memory: Any
) -> None:
    _, most = peak_memory(LARGE, tmp_path / "a.tif", side, count)
    assert most < 512  # the 5000 blocks are 5 GB


@pytest.mark.parametrize(
    ("block", "tiles"),
    [
        (Block(0, 0, 512, 512), {(0, 0)}),
        (Block(0, 0, 1, 1), {(0, 0)}),
        (Block(511, 0, 2, 513), {(0, 0), (0, 1), (1, 0), (1, 1)}),
        (Block(512, 1024, 512, 1), {(1, 2)}),
        (Block(1023, 511, 1, 1), {(1, 0)}),
    ],
)
def test_tiles_that_a_block_touches(block: Block, tiles: set[tuple[int, int]]) -> None:
    stored = StoredBlock(0, *block.shape, 0, 0)
    assert _tiles([PlacedBlock(block, stored)]) == tiles
    assert _tiles([]) == set()
    assert _tiles([PlacedBlock(block, stored), PlacedBlock(Block(0, 0, 3, 3), stored)]) == tiles | {(0, 0)}
