"""Codes of labelled pixels are those of the windows they lie in, and no other window is looked at."""

from contextlib import nullcontext

import geopandas
import numpy as np
import pytest
import shapely
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp import Segmenter
from geohp.errors import SceneError
from geohp.inference.engine.windows import WindowGrid
from geohp.inference.probe import labelled_codes
from geohp.inference.probe.labelled_codes import LabelSource, interpolate, read_labelled_codes, window_middles
from geohp.options import FitOptions
from geohp.progress import no_progress
from geohp.raster.read.patches import read_patch
from geohp.raster.read.scene import open_scene

ROUNDING = 2e-2 if torch.cuda.is_available() else 1e-5
"""Of a code: a card multiplies in halves."""


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.floats(0, 0.9))
def test_middles_of_windows_are_the_scene_and_lie_in_their_windows(height, width, side, overlap):
    grid = WindowGrid(height, width, side, int(side * overlap), multiple=1)
    seen = np.zeros((height, width), int)
    for (row, col), middle in window_middles(grid):
        seen[middle.slices] += 1
        assert row <= middle.row
        assert middle.bottom <= row + grid.shape[0]
        assert col <= middle.col
        assert middle.right <= col + grid.shape[1]
    assert (seen == 1).all()


class OnMps(torch.Tensor):
    """Codes on a GPU of Apple's, which torch long had no interpolation for."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        result = super().__torch_function__(function, types, arguments, options or {})
        if function is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if function is F.grid_sample:
            raise RuntimeError("MPS: Unsupported Border padding mode")
        return result


def test_codes_on_apples_gpus_are_interpolated_to_the_same_bytes():
    codes = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    rows, cols = np.divmod(np.arange(32 * 48), 48)
    found = interpolate(codes.as_subclass(OnMps), rows, cols, (32, 48))
    assert found.tobytes() == interpolate(codes, rows, cols, (32, 48)).tobytes()


def test_codes_between_patches_are_interpolated_as_scores_are():
    codes = torch.randn(5, 4, 6)
    rows, cols = np.mgrid[:32, :48].reshape(2, -1)
    dense = F.interpolate(codes[None], size=(32, 48), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.from_numpy(interpolate(codes, rows, cols, (32, 48))), dense.flatten(1).T)


@pytest.fixture
def wide(write_scene):
    """Three windows side by side: 40 x 1100 px."""
    rng = np.random.default_rng(0)
    return write_scene(rng.integers(1, 255, (3, 40, 1100)).astype(np.uint8))


@pytest.fixture
def model(wide):
    with open_scene(wide) as scene:
        return Segmenter.fit(scene, FitOptions(classes=1)).model


def features(pixels, classes, size=0.0):
    """Points, or squares of so many pixels, on the pixel grid of the scenes that tests write."""
    at = [shapely.Point(380000 + (c + 0.5) / 2, 5800000 - (r + 0.5) / 2) for r, c in pixels]
    shapes = [p.buffer(size / 4, cap_style="square") for p in at] if size else at
    return geopandas.GeoDataFrame({"kind": classes}, geometry=shapes, crs="EPSG:32633")


def read(model, paths, frame, seed=0, **spies):
    openers = [lambda path=path: nullcontext(path) if not isinstance(path, str) else open_scene(path) for path in paths]
    return read_labelled_codes(model, openers, LabelSource(frame, None, None), seed=seed, progress=no_progress)


def codes_of(model, images):
    """Codes (B, D, h, w) on the CPU, in float32 wherever the model is."""
    return model.codes(images.to(model.device)).float().cpu()


def test_points_have_the_code_of_their_pixel(model, wide):
    frame = features([(5, 17), (30, 21), (12, 1071)], ["b", "a", "b"])
    labelled = read(model, [str(wide)], frame)
    assert labelled.names == ("a", "b")
    assert labelled.unit == "points"
    with open_scene(wide) as scene:
        first, last = (read_patch(scene, 0, col, 448)[0][:, :40] for col in (0, 1100 - 448))
        codes = [codes_of(model, torch.from_numpy(window)[None])[0] for window in (first, last)]
    expected = [
        interpolate(codes[0], np.array([5]), np.array([17]), (40, 448)),
        interpolate(codes[0], np.array([30]), np.array([21]), (40, 448)),
        interpolate(codes[1], np.array([12]), np.array([1071 - 652]), (40, 448)),
    ]
    order = np.argsort(labelled.objects)
    np.testing.assert_allclose(labelled.codes[order], np.concatenate(expected), atol=ROUNDING)
    assert labelled.classes[order].tolist() == [1, 0, 1]
    np.testing.assert_allclose(labelled.places[order[2]], [380000 + 1071.5 / 2, 5800000 - 12.5 / 2])


def test_only_windows_with_labels_are_read(model, wide, monkeypatch):
    frame = features([(20, 1000), (20, 1060)], ["a", "b"], size=12)
    reads = []
    with open_scene(wide) as scene:
        read_window = scene.read
        monkeypatch.setattr(scene, "read", lambda *block: reads.append(block) or read_window(*block))
        labelled = read(model, [scene], frame)
    assert reads == [(0, 652, 40, 448)]
    assert len(labelled.codes) > 4
    # Of a class one pixel a patch of 8 px, and together they stand for all.
    assert labelled.pixels[labelled.classes == 0].sum() == pytest.approx(144)


def test_a_polygon_is_one_group_and_the_parts_of_another_are_two(model, wide, write_scene):
    """Also where it reaches into another window, or another scene."""
    data = np.random.default_rng(1).integers(1, 255, (3, 40, 300)).astype(np.uint8)
    beside = write_scene(data, "beside.tif", transform=(0.5, 0, 380000 + 550, 0, -0.5, 5800000))
    long = shapely.box(380000 + 150, 5800000 - 8, 380000 + 600, 5800000 - 4)
    two = shapely.MultiPolygon(
        [shapely.box(380010, 5799984, 380020, 5799990), shapely.box(380030, 5799984, 380040, 5799990)]
    )
    frame = geopandas.GeoDataFrame({"kind": [7, 3]}, geometry=[long, two], crs="EPSG:32633")
    labelled = read(model, [str(wide), str(beside)], frame)
    assert labelled.names == ("3", "7")
    assert len(set(labelled.groups[labelled.classes == 1])) == 1
    assert labelled.places[labelled.classes == 1][:, 0].max() > 380000 + 551
    assert len(set(labelled.groups[labelled.classes == 0])) == 2


def test_of_a_raster_squares_are_groups_and_nodata_is_left_out(model, wide, write_scene):
    truth = np.repeat(np.arange(1100) // 550 * 4 + 2, 40).reshape(1100, 40).T[None].astype(np.uint8)
    truth[:, :, :100] = 255
    labelled = read(model, [str(wide)], str(write_scene(truth, "truth.tif", nodata=255)))
    assert labelled.names == ("2", "6")
    assert labelled.unit == "squares"
    assert labelled.places[:, 0].min() > 380050
    assert labelled.pixels.sum() == pytest.approx(40 * 1000)
    assert 6 <= len(set(labelled.groups.tolist())) <= 12


def test_windows_of_rare_classes_come_first(monkeypatch):
    windows = [
        labelled_codes._Window(0, (0, i), ("rare", "common") if i % 50 == 3 else ("common",)) for i in range(200)
    ]
    monkeypatch.setattr(labelled_codes, "MOST_WINDOWS", 8)
    chosen = labelled_codes._choose(windows, np.random.default_rng(0))
    assert len(chosen) == 8
    assert sum("rare" in window.names for window in chosen) == 4
    assert chosen == sorted(chosen)


def test_rows_of_a_class_are_limited(model, wide, write_scene, monkeypatch):
    monkeypatch.setattr(labelled_codes, "ROWS_A_CLASS", 30)
    truth = np.zeros((1, 40, 1100), np.uint8)
    truth[:, :, 1000:] = 1
    labelled = read(model, [str(wide)], str(write_scene(truth, "truth.tif")))
    assert [(labelled.classes == k).sum() for k in (0, 1)] == [30, 30]
    assert labelled.pixels[labelled.classes == 0].sum() == pytest.approx(40000)


def test_moments_are_those_of_all_patches_with_data_in_windows_with_labels(model, write_scene):
    data = np.random.default_rng(2).integers(1, 255, (3, 40, 448)).astype(np.uint8)
    data[:, :, 300:] = 0
    path = write_scene(data, "part.tif", nodata=0)
    labelled = read(model, [str(path)], features([(5, 17), (30, 21)], ["a", "b"]))
    with open_scene(path) as scene:
        codes = codes_of(model, torch.from_numpy(read_patch(scene, 0, 0, 448)[0][None, :, :40]))[0]
    rows = codes[:, :, : 300 // 8].flatten(1).T.double().numpy()
    np.testing.assert_allclose(labelled.mean, rows.mean(0), atol=ROUNDING)
    np.testing.assert_allclose(labelled.covariance, np.cov(rows.T, bias=True), atol=10 * ROUNDING)


@pytest.mark.parametrize("changes", ["reference", "scene"])
@pytest.mark.parametrize("when", ["looking for labels", "encoding"])
def test_what_changes_while_it_is_read_is_noticed(model, wide, tmp_path, changes, when):
    reference = tmp_path / "known.geojson"
    features([(5, 17), (12, 1071)], ["a", "b"], 9).to_file(reference)

    def change(stage, done, total, detail=""):
        if stage == when and changes == "reference":
            features([(5, 17), (12, 1071)], ["other", "classes"], 9).to_file(reference)
        elif stage == when:
            wide.write_bytes(wide.read_bytes() + b"more")

    source = LabelSource(reference, "kind", None)
    with pytest.raises(SceneError, match="has changed while it was read"):
        read_labelled_codes(model, [lambda: open_scene(wide)], source, seed=0, progress=change)


def test_codes_of_all_views_are_their_mean(model, wide):
    frame = features([(5, 17), (30, 21)], ["a", "b"])
    openers = [lambda: open_scene(wide)]
    options = {"seed": 0, "progress": no_progress, "tta": True}
    labelled = read_labelled_codes(model, openers, LabelSource(frame, None, None), **options)
    with open_scene(wide) as scene:
        window = torch.from_numpy(read_patch(scene, 0, 0, 448)[0][None, :, :40])
    mean = 0
    for turns in range(4):
        for flipped in (False, True):
            turned = torch.rot90(window, turns, (2, 3))
            codes = codes_of(model, turned.flip(3) if flipped else turned)
            mean = mean + torch.rot90(codes.flip(3) if flipped else codes, -turns, (2, 3)) / 8
    expected = interpolate(mean[0], np.array([5, 30]), np.array([17, 21]), (40, 448))
    np.testing.assert_allclose(labelled.codes[np.argsort(labelled.objects)], expected, atol=ROUNDING)
