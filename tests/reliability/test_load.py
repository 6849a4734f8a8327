"""Much of everything, in small: the same work on fewer scenes, pixels and areas, and growth that would be noticed."""

from __future__ import annotations

import mmap
from functools import partial
from pathlib import Path

import pytest

from benchmarks.reliability import load
from benchmarks.reliability.usage import Usage, usage

SMALL = {
    "scenes": partial(load.scenes_one_by_one, 5),
    "folder": partial(load.scenes_as_a_folder, 5),
    "polygons": partial(load.million_polygons, 60),
    "classes": partial(load.many_classes, 254, side_px=256),
    "sparse": partial(load.mostly_empty, virtual=False, side=3_000),
    "virtual": partial(load.mostly_empty, virtual=True, side=3_000),
    "images": partial(load.many_images, 30),
    "areas": partial(load.many_areas, 50),
}


# A sparse GeoTIFF goes the way of a virtual raster but for its blocks.
@pytest.mark.parametrize(
    "work",
    [pytest.param(work, id=name, marks=[pytest.mark.slow] * (name == "sparse")) for name, work in SMALL.items()],
)
def test_little_of_everything(apart, tmp_path, work):
    folder = tmp_path / "case"
    folder.mkdir()
    outcome = apart(load.attempt, work, folder)
    assert outcome.verdict == "right", outcome.detail


def test_growth_is_noticed():
    scenes = [50 * n for n in range(40)]
    steady = [Usage(900, 800 + n % 3, 12, 4, 0) for n in range(40)]
    assert load.growth(scenes, {"": steady})["handles_slope"] == 0
    leaking = [Usage(900, 800 + n % 3, 12 + n, 4, 0) for n in range(40)]
    with pytest.raises(AssertionError, match="handles grows by"):
        load.growth(scenes, {"": leaking})
    swelling = [Usage(900, 800 + 0.5 * n, 12, 4, 0) for n in range(40)]
    with pytest.raises(AssertionError, match="trimmed_mb grows by"):
        load.growth(scenes, {"": swelling}, results_mb=7)
    assert load.growth(scenes, {"": swelling}, results_mb=9)["trimmed_mb_slope"] == pytest.approx(10)


def test_all_that_grows_is_told_with_all_that_was_measured(tmp_path):
    def grow():
        usages = [Usage(900, 800 + 0.5 * n, 12 + n, 4, 0) for n in range(40)]
        steady = [Usage(900, 800, 12, 4, n) for n in range(40)]
        return load.growth([50 * n for n in range(40)], {"client_": usages, "worker_": steady})

    folder = tmp_path / "case"
    folder.mkdir()
    outcome = load.attempt(grow, folder)
    assert outcome.verdict == "failed"
    for grown in ("client_trimmed_mb grows by +10", "client_handles grows by +20", "worker_temporary grows by +20"):
        assert grown in outcome.detail
    assert outcome.measures["worker_threads_slope"] == 0
    assert outcome.measures["client_handles_slope"] == pytest.approx(20)


def test_a_wrong_result_is_a_failure(tmp_path):
    def wrong():
        raise AssertionError("one polygon too few")

    folder = tmp_path / "case"
    folder.mkdir()
    assert load.attempt(wrong, folder).detail == "AssertionError: one polygon too few"


def test_pages_of_files_are_no_growth_and_what_is_asked_for_is(tmp_path: Path) -> None:
    size = 32 * 2**20
    (tmp_path / "library").write_bytes(b"code" * (size // 4))
    before = usage()
    with (tmp_path / "library").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        assert sum(pages[:: mmap.PAGESIZE]) > 0  # every page of it is touched
        assert abs(usage().trimmed_mb - before.trimmed_mb) < 8
    kept = bytearray(b"data" * (size // 4))
    assert usage().trimmed_mb - before.trimmed_mb > 24
    del kept
    assert abs(usage().trimmed_mb - before.trimmed_mb) < 8
