"""A label map in memory as a GeoTIFF: its labels, classes and tags, and that it goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 (the accessor)
import xarray as xr
from affine import Affine

from geohp.errors import OutputError, VectorError
from geohp.raster.write import label_map
from geohp.raster.write.label_map import write_label_map

TRANSFORM = Affine(0.5, 0, 380000, 0, -0.5, 5800000)


def array(values: Any, **attributes: Any) -> xr.DataArray:
    made = xr.DataArray(values, dims=("y", "x"), attrs=attributes).rio.write_transform(TRANSFORM)
    return made.rio.write_crs(32633).rio.write_nodata(255)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_map, "BLOCK_PX", 20)


def values() -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 3, (50, 30)).astype(np.uint8)
    made[made == 2] = 7
    made[:10, :5] = 255
    return made


def test_labels_classes_and_tags_are_kept_and_progress_counts_blocks(tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    labels = array(values(), GEOHP_MODEL_SHA256="ab" * 32, GEOHP_N=3, note="not ours")
    path = write_label_map(labels, tmp_path / "a.tif", progress=lambda *step: told.append(step))
    assert path == tmp_path / "a.tif"
    assert told == [("writing", done, 6) for done in range(1, 7)]
    with rasterio.open(path) as written:
        np.testing.assert_array_equal(written.read(1), values())
        assert (written.nodata, written.transform, written.crs.to_epsg()) == (255, TRANSFORM, 32633)
        assert (written.tags()["GEOHP_MODEL_SHA256"], written.tags()["GEOHP_N"]) == ("ab" * 32, "3")
        assert "note" not in written.tags()
        assert [entry["id"] for entry in json.loads(written.tags(1)["classes"])] == [0, 1, 7]
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_classes_that_the_map_declares_are_kept(tmp_path: Path) -> None:
    declared = [{"id": 0, "name": "water", "colour": "#0000ff"}, {"id": 9, "name": "rock", "colour": "#888888"}]
    write_label_map(array(np.zeros((5, 5), np.uint8), classes=json.dumps(declared)), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as written:
        classes = json.loads(written.tags(1)["classes"])
        assert classes[0] == {"id": 0, "name": "water", "colour": "#0000ff"}
        assert written.colormap(1)[0] == (0, 0, 255, 255)


def test_interrupted_it_goes_on_and_computes_no_block_twice(tmp_path: Path) -> None:
    computed: list[tuple[int, ...]] = []

    def chunk(part: np.ndarray, block_info: Any = None) -> np.ndarray:
        computed.append(tuple(block_info[0]["chunk-location"]))
        return part

    lazy = dask.array.from_array(values(), chunks=(20, 20), name="labels").map_blocks(
        chunk, dtype=np.uint8, meta=np.empty((0, 0), np.uint8), name="counted"
    )
    declared = json.dumps([{"id": k, "name": str(k), "colour": "#000000"} for k in (0, 1, 7)])

    def stop(stage: str, done: int, total: int, detail: str = "") -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_label_map(array(lazy, classes=declared), tmp_path / "a.tif", progress=stop)
    assert not (tmp_path / "a.tif").exists()
    assert computed == [(0, 0), (0, 1), (1, 0), (1, 1)]
    computed.clear()
    write_label_map(array(lazy, classes=declared), tmp_path / "a.tif")
    assert computed == [(2, 0), (2, 1)]
    with rasterio.open(tmp_path / "a.tif") as written:
        np.testing.assert_array_equal(written.read(1), values())


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    labels = array(values())
    with pytest.raises(OutputError, match=r"written to \.tif or \.tiff"):
        write_label_map(labels, tmp_path / "a.png")
    (tmp_path / "a.tif").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_label_map(labels, tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_text() == "mine"
    write_label_map(labels, tmp_path / "a.tif", overwrite=True)
    with rasterio.open(tmp_path / "a.tif") as written:
        np.testing.assert_array_equal(written.read(1), values())
    with pytest.raises(VectorError):
        write_label_map(array(np.full((4, 4), 300, np.uint16)), tmp_path / "b.tif")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif"]
