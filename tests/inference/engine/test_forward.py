"""Forward passes: batches of one size, padded, resized, and cut to the channels asked for."""

import pytest
import torch
import torch.nn.functional as F

from geohp.inference.engine.forward import Runner


class Model:
    """Gives an image's bands and their sum; remembers what it was shown."""

    clusters, device = 3, torch.device("cpu")

    def __init__(self):
        self.shown = []

    def __call__(self, images):
        self.shown.append(tuple(images.shape))
        return torch.cat([images, images.sum(1, keepdim=True)], 1)


def images(count, side=8):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("count", "batches"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_any_number_of_windows_goes_through_in_batches_of_one_size(count, batches):
    model, shown = Model(), images(count)
    runner = Runner(model, 2, 10, (8, 8), 4)
    scores = runner(shown)
    assert torch.equal(scores, torch.cat([shown, shown.sum(1, keepdim=True)], 1))
    assert model.shown == [(2, 3, 8, 8)] * batches
    assert torch.equal(Runner(model, 2, 10, (8, 8), 3)(shown), shown)


@pytest.mark.parametrize(
    ("batch_size", "total", "at_once"), [(8, 0, 8), (8, 5, 5), (8, 8, 8), (8, 9, 5), (8, 17, 6), (1, 9, 1)]
)
def test_windows_are_spread_evenly_over_as_few_batches_as_can_be(batch_size, total, at_once):
    assert Runner(Model(), batch_size, total, (8, 8), 4).at_once == at_once


@pytest.mark.parametrize(("side", "at_once"), [(512, 1), (513, 1), (362, 2), (256, 4), (2000, 1), (8, 16)])
def test_a_cpu_is_given_no_more_pixels_than_a_window_of_512_px_has(side, at_once):
    assert Runner(Model(), 16, 10**6, (side, side), 4).at_once == at_once


def test_windows_are_resized_to_what_the_model_sees():
    model, shown = Model(), images(1, 16)
    scores = Runner(model, 1, 1, (8, 8), 3)(shown)
    assert model.shown == [(1, 3, 8, 8)]
    torch.testing.assert_close(scores, F.interpolate(shown, size=(8, 8), mode="bilinear", antialias=True))


def test_the_eight_symmetries_are_averaged():
    model, shown = Model(), images(2)
    scores = Runner(model, 2, 2, (8, 8), 4, tta=True)(shown)
    assert len(model.shown) == 8
    torch.testing.assert_close(scores[:, :3], shown)
    assert scores.dtype == torch.float32


def test_a_cpu_computes_in_full_and_what_a_gpu_halves_is_added_up_in_full():
    class Halves(Model):
        def __call__(self, images):
            self.shown.append(torch.is_autocast_enabled("cpu"))
            return super().__call__(images).bfloat16()

    model = Halves()
    scores = Runner(model, 2, 2, (8, 8), 4)(images(2))
    assert scores.dtype == torch.float32
    assert model.shown[0] is False
