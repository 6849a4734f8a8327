"""The dense CRF against recorded marginals, exact Gaussian kernels and its own promises."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.crf import mean_field
from geohp.crf import permutohedral as lattice_module
from geohp.crf.mean_field import Bilateral, Gaussian, dense_crf
from geohp.crf.permutohedral import Lattice
from geohp.errors import DataError

ROOT = Path(__file__).parents[2]


def smooth(channels, height, width, cells=4):
    return F.interpolate(torch.rand(1, channels, cells, cells), size=(height, width), mode="bilinear")[0]


def picture(height=24, width=32, seed=0):
    """Smooth colours with an edge down the middle."""
    torch.manual_seed(seed)
    image = smooth(3, height, width) * 100
    image[:, :, width // 2 :] += 120
    return image.to(torch.uint8)


def guesses(classes=3, height=24, width=32, seed=0):
    torch.manual_seed(seed + 1000)
    return (smooth(classes, height, width) * 6 + torch.randn(classes, height, width)).log_softmax(0)


def gaussian_weights(points):
    """Exact and normalised symmetrically, (N, N) float64."""
    points = points.double()
    weights = torch.exp(-torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square() / 2)
    root = weights.sum(1).rsqrt()
    return root[:, None] * weights * root


def textbook(own, kernels, iterations=10):
    """Mean field with dense (N, N) kernels, own (N, K) probabilities."""
    log_p = own.double().clamp_min(1e-5).log()
    q = log_p.softmax(1)
    for _ in range(iterations):
        q = (log_p + sum(weight * kernel @ q for weight, kernel in kernels)).softmax(1)
    return q


def points_of(image):
    _, height, width = image.shape
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([cols, rows], -1).view(-1, 2).float()
    return places, torch.cat([places / 67, image.flip(0).flatten(1).T.float() / 3], 1)


class TestReference:
    @pytest.fixture(scope="class")
    def golden(self):
        golden = dict(np.load(ROOT / "tests/golden/crf_3c_48x64.npz"))
        mean, deviation = (np.array(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        # Cut off to whole numbers, as the reference does.
        golden["image"] = ((golden["img"] * deviation + mean) * 255).clip(0, 255).astype(np.uint8)
        return {name: torch.from_numpy(values) for name, values in golden.items()}

    def test_recorded_marginals(self, golden):
        found = dense_crf(golden["image"], golden["logp"])
        # Asked for: 99 % of the labels and 0.02 on average. It is the same lattice, so rounding is all that differs.
        assert (found - golden["Q"]).abs().mean() < 1e-6
        assert (found - golden["Q"]).abs().max() < 1e-3
        assert torch.equal(found.argmax(0), golden["Q"].argmax(0))

    def test_recorded_marginals_of_upsampled_probabilities(self, golden):
        fine = F.interpolate(golden["logp_small"][None], size=golden["image"].shape[1:], mode="bilinear")[0]
        assert (dense_crf(golden["image"], fine) - golden["Q_small"]).abs().max() < 1e-3

    @pytest.mark.parametrize("classes", [2, 27])
    def test_pydensecrf(self, classes):
        reference = pytest.importorskip("pydensecrf.densecrf")
        image, log_p = picture(60, 80), guesses(classes, 60, 80)
        field = reference.DenseCRF2D(80, 60, classes)
        field.setUnaryEnergy(np.ascontiguousarray(-log_p.flatten(1).exp().clamp_min(1e-5).log().numpy()))
        field.addPairwiseGaussian(sxy=1, compat=3)
        bgr = np.ascontiguousarray(image.flip(0).permute(1, 2, 0).numpy())
        field.addPairwiseBilateral(sxy=67, srgb=3, rgbim=bgr, compat=4)
        wanted = torch.from_numpy(np.array(field.inference(10))).view_as(log_p)
        found = dense_crf(image, log_p)
        assert (found - wanted).abs().mean() < 1e-5
        assert (found.argmax(0) == wanted.argmax(0)).float().mean() > 0.999


class TestExactKernels:
    @pytest.mark.parametrize(("dims", "mean", "most"), [(1, 0.004, 0.02), (2, 0.008, 0.04), (5, 0.04, 0.3)])
    def test_filter(self, dims, mean, most):
        torch.manual_seed(dims)
        points, values = torch.rand(400, dims) * 4, torch.rand(400, 3)
        error = (Lattice(points) @ values - gaussian_weights(points) @ values.double()).abs()
        assert error.mean() < mean
        assert error.max() < most

    @pytest.mark.parametrize("seed", range(4))
    def test_marginals(self, seed):
        image, log_p = picture(12, 16, seed), guesses(3, 12, 16, seed)
        space, colour = map(gaussian_weights, points_of(image))
        wanted = textbook(log_p.flatten(1).exp().T, [(3, space), (4, colour)]).T.view_as(log_p)
        found = dense_crf(image, log_p)
        assert (found - wanted).abs().mean() < 0.02
        assert (found.argmax(0) == wanted.argmax(0)).float().mean() > 0.97

    def test_mean_field_of_the_lattices_own_kernels(self):
        image, log_p = picture(12, 16), guesses(4, 12, 16)
        space, colour = ((Lattice(points) @ torch.eye(192)).double() for points in points_of(image))
        wanted = textbook(log_p.flatten(1).exp().T, [(3, space), (4, colour)]).T.view_as(log_p)
        assert (dense_crf(image, log_p) - wanted).abs().max() < 1e-4

    def test_columns_are_filtered_apart(self, monkeypatch):
        lattice, values = Lattice(points_of(picture(12, 16))[1]), torch.rand(192, 7)
        wanted = lattice @ values
        monkeypatch.setitem(lattice_module._BYTES, "cpu", 1)
        torch.testing.assert_close(lattice @ values, wanted)


class TestPromises:
    def test_follows_edges(self):
        """Noisy guesses on either side of an edge become two even halves."""
        image = torch.zeros(3, 30, 40, dtype=torch.uint8)
        image[:, :, 20:] = 200
        torch.manual_seed(0)
        log_p = torch.randn(2, 30, 40)
        log_p[0, :, :20] += 0.7
        log_p[1, :, 20:] += 0.7
        labels = dense_crf(image, log_p.log_softmax(0)).argmax(0)
        assert (labels == (image[0] > 0)).float().mean() > 0.995
        assert ((log_p.argmax(0) == (image[0] > 0)).float().mean()) < 0.8

    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 3])
    )
    def test_probabilities_at_every_size(self, classes, height, width, seed, iterations):
        torch.manual_seed(seed)
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        log_p = 5 * torch.randn(classes, height, width)
        found = dense_crf(image, log_p, iterations=iterations)
        assert found.shape == log_p.shape
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        assert found.min() >= 0
        torch.testing.assert_close(found.sum(0), torch.ones(height, width))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.2, 80), st.floats(0.5, 60))
    def test_filtered_ones_stay_near_one(self, seed, sxy, srgb):
        torch.manual_seed(seed)
        places, _ = points_of(torch.empty(3, 8, 9))
        ones = torch.ones(72, 1)
        found = Lattice(torch.cat([places / sxy, torch.randint(0, 256, (72, 3)) / srgb], 1)) @ ones
        assert found.min() > 0.2
        assert found.max() < 2.5

    def test_without_kernels_or_iterations_it_is_the_softmax(self):
        image, log_p = picture(), guesses()
        for given_ in ({"gaussian": None, "bilateral": None}, {"iterations": 0}):
            assert (dense_crf(image, log_p, **given_) - log_p.softmax(0)).abs().max() < 1e-4

    @pytest.mark.parametrize("masked", [False, True])
    def test_a_batch_is_its_images(self, masked):
        images = torch.stack([picture(seed=seed) for seed in range(3)])
        log_p = torch.stack([guesses(seed=seed) for seed in range(3)])
        mask = torch.rand(3, 24, 32) > 0.3 if masked else None
        found = dense_crf(images, log_p, mask=mask)
        for number in range(3):
            alone = dense_crf(images[number], log_p[number], mask=None if mask is None else mask[number])
            assert torch.equal(found[number], alone)

    def test_the_same_bits_twice(self):
        image, log_p = picture(100, 120), guesses(5, 100, 120)
        before = image.clone(), log_p.clone()
        assert torch.equal(dense_crf(image, log_p), dense_crf(image, log_p))
        assert torch.equal(image, before[0])
        assert torch.equal(log_p, before[1])

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_a_constant_image_gets_one_class(self, value):
        image = torch.full((3, 24, 32), value, dtype=torch.uint8)
        log_p = torch.randn(2, 24, 32)
        log_p[1] += 0.5
        assert (dense_crf(image, log_p.log_softmax(0)).argmax(0) == 1).all()

    def test_one_class(self):
        assert torch.equal(dense_crf(picture(), torch.randn(1, 24, 32)), torch.ones(1, 24, 32))

    def test_impossible_classes(self):
        log_p = guesses()
        log_p[0] = -torch.inf
        log_p[:, :2] = -torch.inf
        found = dense_crf(picture(), log_p)
        assert found.isfinite().all()
        assert found[0, 4:].max() < 0.1

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_any_floating_point(self, dtype):
        log_p = guesses().to(dtype)
        assert torch.equal(dense_crf(picture(), log_p), dense_crf(picture(), log_p.float()))

    @pytest.mark.parametrize(("factor", "offset"), [(1, 2.0**40), (1, -(2.0**40)), (1e300, 0)])
    def test_doubles_beyond_what_floats_hold(self, factor, offset):
        log_p = (guesses() * 16).round() / 16  # so that nothing is lost by the offset
        log_p[0, :2] = -torch.inf
        expected = dense_crf(picture(), log_p * min(factor, 1e30))
        assert expected.isfinite().all()
        assert torch.equal(dense_crf(picture(), log_p.double() * factor + offset), expected)

    def test_gradients_are_not_kept(self):
        assert not dense_crf(picture(), guesses().requires_grad_()).requires_grad

    def test_imports_without_the_rest(self):
        absent = ["rasterio", "rioxarray", "xarray", "dask", "geopandas", "shapely", "pyproj", "pydantic", "typer"]
        code = f"import sys\nfor name in {absent}: sys.modules[name] = None\nimport geohp.crf.mean_field"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_gpu(self):
        image, log_p = picture(100, 120), guesses(27, 100, 120)
        found = dense_crf(image, log_p.cuda())
        assert found.is_cuda
        assert (found.cpu() - dense_crf(image, log_p)).abs().mean() < 1e-4
        assert torch.equal(found, dense_crf(image.cuda(), log_p.cuda()))


class TestMask:
    def test_what_is_masked_has_no_influence(self):
        image, log_p = picture(), guesses()
        mask = torch.rand(24, 32) > 0.3
        found = dense_crf(image, log_p, mask=mask)
        other, noise = image.clone(), log_p.clone()
        other[:, ~mask] = torch.randint(0, 256, (3, int((~mask).sum())), dtype=torch.uint8)
        noise[:, ~mask] = torch.randn(3, int((~mask).sum()))
        again = dense_crf(other, noise, mask=mask)
        assert torch.equal(found[:, mask], again[:, mask])
        torch.testing.assert_close(again[:, ~mask], noise[:, ~mask].softmax(0))

    def test_all_and_none(self):
        image, log_p = picture(), guesses()
        everything = torch.ones(24, 32, dtype=torch.bool)
        assert torch.equal(dense_crf(image, log_p, mask=everything), dense_crf(image, log_p))
        torch.testing.assert_close(dense_crf(image, log_p, mask=~everything), log_p.softmax(0))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"image": torch.zeros(3, 24, 32)}, "image: must be uint8"),
            ({"image": torch.zeros(1, 24, 32, dtype=torch.uint8)}, "(1, 24, 32)"),
            ({"image": torch.zeros(3, 24, 31, dtype=torch.uint8)}, "(3, 24, 31)"),
            ({"image": torch.zeros(1, 3, 24, 32, dtype=torch.uint8)}, "(1, 3, 24, 32)"),
            ({"log_probabilities": torch.zeros(3, 24, 32, dtype=torch.int64)}, "floating point"),
            ({"log_probabilities": torch.zeros(24, 32)}, "(24, 32)"),
            ({"log_probabilities": torch.zeros(0, 24, 32)}, "no classes"),
            ({"log_probabilities": torch.full((3, 24, 32), torch.nan)}, "NaN"),
            ({"log_probabilities": torch.full((3, 24, 32), torch.inf)}, "infinite"),
            ({"mask": torch.ones(24, 32)}, "mask: must be bool"),
            ({"mask": torch.ones(24, 31, dtype=torch.bool)}, "(24, 31)"),
            ({"iterations": -1}, "iterations -1"),
            ({"gaussian": Gaussian(sxy=0)}, "sxy 0"),
            ({"bilateral": Bilateral(srgb=float("nan"))}, "srgb nan"),
            ({"bilateral": Bilateral(compat=-1)}, "compat -1"),
            ({"bilateral": Bilateral(sxy=1e-6, srgb=1e-6)}, "too narrow"),
        ],
    )
    def test_one_sentence(self, change, said):
        with pytest.raises(DataError) as error:
            dense_crf(**({"image": picture(), "log_probabilities": guesses()} | change))
        assert said in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("masked", [False, True])
def test_images_taken_at_once_do_not_see_one_another(masked, monkeypatch):
    """As a GPU takes them: to the bit what each gives by itself."""
    torch.manual_seed(1)
    images = torch.randint(0, 256, (5, 3, 16, 20), dtype=torch.uint8)
    logits = torch.randn(5, 4, 16, 20)
    mask = torch.rand(5, 16, 20) > 0.3 if masked else None
    alone = dense_crf(images, logits, mask=mask)
    monkeypatch.setattr(mean_field, "_images_at_once", lambda logits: 3)
    assert torch.equal(dense_crf(images, logits, mask=mask), alone)


def test_a_gpu_takes_several_small_images_at_once():
    on_gpu = torch.empty(16, 2, 320, 320, device="meta")
    assert mean_field._images_at_once(on_gpu) == 8
    assert mean_field._images_at_once(torch.empty(3, 2, 2048, 2048, device="meta")) == 1
    assert mean_field._images_at_once(torch.empty(16, 2, 8, 8)) == 1
    assert mean_field._images_at_once(on_gpu[:0]) == 1
