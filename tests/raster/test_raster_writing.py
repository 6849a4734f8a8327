"""Outputs that appear whole or not at all, and keep everything they were given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from rio_cogeo import cog_validate

from geohp.errors import OutputError
from geohp.raster import Grid, RasterWriter, open_scene
from geohp.raster.writing import _check_complete

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM = CRS.from_epsg(32631)
NORTH_UP = Affine(0.5, 0, 4e5, 0, -0.5, 5e6)
COLOURS = {0: (200, 30, 30), 1: (40, 160, 60), 2: (60, 110, 200), 3: (230, 220, 170)}


def labels(height: int, width: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 4, (height // 16 + 1, width // 16 + 1), dtype=np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)[:height, :width]


def write_in_strips(path: Path, grid: Grid, values: NDArray[Any], rows: int = 200, **options: Any) -> None:
    with RasterWriter(path, grid, **options) as writer:
        for row in range(0, grid.height, rows):
            writer.write(row, 0, values[row : row + rows])


def assert_only(folder: Path, *names: str) -> None:
    assert sorted(one.name for one in folder.iterdir()) == sorted(names)


def test_labels_keep_pixels_and_all_their_metadata(tmp_path: Path) -> None:
    values = labels(1100, 1300)
    path = tmp_path / "labels.tif"
    write_in_strips(
        path, Grid(1300, 1100, NORTH_UP, UTM), values, colormap=COLOURS, band_description="land cover",
        tags={"GEOHP_VERSION": "1.2", "MODEL": "ü"}, band_tags={"classes": '["roof", "tree"]'},
    )  # fmt: skip
    assert_only(tmp_path, "labels.tif")
    valid, errors, warnings = cog_validate(path)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert (dataset.transform, dataset.crs, dataset.nodata) == (NORTH_UP, UTM, 255)
        assert dataset.descriptions == ("land cover",)
        assert dataset.tags()["GEOHP_VERSION"] == "1.2"
        assert dataset.tags()["MODEL"] == "ü"
        assert dataset.tags(1)["classes"] == '["roof", "tree"]'
        assert {value: dataset.colormap(1)[value][:3] for value in COLOURS} == COLOURS
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1)
        assert dataset.compression.name == "deflate"
    with rasterio.open(path, overview_level=0) as dataset:  # classes, never their mean
        assert set(np.unique(dataset.read(1))) <= {0, 1, 2, 3}


def test_confidence_has_scale_nodata_and_averaged_overviews(tmp_path: Path) -> None:
    values = np.tile(np.array([[10, 20], [30, 40]], dtype=np.uint8), (400, 400))
    values[:400] = 255
    path = tmp_path / "confidence.tif"
    write_in_strips(path, Grid(800, 800, NORTH_UP, UTM), values, scale=1 / 254, overviews="average")
    assert cog_validate(path)[0]
    with rasterio.open(path) as dataset:
        assert dataset.scales == (1 / 254,)
        assert dataset.nodata == 255
        np.testing.assert_array_equal(dataset.read(1), values)
    with rasterio.open(path, overview_level=0) as dataset:
        overview = dataset.read(1)
    assert (overview[:200] == 255).all()
    assert (overview[200:] == 25).all()


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
    write_in_strips(tmp_path / "a.tif", grid, labels(20, 30))
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.grid == grid
    assert_only(tmp_path, "a.tif")


@pytest.mark.parametrize("crs", [CRS.from_epsg(4326), None])
def test_ground_control_points_survive_the_conversion(tmp_path: Path, crs: CRS | None) -> None:
    points = tuple(
        GroundControlPoint(row, col, 5 + col / 99, 50 - row / 99, 7.5) for row in (0, 700) for col in (0, 600)
    )
    grid = Grid(600, 700, Affine.identity(), crs, points)
    write_in_strips(tmp_path / "a.tif", grid, labels(700, 600))
    assert cog_validate(tmp_path / "a.tif")[0]
    with open_scene(tmp_path / "a.tif") as scene:
        assert scene.grid.crs == crs
        assert [(p.row, p.col, p.x, p.y, p.z) for p in scene.grid.gcps] == [
            (p.row, p.col, p.x, p.y, p.z) for p in points
        ]
    assert_only(tmp_path, "a.tif")


@given(st.data())
@settings(deadline=None, max_examples=15)
def test_any_blocks_in_any_order_and_nodata_between(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(1, 700)), data.draw(st.integers(1, 700))
    expected = np.full((height, width), 255, dtype=np.uint8)
    path = tmp_path_factory.mktemp("blocks") / "a.tif"
    with RasterWriter(path, Grid(width, height, NORTH_UP, UTM)) as writer:
        for value in range(data.draw(st.integers(0, 6))):
            row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
            tall, wide = data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col))
            writer.write(row, col, np.full((tall, wide), value, dtype=np.uint8))
            expected[row : row + tall, col : col + wide] = value
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 65535), ("float32", np.nan), ("int16", None)])
def test_other_types(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    values = np.arange(600 * 600).reshape(600, 600).astype(dtype)
    grid = Grid(600, 600, NORTH_UP, UTM)
    write_in_strips(tmp_path / "a.tif", grid, values, dtype=dtype, nodata=nodata, overviews="average")
    assert cog_validate(tmp_path / "a.tif")[0]
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.nodata == nodata or (np.isnan(dataset.nodata) and np.isnan(nodata))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    grid = Grid(1200, 900, NORTH_UP, UTM)
    for name, rows in (("a.tif", 200), ("b.tif", 512), ("c.tif", 512)):
        write_in_strips(tmp_path / name, grid, labels(900, 1200), rows, colormap=COLOURS, tags={"A": "b"})
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "c.tif").read_bytes() == (tmp_path / "a.tif").read_bytes()


def test_replacing_takes_the_side_files_of_the_replaced_away(tmp_path: Path) -> None:
    for name in ("a.tif", "a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "b.tif.msk"):
        (tmp_path / name).write_text("old")
    write_in_strips(tmp_path / "a.tif", Grid(30, 20, NORTH_UP, UTM), labels(20, 30))
    assert_only(tmp_path, "a.tif", "b.tif.msk")


@pytest.mark.parametrize("error", [RuntimeError("model"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_leaves_nothing_new(tmp_path: Path, error: BaseException) -> None:
    grid = Grid(600, 600, NORTH_UP, UTM)
    (tmp_path / "old.tif").write_text("old")
    for name in ("old.tif", "new.tif"):
        with pytest.raises(type(error)), RasterWriter(tmp_path / name, grid) as writer:  # noqa: PT012
            writer.write(0, 0, labels(300, 600))
            assert len(list(tmp_path.iterdir())) == 2
            raise error
    assert_only(tmp_path, "old.tif")
    assert (tmp_path / "old.tif").read_text() == "old"


@pytest.mark.parametrize(
    "error", [RasterioIOError("No space left on device"), OSError(28, "No space left"), KeyboardInterrupt()]
)
def test_a_failing_conversion_leaves_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(source: Path, target: Path, **options: Any) -> None:
        target.write_text("half a file")
        Path(f"{target}.ovr.tmp").write_text("overviews")
        raise error

    monkeypatch.setattr(rasterio.shutil, "copy", fail)
    (tmp_path / "a.tif").write_text("old")
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError
    with pytest.raises(expected) as info:
        write_in_strips(tmp_path / "a.tif", Grid(600, 600, NORTH_UP, UTM), labels(600, 600))
    if expected is OutputError:
        assert "a.tif could not be written" in str(info.value)
        assert "No space left" in str(info.value)
    assert_only(tmp_path, "a.tif")
    assert (tmp_path / "a.tif").read_text() == "old"


FULL_DISK = """
import os, resource, signal, sys
import numpy as np
from affine import Affine
from geohp.errors import OutputError
from geohp.raster import Grid, RasterWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing further then fails as on a full disk
values = np.random.default_rng(0).integers(0, 250, (1100, 1100), dtype=np.uint8)
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with RasterWriter(sys.argv[1], Grid(1100, 1100, Affine.identity())) as writer:
            for row in range(0, 1100, 100):
                writer.write(row, 0, values[row : row + 100])
        print("written")
    except OutputError as error:
        print("refused" if "could not be written" in str(error) else error)
    print(sorted(os.listdir(os.path.dirname(sys.argv[1]))), open(sys.argv[1], "rb").read(3))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the file size by a POSIX call")
def test_a_full_disk_at_any_point_is_noticed(tmp_path: Path) -> None:
    grid = Grid(1100, 1100, Affine.identity())
    values = np.random.default_rng(0).integers(0, 250, (1100, 1100), dtype=np.uint8)
    write_in_strips(tmp_path / "a.tif", grid, values, 100)
    whole = (tmp_path / "a.tif").stat().st_size
    (tmp_path / "a.tif").write_text("old")
    # Full from the first byte, amid the blocks, at their end, and at each stage of the conversion.
    limits = [10, 1000, *range(100_000, whole, 150_000), whole - 400_000, whole - 20_000, whole - 100, whole - 1]
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.tif"), *map(str, limits)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.splitlines() == ["refused", "['a.tif'] b'old'"] * len(limits)


def test_incomplete_files_are_told_from_complete_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_in_strips(path, Grid(1200, 1200, NORTH_UP, UTM), labels(1200, 1200))
    _check_complete(path, [])
    with pytest.raises(OSError, match="no space"):
        _check_complete(path, ["no space", "and more"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])  # the full resolution's last block stands at the end of a COG
    with pytest.raises(OSError, match="row 2, column 2 was not stored"):
        _check_complete(path, [])
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "height": 1200, "width": 1200, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, tiled=True, blockxsize=512, blockysize=512, sparse_ok=True) as dataset:
        dataset.write(labels(1200, 600), 1, window=Window(0, 0, 600, 1200))
    with pytest.raises(OSError, match="row 0, column 2 was not stored"):
        _check_complete(path, [])


def test_nothing_is_converted_from_incomplete_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterio.shutil, "copy", lambda *_, **__: pytest.fail("converted"))

    class CutShort:
        closed = True

        def __init__(self, dataset: Any):
            self.dataset = dataset

        def close(self) -> None:
            self.dataset.close()
            (blocks,) = tmp_path.glob(".*/blocks.tif")
            with blocks.open("r+b") as file:
                file.truncate(blocks.stat().st_size // 2)

    writer = RasterWriter(tmp_path / "a.tif", Grid(1200, 1200, NORTH_UP, UTM))
    writer.__enter__()
    writer.write(0, 0, labels(1200, 1200))
    writer._dataset = CutShort(writer._dataset)
    with pytest.raises(OutputError, match="could not be written"):
        writer.__exit__(None, None, None)
    assert_only(tmp_path)


def test_targets_that_cannot_be_are_refused_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(30, 20, NORTH_UP, UTM)
    with pytest.raises(OutputError, match="is a folder"):
        RasterWriter(tmp_path, grid)
    with pytest.raises(OutputError, match=r"folder .*nowhere does not exist"):
        RasterWriter(tmp_path / "nowhere" / "a.tif", grid)
    with pytest.raises(OutputError, match="cannot be written to"), RasterWriter("/proc/a.tif", grid):
        pass
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match="cannot be written to"):
        RasterWriter(tmp_path / "a.tif", grid)
    assert_only(tmp_path)


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="does not fit"),
        RasterWriter(tmp_path / "a.tif", Grid(9, 9, NORTH_UP)) as writer,
    ):
        writer.write(5, 5, np.zeros((5, 4), np.uint8))
    with (
        pytest.raises(ValueError, match="cannot be stored"),
        RasterWriter(tmp_path / "a.tif", Grid(9, 9, NORTH_UP)) as w,
    ):
        w.write(0, 0, np.zeros((5, 4), np.int64))
    with pytest.raises(ValueError, match="inside the writer's with"):
        RasterWriter(tmp_path / "a.tif", Grid(9, 9, NORTH_UP)).write(0, 0, np.zeros((1, 1), np.uint8))
    with pytest.raises(ValueError, match="overviews"):
        RasterWriter(tmp_path / "a.tif", Grid(9, 9, NORTH_UP), overviews="cubic")
    assert_only(tmp_path)
