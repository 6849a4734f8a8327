"""What unfinished work was to become: described in JSON's own types, and the first difference in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from geohp.raster.grid import Grid
from geohp.raster.write.layer import Layer
from geohp.raster.write.resume_identity import describe, difference, read_identity

GRID = Grid(7, 5, Affine(0.5, 0, 10, 0, -0.5, 20), CRS.from_epsg(32631))


def test_everything_that_pixels_depend_on_is_described(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    outputs = {tmp_path / "a.tif": Layer(), tmp_path / "other" / "b.tif": Layer("float32", 0.5, overviews="average")}
    identity = {"input": tmp_path / "scene.tif", "size": np.int64(7), "share": np.float32(0.25)}
    described = describe(identity, outputs, GRID)
    assert described["format"] == 1
    assert described["identity"] == {"input": str(tmp_path / "scene.tif"), "size": 7, "share": 0.25}
    assert described["grid"]["transform"] == [0.5, 0, 10, 0, -0.5, 20]
    assert (described["grid"]["width"], described["grid"]["height"], described["grid"]["control points"]) == (7, 5, [])
    assert "WGS 84 / UTM zone 31N" in described["grid"]["crs"]
    # Beside the first output by its name, so that the folder may move; elsewhere by the whole path.
    assert list(described["outputs"]) == ["a.tif", str(tmp_path / "other" / "b.tif")]
    assert described["outputs"]["a.tif"]["nodata"] == 255
    assert json.loads(json.dumps(described)) == described
    points = (GroundControlPoint(1, 2, 3, 4, 5), GroundControlPoint(6, 7, 8, 9))
    placed = describe({}, outputs, Grid(7, 5, Affine.identity(), None, points))["grid"]
    assert (placed["crs"], placed["control points"]) == (None, [[1, 2, 3, 4, 5], [6, 7, 8, 9, None]])
    with pytest.raises(TypeError, match="cannot be part of an identity"):
        describe({"model": object()}, outputs, GRID)


def test_the_first_difference_in_words() -> None:
    before = {"identity": {"input": "a.tif", "model": {"sha": "x", "size": 3}}, "nodata": float("nan"), "tags": {}}
    assert difference(before, before) is None
    assert difference(before, {**before, "nodata": float("nan")}) is None
    assert difference(before, {**before, "nodata": 7}) == "another nodata (NaN there, 7 now)"
    assert difference(before, {**before, "tags": {"a": 1}}) == "another tags.a (none there, 1 now)"
    changed = {**before, "identity": {"input": "ü.tif", "model": {"sha": "y", "size": 3}}}
    assert difference(before, changed) == 'another input ("a.tif" there, "ü.tif" now)'
    gone = {**before, "identity": {"input": "a.tif", "model": {"sha": "x"}}}
    assert difference(before, gone) == "another model.size (3 there, none now)"


@pytest.mark.parametrize(("length", "shown"), [(58, 60), (59, 61)])
def test_long_values_are_shown_by_their_ends(length: int, shown: int) -> None:
    text = "".join(chr(97 + k % 26) for k in range(length))
    words = difference({"a": text}, {"a": "b"})
    assert words is not None
    value = words.removeprefix("another a (").removesuffix(' there, "b" now)')
    assert value == (f'"{text}"' if shown == 60 else f'"{text[:28]}...{text[-28:]}"')


def test_a_description_that_is_not_legible_is_none(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    for content in (b"{", b"[]", b"\xff", b"3"):
        (tmp_path / "identity.json").write_bytes(content)
        assert read_identity(tmp_path) is None
    (tmp_path / "identity.json").write_text('{"format": 1}')
    assert read_identity(tmp_path) == {"format": 1}
    (tmp_path / "identity.json").unlink()
    (tmp_path / "identity.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        read_identity(tmp_path)
