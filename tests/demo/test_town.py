"""The drawn town: repeatable, plausible, aligned, and harder for colour alone than with its surroundings."""

import functools

import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geohp.classes import classes_from_json
from geohp.demo.town.canvas import Canvas, smooth_noise
from geohp.demo.town.drawing import draw_orthophoto
from geohp.demo.town.geotiff import write_orthophoto
from geohp.demo.town.streets import StreetPlan
from geohp.demo.town.town_classes import SIX_CLASSES, SIX_TO_FIVE, SIX_TO_THREE, merge_classes
from geohp.errors import OutputError

ROAD, BUILDING, LOW, TREE, CAR, CLUTTER = range(6)


@functools.cache
def town(seed):
    return draw_orthophoto(seed=seed)


def test_equal_seeds_draw_equal_scenes():
    first, again, other = (draw_orthophoto(120, 150, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert (first.image != other.image).mean() > 0.5
    assert (first.truth != other.truth).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_class_shares_are_a_towns(seed):
    scene = town(seed)
    share = np.bincount(scene.truth[scene.valid], minlength=6) / scene.valid.sum()
    bounds = {
        ROAD: (0.20, 0.36),
        BUILDING: (0.17, 0.36),
        LOW: (0.15, 0.36),
        TREE: (0.09, 0.20),
        CAR: (0.008, 0.03),
        CLUTTER: (0.01, 0.09),
    }
    assert len(share) == 6
    for label, (low, high) in bounds.items():
        assert low < share[label] < high, (label, share)


@settings(deadline=None, max_examples=12)
@given(st.integers(16, 96), st.integers(16, 96), st.integers(0, 10**6))
def test_any_size_and_seed(height, width, seed):
    scene = draw_orthophoto(height, width, seed=seed)
    assert scene.image.shape == (3, height, width)
    assert scene.truth.shape == scene.valid.shape == (height, width)
    assert scene.image.dtype == scene.truth.dtype == np.uint8
    assert scene.valid.dtype == bool
    # Outside the flight both are empty; inside, black never means empty.
    assert not scene.image[:, ~scene.valid].any()
    assert scene.image[:, scene.valid].all()
    np.testing.assert_array_equal(scene.truth == 255, ~scene.valid)
    assert scene.truth[scene.valid].max() < 6
    assert 0.005 < (~scene.valid).mean() < 0.05


def test_too_small_is_told():
    with pytest.raises(ValueError, match="16"):
        draw_orthophoto(15, 100)


@pytest.mark.parametrize("seed", [0, 1])
def test_image_shows_what_the_truth_says(seed):
    """Vegetation is greener than the rest, and edges of the truth are edges of the image."""
    scene = town(seed)
    red, green, blue = scene.image.astype(float)
    greenness = (2 * green - red - blue) / (red + green + blue + 1)
    vegetation, sealed = np.isin(scene.truth, (LOW, TREE)), np.isin(scene.truth, (ROAD, BUILDING))
    assert greenness[vegetation].mean() > greenness[sealed].mean() + 0.08
    # A truth shifted by a metre fits the image's edges less well.
    grey = ndimage.gaussian_gradient_magnitude(scene.image.mean(0), 1)

    def fit(shift):
        truth = np.roll(scene.truth, shift, (0, 1))
        edge = (truth[1:, 1:] != truth[:-1, 1:]) | (truth[1:, 1:] != truth[1:, :-1])
        return grey[1:, 1:][edge].mean()

    assert fit((0, 0)) > 1.15 * max(fit((5, 0)), fit((0, 5)), fit((-5, 0)), fit((0, -5)))


def test_colour_misleads_but_surroundings_help():
    """A classifier trained on one town fails on the next by colour alone, and gains by texture and context."""

    def samples(scene, sigmas):
        image = scene.image.astype(np.float32) / 255
        layers = list(image)
        for sigma in sigmas:
            means = [ndimage.gaussian_filter(band, sigma) for band in image]
            layers += means
            layers += [ndimage.gaussian_filter((b - m) ** 2, sigma) ** 0.5 for b, m in zip(image, means, strict=True)]
        thin = (slice(None, None, 7), slice(None, None, 7))
        valid = scene.valid[thin]
        features = np.stack([layer[thin][valid] for layer in layers], 1)
        pairs = [features[:, [a]] * features[:, a:] for a in range(features.shape[1])]
        return np.hstack([np.ones((len(features), 1)), features, *pairs]), merge_classes(scene.truth[thin][valid])

    def accuracy(sigmas):
        (x, y), (x_new, y_new) = samples(town(0), sigmas), samples(town(1), sigmas)
        scale = x.std(0) + 1e-6
        weights = np.linalg.lstsq(x / scale, np.eye(3)[y], rcond=None)[0]
        return ((x_new / scale @ weights).argmax(1) == y_new).mean()

    by_colour, by_surroundings = accuracy(()), accuracy((1.0, 4.0))
    assert by_colour < 0.78
    assert by_surroundings > by_colour + 0.04


def test_shadows_fall_one_way():
    rng = np.random.default_rng(0)
    canvas = Canvas(80, 80, rng)
    canvas.colour[:] = 0.5
    canvas.paint((slice(38, 43), slice(38, 43)), np.ones((5, 5), bool), (0.5, 0.5, 0.5), BUILDING, 4.0)
    light = canvas.expose(azimuth=np.pi, elevation=np.pi / 4).sum(2)  # sun in the south: shadow runs north, 4 m
    dark = light < 0.6 * np.median(light)
    rows, cols = np.nonzero(dark)
    assert abs(cols.mean() - 40) < 1.5
    assert rows.max() < 40
    assert 15 <= 38 - rows.min() <= 22


def test_the_highest_is_seen():
    canvas = Canvas(20, 20, np.random.default_rng(0))
    window, mask = canvas.everything, np.ones((20, 20), bool)
    canvas.paint(window, mask, (1, 0, 0), BUILDING, 5.0)
    canvas.paint(window, mask, (0, 1, 0), TREE, 3.0)
    assert (canvas.truth == BUILDING).all()
    assert (canvas.height_m == 5).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.floats(0, 240), st.floats(0, 240))
def test_plan_coordinates_invert(seed, x, y):
    plan = StreetPlan((240.0, 240.0), np.random.default_rng(seed))
    u, v = plan.to_uv(x, y)
    assert plan.to_xy(float(u), float(v)) == pytest.approx((x, y), abs=1e-2)


@pytest.mark.parametrize("feature", [2.5, 9.0, 55.0])
def test_noise_has_unit_variance(feature):
    noise = smooth_noise((400, 900), feature, np.random.default_rng(1))
    assert noise.shape == (400, 900)
    assert 0.75 < noise.std() < 1.25


def test_coarser_classes():
    labels = np.array([[0, 1, 2, 3], [4, 5, 255, 6]], np.uint8)
    assert merge_classes(labels).tolist() == [[0, 1, 2, 2], [0, 1, 255, 255]]
    assert merge_classes(labels, SIX_TO_FIVE).tolist() == [[0, 1, 2, 3], [0, 4, 255, 255]]
    assert merge_classes(np.array([-1, 5]), SIX_TO_THREE).tolist() == [255, 1]


def test_geotiffs_carry_everything(tmp_path):
    scene = draw_orthophoto(150, 210, seed=3)
    write_orthophoto(scene, tmp_path / "image.tif", tmp_path / "truth.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.tif", "truth.tif"]
    with rasterio.open(tmp_path / "image.tif") as image, rasterio.open(tmp_path / "truth.tif") as truth:
        assert image.crs.to_epsg() == truth.crs.to_epsg() == 25833
        assert image.transform == truth.transform
        assert image.res == pytest.approx((0.2, 0.2))
        lon, lat = rasterio.warp.transform(image.crs, "EPSG:4326", *[[c] for c in image.xy(0, 0)])
        assert (lon[0], lat[0]) == pytest.approx((13.06, 52.4), abs=0.05)  # Potsdam
        np.testing.assert_array_equal(image.read(), scene.image)
        np.testing.assert_array_equal(image.dataset_mask() > 0, scene.valid)
        np.testing.assert_array_equal(truth.read(1), scene.truth)
        np.testing.assert_array_equal(truth.read_masks(1) > 0, scene.valid)
        assert [c.name for c in image.colorinterp] == ["red", "green", "blue"]
        assert all(truth.colormap(1)[c.id][:3] == c.rgb for c in SIX_CLASSES)
        assert classes_from_json(truth.tags(1)["classes"]) == SIX_CLASSES


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    scene = draw_orthophoto(32, 32)
    with pytest.raises(OutputError, match="absent"):
        write_orthophoto(scene, tmp_path / "absent" / "image.tif", tmp_path / "truth.tif")
    assert not list(tmp_path.iterdir())
    kept = tmp_path / "image.tif"
    kept.write_text("older work")

    def full_disk(self, *_):
        raise OSError("no space left on device")

    monkeypatch.setattr(rasterio.io.DatasetWriter, "write_mask", full_disk)
    with pytest.raises(OutputError, match="no space left"):
        write_orthophoto(scene, kept, tmp_path / "truth.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]
    assert kept.read_text() == "older work"
