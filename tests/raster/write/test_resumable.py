"""Unfinished outputs: what is done stays done whatever happens, and what appears is whole."""

from __future__ import annotations

import errno
import gc
import json
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError

from geohp.errors import OutputError
from geohp.files.unfinished import is_half_published, work_folder
from geohp.raster.grid import Grid
from geohp.raster.write import resumable
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.stored_blocks import StoredBlock, block_path, write_block

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

GRID = Grid(700, 600, Affine(0.5, 0, 4e5, 0, -0.5, 5e6))
BLOCK = 300
IDENTITY = {"input": "scene.tif", "model": {"sha256": "ab" * 32}, "window_px": 448}
LABELS = Layer(colormap={0: (1, 2, 3)}, tags={"A": "b"})
SHARES = Layer("float32", np.nan, bands=2, overviews="average")
ORIGINS = [(row, col) for row in range(0, 600, BLOCK) for col in range(0, 700, BLOCK)]


def values_of(row: int, col: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The block at an origin: labels with some nodata, and two shares a pixel."""
    height, width = min(BLOCK, 600 - row), min(BLOCK, 700 - col)
    labels = np.random.default_rng(row + col).integers(0, 4, (height, width), dtype=np.uint8)
    labels[: row // 10] = 255
    shares = np.full((2, height, width), row + col / 7, np.float32)
    shares[:, labels == 255] = np.nan
    return labels, shares


def outputs(folder: Path) -> dict[Path, Layer]:
    return {folder / "labels.tif": LABELS, folder / "shares.tif": SHARES}


def open_work(folder: Path, identity: Mapping[str, Any] = IDENTITY, *, restart: bool = False) -> ResumableRasterWriter:
    return ResumableRasterWriter.open(outputs(folder), GRID, identity, restart=restart)


def put(work: ResumableRasterWriter, *origins: tuple[int, int]) -> None:
    for row, col in origins:
        work.put(row, col, dict(zip(work.outputs, values_of(row, col), strict=True)), {"at": [row, col]})


def finish(folder: Path, **options: Any) -> list[tuple[int, int]]:
    """Do what is not yet done and publish; gives what had to be done."""
    with open_work(folder, **options) as work:
        todo = [origin for origin in ORIGINS if origin not in work.finished]
        put(work, *todo)
        work.publish()
    return todo


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in outputs(folder)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kept(folder: Path) -> Path:
    return work_folder(folder / "labels.tif")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Both outputs of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    assert names(folder) == ["labels.tif", "shares.tif"]
    return contents(folder)


def test_both_rasters_hold_what_was_put(whole: list[bytes], tmp_path: Path) -> None:
    for number, content in enumerate(whole):
        (tmp_path / "a.tif").write_bytes(content)
        with rasterio.open(tmp_path / "a.tif") as dataset:
            for row, col in ORIGINS:
                expected = values_of(row, col)[number]
                rows, cols = expected.shape[-2:]
                stored = dataset.read()[:, row : row + rows, col : col + cols]
                np.testing.assert_array_equal(stored.squeeze(), expected)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, whole: list[bytes]) -> None:
    (tmp_path / "labels.tif").write_text("old")
    with pytest.raises(KeyboardInterrupt), open_work(tmp_path) as work:  # noqa: PT012
        put(work, ORIGINS[4], ORIGINS[1])
        raise KeyboardInterrupt
    assert names(tmp_path) == [".labels.tif.geohp", "labels.tif"]
    assert (tmp_path / "labels.tif").read_text() == "old"
    assert work.resume_note == f"2 finished block(s) are kept in {kept(tmp_path)}; the same command goes on from there"
    with open_work(tmp_path) as work:  # leaving without an exception keeps them just as well
        assert work.finished == {ORIGINS[4], ORIGINS[1]}
        assert work.notes == [{"at": list(ORIGINS[1])}, {"at": list(ORIGINS[4])}]
        put(work, ORIGINS[0], ORIGINS[4])  # doing a block again does no harm
    todo = finish(tmp_path)
    assert todo == [ORIGINS[2], ORIGINS[3], ORIGINS[5]]
    assert contents(tmp_path) == whole
    assert names(tmp_path) == ["labels.tif", "shares.tif"]


def test_stopped_after_the_outputs_are_there_what_is_made_of_them_can_be_gone_on_with(
    tmp_path: Path, whole: list[bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped, open_work(tmp_path) as work:  # noqa: PT012
        put(work, *ORIGINS)
        work.publish()
        assert work.resume_note is None
        raise KeyboardInterrupt
    note = f"6 finished block(s) are kept in {kept(tmp_path)}; the same command goes on from there"
    assert stopped.value.__notes__ == [note]
    assert contents(tmp_path) == whole
    assert names(tmp_path) == [".labels.tif.geohp", "labels.tif", "shares.tif"]
    assert finish(tmp_path) == []
    assert contents(tmp_path) == whole
    assert names(tmp_path) == ["labels.tif", "shares.tif"]


@pytest.mark.parametrize("error", [RuntimeError("model"), KeyboardInterrupt(), SystemExit(3), None])
def test_nothing_is_left_where_nothing_was_finished(tmp_path: Path, error: BaseException | None) -> None:
    (tmp_path / "labels.tif").write_text("old")
    with pytest.raises(type(error)) if error else nullcontext(), open_work(tmp_path) as work:
        assert work.folder.is_dir()
        if error:
            raise error
    assert work.resume_note is None
    assert names(tmp_path) == ["labels.tif"]
    assert (tmp_path / "labels.tif").read_text() == "old"


def test_blocks_without_data_need_no_part_but_are_finished(tmp_path: Path) -> None:
    with open_work(tmp_path) as work:
        put(work, (0, 0))
        work.put(0, 0, {tmp_path / "labels.tif": np.full((300, 300), 255, np.uint8)})  # data no longer
        work.put(0, 300, dict.fromkeys(work.outputs))
        work.put(0, 600, {}, {"skipped": "unreadable"})
        assert not list(work.folder.glob("0-*.tif"))
    with open_work(tmp_path) as work:
        assert work.finished == {(0, 0), (0, 300), (0, 600)}
        assert work.notes == [{"skipped": "unreadable"}]
        work.publish()
        assert work.resume_note is None
    for path in outputs(tmp_path):
        with rasterio.open(path) as dataset:
            assert not dataset.dataset_mask().any()


def test_blocks_from_many_threads(tmp_path: Path, whole: list[bytes]) -> None:
    with open_work(tmp_path) as work:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda origin: put(work, origin), ORIGINS))
        work.publish()
    assert contents(tmp_path) == whole


def test_parts_that_another_process_wrote(tmp_path: Path, whole: list[bytes]) -> None:
    def write_elsewhere(*task: Any) -> StoredBlock | None:
        """As a worker gets its task and gives its answer."""
        part: StoredBlock | None = pickle.loads(pickle.dumps(write_block(*pickle.loads(pickle.dumps(task)))))
        return part

    with open_work(tmp_path) as work:
        for row, col in ORIGINS:
            written = [
                write_elsewhere(work.folder, number, layer, row, col, values)
                for number, (layer, values) in enumerate(zip(work.outputs.values(), values_of(row, col), strict=True))
            ]
            work.record(row, col, [part for part in written if part])
        blank = np.full((300, 300), np.nan, np.float32)
        assert write_block(work.folder, 1, SHARES, 0, 0, np.stack([blank] * 2)) is None
        assert write_block(work.folder, 1, SHARES, 0, 0, values_of(0, 0)[1]) is not None
        with pytest.raises(OutputError, match=r"not in .*one and the same for all workers"):
            work.record(0, 0, [StoredBlock(7, 300, 300, 1234, 5)])

        with pytest.raises(OutputError, match=r"nowhere.* could not be written"):
            write_block(tmp_path / "nowhere", 0, LABELS, 0, 0, values_of(0, 0)[0])
        work.publish()
    assert contents(tmp_path) == whole


@pytest.mark.filterwarnings("error")
def test_parts_are_written_without_a_word(tmp_path: Path) -> None:
    assert write_block(tmp_path, 0, LABELS, 0, 0, np.zeros((40, 40), np.uint8)) is not None


@pytest.mark.parametrize(
    ("identity", "grid", "layer", "message"),
    [
        ({**IDENTITY, "input": "b.tif"}, GRID, LABELS, r'another input \("scene.tif" there, "b.tif" now\)'),
        ({**IDENTITY, "model": {"sha256": "cd" * 32}}, GRID, LABELS, r'another model.sha256 \("abab.*\.\.\..*cdcd'),
        ({**IDENTITY, "window_px": 224}, GRID, LABELS, r"another window_px \(448 there, 224 now\)"),
        ({**IDENTITY, "tta": True}, GRID, LABELS, r"another tta \(none there, true now\)"),
        ({"input": "scene.tif", "window_px": 448}, GRID, LABELS, r"another model.sha256 \(.* there, none now\)"),
        (IDENTITY, Grid(700, 600, Affine.identity()), LABELS, r"another grid.transform"),
        (IDENTITY, GRID, Layer(overviews="nearest"), r"another outputs.labels.tif.colormap"),
    ],
)
def test_other_work_is_not_mixed_with_what_is_there(
    tmp_path: Path, whole: list[bytes], identity: dict[str, Any], grid: Grid, layer: Layer, message: str
) -> None:
    with open_work(tmp_path) as work:
        put(work, *ORIGINS)
    others = {**outputs(tmp_path), tmp_path / "labels.tif": layer}
    with pytest.raises(OutputError, match=message + ".*begin anew with restart=True, or choose another name"):
        ResumableRasterWriter.open(others, grid, identity)
    with open_work(tmp_path) as work:  # which changed nothing
        assert work.finished == set(ORIGINS)
    with ResumableRasterWriter.open(others, grid, identity, restart=True) as work:
        assert not work.finished
        assert names(work.folder) == ["identity.json", "journal.jsonl", "lock"]
    assert finish(tmp_path) == ORIGINS
    assert contents(tmp_path) == whole


def test_an_abandoned_folder_without_blocks_is_in_nobodys_way(tmp_path: Path) -> None:
    for content in (b"", b"{}", b"no json", json.dumps({"format": 1}).encode()):
        kept(tmp_path).mkdir()
        (kept(tmp_path) / "identity.json").write_bytes(content)
        (kept(tmp_path) / "0-0-0.tif.x.tmp").write_text("half a part")
        finish(tmp_path)
        assert names(tmp_path) == ["labels.tif", "shares.tif"]


@pytest.mark.parametrize("blocks", [0, 1])
def test_no_file_of_what_is_refused_or_cleared_away_stays_open(tmp_path: Path, blocks: int) -> None:
    """Elsewhere than on Linux, files that are open cannot be removed."""
    with open_work(tmp_path) as work:
        put(work, *ORIGINS[:blocks])
        if not blocks:
            shutil.copytree(work.folder, tmp_path / "left")
    if not blocks:
        (tmp_path / "left").rename(kept(tmp_path))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(OutputError, match="unfinished work") if blocks else nullcontext():
            open_work(tmp_path, {"another": "identity"}).close()
        gc.collect()
    assert [str(warning.message) for warning in said if warning.category is ResourceWarning] == []


def test_folders_that_cannot_be_understood_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with open_work(tmp_path) as work:
        put(work, (0, 0))
    (kept(tmp_path) / "identity.json").write_text("{")
    with pytest.raises(OutputError, match="no legible description; begin anew with restart=True"):
        open_work(tmp_path)
    (kept(tmp_path) / "identity.json").unlink()
    (kept(tmp_path) / "identity.json").mkdir()
    with pytest.raises(OutputError, match=r"cannot be used .*; begin anew with restart=True"):
        open_work(tmp_path)
    (kept(tmp_path) / "identity.json").rmdir()
    assert finish(tmp_path, restart=True) == ORIGINS
    kept(tmp_path).write_text("a file")
    with pytest.raises(OutputError, match=r"cannot be written to .*: choose another folder"):
        open_work(tmp_path)


@pytest.mark.parametrize(
    "tail", [b'{"row": 300, "col": 0, "par', b"\0\0\0\0\n", b"[]\n", b'{"row": 300, "col": 0, "parts": [[1]]}\n']
)
def test_a_torn_journal_is_read_as_far_as_it_goes(tmp_path: Path, whole: list[bytes], tail: bytes) -> None:
    with open_work(tmp_path) as work:
        put(work, *ORIGINS[:2])
    with (kept(tmp_path) / "journal.jsonl").open("ab") as file:
        file.write(tail)
    with open_work(tmp_path) as work:
        assert work.finished == set(ORIGINS[:2])
        put(work, ORIGINS[2])
    assert finish(tmp_path) == ORIGINS[3:]
    assert contents(tmp_path) == whole


def damage(folder: Path, how: str) -> None:
    path = block_path(folder, 0, 0, 300)
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:-5])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])


@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_lost_parts_are_done_again(tmp_path: Path, whole: list[bytes], how: str) -> None:
    with open_work(tmp_path) as work:
        put(work, *ORIGINS)
    damage(work.folder, how)
    assert finish(tmp_path) == [(0, 300)]
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("how", ["missing", "truncated", "overwritten"])
def test_damage_noticed_at_the_end_names_the_block_and_costs_no_other(
    tmp_path: Path, whole: list[bytes], how: str
) -> None:
    with open_work(tmp_path) as work:
        put(work, *ORIGINS)
        damage(work.folder, how)
        with pytest.raises(OutputError, match=r"1 finished block\(s\) in .* damaged, the first at row 0, column 300"):
            work.publish()
        assert work.finished == set(ORIGINS) - {(0, 300)}
    assert names(tmp_path) == [".labels.tif.geohp"]
    assert finish(tmp_path) == [(0, 300)]
    assert contents(tmp_path) == whole


LOCKED = """
import sys
from pathlib import Path
from affine import Affine
from geohp.errors import OutputError
from geohp.files.unfinished import is_half_published, work_folder
from geohp.raster.grid import Grid
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
try:
    ResumableRasterWriter.open({Path(sys.argv[1]): Layer()}, Grid(9, 9, Affine.identity()), {}, restart=True)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_what_another_process_has_completed_meanwhile_is_not_replaced(tmp_path: Path, whole: list[bytes]) -> None:
    finish(tmp_path)
    with pytest.raises(OutputError, match=r"labels\.tif: exists already"):
        ResumableRasterWriter.open(outputs(tmp_path), GRID, {"input": "another"}, overwrite=False)
    assert contents(tmp_path) == whole
    assert not kept(tmp_path).exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open_work(tmp_path) as work:
        put(work, (0, 0))
        with pytest.raises(OutputError, match="is in use by another run: wait until it ends"):
            open_work(tmp_path, restart=True)
        other = [sys.executable, "-c", LOCKED, str(tmp_path / "labels.tif")]
        run = subprocess.run(other, capture_output=True, text=True, check=True)
        assert "is in use by another run" in run.stdout
        put(work, (0, 300))
        assert len(work.finished) == 2
    open_work(tmp_path).close()


def test_outputs_in_other_folders_and_on_other_disks(
    tmp_path: Path, whole: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    both = {tmp_path / "labels.tif": LABELS, other / "shares.tif": SHARES}
    replace = Path.replace

    def replace_on_one_disk(self: Path, target: Path) -> Path:
        if self.parent in (other, Path(target).parent) or self.parent.parent == Path(target).parent:
            return replace(self, target)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "replace", replace_on_one_disk)
    with ResumableRasterWriter.open(both, GRID, IDENTITY) as work:
        put(work, *ORIGINS)
        work.publish()
    assert [path.read_bytes() for path in both] == whole
    assert names(tmp_path) == ["labels.tif", "other"]
    assert names(other) == ["shares.tif"]


def test_replacing_takes_the_side_files_of_the_replaced_away(tmp_path: Path) -> None:
    for name in ("labels.tif", "labels.tif.aux.xml", "labels.tif.ovr", "labels.tif.msk", "shares.tif.msk", "b.tif.msk"):
        (tmp_path / name).write_text("old")
    finish(tmp_path)
    assert names(tmp_path) == ["b.tif.msk", "labels.tif", "shares.tif"]


@pytest.mark.parametrize(
    "error", [RasterioIOError("No space left on device"), OSError(28, "No space left"), KeyboardInterrupt()]
)
def test_a_failing_conversion_changes_nothing_and_keeps_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, whole: list[bytes]
) -> None:
    copy = rasterio.shutil.copy

    def fail_at_the_second(source: Path, target: Path, **options: Any) -> None:
        if target.name == "0.cog.tif":
            copy(source, target, **options)
            return
        target.write_text("half a file")
        raise error

    (tmp_path / "labels.tif").write_text("old")
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError
    with monkeypatch.context() as patched, pytest.raises(expected) as info:  # noqa: PT012
        patched.setattr(rasterio.shutil, "copy", fail_at_the_second)
        finish(tmp_path)
    if expected is OutputError:
        assert "shares.tif could not be written" in str(info.value)
        assert "No space left" in str(info.value)
    assert names(tmp_path) == [".labels.tif.geohp", "labels.tif"]
    assert (tmp_path / "labels.tif").read_text() == "old"
    assert not list(kept(tmp_path).glob("[01].*"))  # which might take the space that is missing
    assert finish(tmp_path) == []
    assert contents(tmp_path) == whole


def test_a_run_stopped_amid_moving_may_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[bytes]
) -> None:
    replace = Path.replace

    def fail_at_the_second(self: Path, target: Path) -> Path:
        if Path(target).name == "shares.tif":
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    assert not is_half_published(tmp_path / "labels.tif")
    with monkeypatch.context() as patched, pytest.raises(OutputError, match=r"shares.tif could"):  # noqa: PT012
        patched.setattr(Path, "replace", fail_at_the_second)
        finish(tmp_path)
    assert names(tmp_path) == [".labels.tif.geohp", "labels.tif"]
    assert is_half_published(tmp_path / "labels.tif")
    with pytest.raises(OutputError, match=r"labels\.tif: exists already"):
        ResumableRasterWriter.open(outputs(tmp_path), GRID, IDENTITY, restart=True, overwrite=False)
    assert finish(tmp_path) == []
    assert contents(tmp_path) == whole
    assert not is_half_published(tmp_path / "labels.tif")


FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from affine import Affine
from geohp.errors import OutputError
from geohp.files.unfinished import is_half_published, work_folder
from geohp.raster.grid import Grid
from geohp.raster.write.layer import Layer
from geohp.raster.write.resumable import ResumableRasterWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing further then fails as on a full disk
values = np.random.default_rng(0).integers(0, 250, (1100, 1100), dtype=np.uint8)
path = Path(sys.argv[1])
def run():
    try:
        with ResumableRasterWriter.open({path: Layer()}, Grid(1100, 1100, Affine.identity()), {}) as work:
            for row in range(0, 1100, 100):
                if (row, 0) not in work.finished:
                    work.put(row, 0, {path: values[row : row + 100]})
            work.publish()
            return "written"
    except OutputError as error:
        return "refused" if "could not be written" in str(error) else error
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    print(run(), path.read_bytes()[:3])
    if limit == 10:
        print(os.listdir(path.parent))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(run())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the file size by a POSIX call")
def test_a_full_disk_at_any_point_is_noticed_and_can_be_mended(tmp_path: Path) -> None:
    def fill(*limits: int) -> list[str]:
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.tif"), *map(str, limits)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert fill() == ["written"]
    whole = (tmp_path / "a.tif").read_bytes()
    size = len(whole)
    (tmp_path / "a.tif").write_text("old")
    # Full before the first block, amid the blocks' journal, at the overviews, and at each stage of the conversion.
    limits = [10, 100, 300, 800, 100_000, *range(150_000, size, 100_000), size - 20_000, size - 100, size - 1]
    nothing_begun, *refused, written = fill(*limits)
    assert refused == ["['a.tif']"] + ["refused b'old'"] * (len(limits) - 1)
    assert (nothing_begun, written) == ("refused b'old'", "written")
    assert (tmp_path / "a.tif").read_bytes() == whole
    assert names(tmp_path) == ["a.tif"]


def test_targets_that_cannot_be_are_refused_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        ResumableRasterWriter.open(dict.fromkeys(paths, LABELS), GRID, IDENTITY)

    with pytest.raises(OutputError, match="is a folder"):
        refuse(tmp_path)
    with pytest.raises(OutputError, match=r"folder .*nowhere does not exist"):
        refuse(tmp_path / "a.tif", tmp_path / "nowhere" / "a.tif")
    with pytest.raises(OutputError, match="cannot be written to"):
        refuse(Path("/proc/a.tif"))
    with pytest.raises(OutputError, match="two outputs cannot be one file"):
        refuse(tmp_path / "a.tif", tmp_path / ".." / tmp_path.name / "a.tif")
    with pytest.raises(TypeError, match="cannot be part of an identity"):
        ResumableRasterWriter.open({tmp_path / "a.tif": LABELS}, GRID, {"model": object()})
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match="cannot be written to"):
        refuse(tmp_path / "a.tif")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (OSError(5, "Input/output error"), r"\.labels\.tif\.geohp cannot be used \(Input/output error\); begin anew"),
        (OSError("odd"), r"cannot be used \(odd\)"),
        (OutputError("is of another run", "wait"), "^is of another run; wait$"),
        (RuntimeError("bug"), "^bug$"),
        (KeyboardInterrupt(), "^$"),
    ],
)
def test_what_goes_wrong_as_a_folder_is_prepared_is_told_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, meant: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(resumable, "_prepare", fails)
    kind = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(kind, match=meant):
        open_work(tmp_path)
    assert names(tmp_path) == []


def test_a_block_that_cannot_be_noted_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_work(tmp_path) as work:
        put(work, ORIGINS[0])
        with monkeypatch.context() as patched:
            patched.setattr(work._journal, "append", full)
            with pytest.raises(OutputError, match="No space left on device"):
                put(work, ORIGINS[1])
        assert work.finished == {ORIGINS[0]}
    assert finish(tmp_path) == [*ORIGINS[1:]]


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    labels, shares = outputs(tmp_path)
    with open_work(tmp_path) as work:
        for message, row, layers in (
            ("does not fit", 590, {labels: np.zeros((11, 4), np.uint8)}),
            ("does not fit", -1, {labels: np.zeros((11, 4), np.uint8)}),
            ("cannot be stored", 0, {labels: np.zeros((5, 4), np.int64)}),
            ("fit 2 band", 0, {shares: np.zeros((3, 5, 4), np.float32)}),
            ("differ in size", 0, {labels: np.zeros((5, 4), np.uint8), shares: np.zeros((2, 4, 5), np.float32)}),
            ("none of the outputs", 0, {tmp_path / "c.tif": np.zeros((5, 4), np.uint8)}),
        ):
            with pytest.raises(ValueError, match=message):
                work.put(row, 0, layers)
        with pytest.raises(TypeError):
            work.put(0, 0, {labels: np.zeros((5, 4), np.uint8)}, {"note": object()})
        assert not work.finished
    assert names(tmp_path) == []


KILLED = """
import itertools, os, random, signal, sys, time
from pathlib import Path
import test_resumable as t

def forked(run):
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException as error:
            print("failed:", repr(error), flush=True)
            os._exit(1)
    return child

def succeeded(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def killed_at(folder, count):
    # Dies as it is about to make its count-th lasting change to the disk.
    steps = itertools.count()
    def counting(function):
        def step(*args, **options):
            if next(steps) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)
        return step
    os.fsync = counting(os.fsync)
    for name in ("replace", "unlink", "mkdir", "rmdir"):
        setattr(Path, name, counting(getattr(Path, name)))
    t.finish(folder)

def check(folder, whole):
    for path, content in zip(t.outputs(folder), whole):
        assert path.read_bytes() in (b"old", content), f"{path} is neither old nor whole"

def main(folder, mode, wanted, stride):
    folder.mkdir()
    assert succeeded(forked(lambda: t.finish(folder)))
    whole = t.contents(folder)
    start = time.perf_counter()
    assert succeeded(forked(lambda: t.finish(folder)))
    usual = time.perf_counter() - start
    random.seed(0)
    kills = 0
    for number in itertools.count():
        for path in t.outputs(folder):
            path.write_text("old")
        if mode == "steps":
            done = succeeded(forked(lambda: killed_at(folder, number * stride)))
            check(folder, whole)
            if done:
                break  # there are no more steps than this
            kills += 1
            assert succeeded(forked(lambda: t.finish(folder)))
        else:
            done = False
            while not done:
                child = forked(lambda: t.finish(folder))
                time.sleep(random.uniform(0, usual))
                os.kill(child, signal.SIGKILL)
                done = succeeded(child)
                check(folder, whole)
                kills += not done
        assert t.contents(folder) == whole, number
        assert t.names(folder) == ["labels.tif", "shares.tif"], t.names(folder)
        if kills >= wanted:
            break
    print("killed", kills)

main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
"""


def kill(folder: Path, mode: str, wanted: int, stride: int = 1) -> int:
    """Run again and again what is killed again and again; gives the number of kills."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(folder / "runs"), mode, str(wanted), str(stride)],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return int(run.stdout.split()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
def test_killed_before_one_of_its_steps_a_run_can_be_finished(tmp_path: Path) -> None:
    assert kill(tmp_path, "steps", 1000, 11) > 6


@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
def test_killed_at_some_moment_a_run_can_be_finished(tmp_path: Path) -> None:
    assert kill(tmp_path, "moments", 4) >= 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
def test_killed_before_any_of_its_steps_a_run_can_be_finished(tmp_path: Path) -> None:
    assert kill(tmp_path, "steps", 1000) > 60


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
def test_killed_at_any_moment_a_run_can_be_finished(tmp_path: Path) -> None:
    assert kill(tmp_path, "moments", 200) >= 200
