"""What lies around a patch has a say in its class: its neighbours, and colour."""

import pytest
import torch
import torch.nn.functional as F

from geohp.crf.mean_field import Bilateral, dense_crf
from geohp.methods.probes import ClusterProbe
from geohp.model.smoothing import cells_along, fit_to_colours, neighbourhood_shares


def test_shares_are_of_the_neighbourhood_near_patches_counting_more():
    torch.manual_seed(0)
    cosines = torch.rand(2, 3, 4, 5)
    own = (cosines / 0.05).softmax(1)
    shares = neighbourhood_shares(cosines, spread=0.5)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 4, 5))
    weights = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(shares[:, :, 2, 2], (own[:, :, 1:4, 1:4] * weights).sum((2, 3)) / 16)
    torch.testing.assert_close(shares[:, :, 0, 0], (own[:, :, :2, :2] * weights[1:, 1:]).sum((2, 3)) / 9)
    torch.testing.assert_close(shares[:, :, 3, 4], (own[:, :, 2:, 3:] * weights[:2, :2]).sum((2, 3)) / 9)


def test_a_single_patch_unlike_its_neighbours_goes_with_them_and_a_clear_one_stays():
    cosines = torch.zeros(1, 2, 5, 5)
    cosines[:, 0] = 0.3
    cosines[0, 1, 2, 2] = 0.32
    assert neighbourhood_shares(cosines, spread=0.5).argmax(1).sum() == 0
    cosines[0, 1, 2] = 0.9  # a road of one patch
    assert (neighbourhood_shares(cosines, spread=0.5).argmax(1)[0] == torch.tensor([0, 0, 1, 0, 0])[:, None]).all()


@pytest.mark.parametrize("common", [0.0, 3.0, 100.0])
def test_what_all_codes_have_in_common_leaves_neighbours_as_much_to_say(common):
    """Features of networks that end in ReLU share most of their direction: cosines of all classes are near 1."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.eye(4, 8)
    truth = torch.randint(0, 4, (3, 3), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
    codes = classes[truth].permute(2, 0, 1)[None] + 0.3 * torch.randn(1, 8, 12, 12, generator=generator)
    codes[:, 7] += common
    classes[:, 7] += common
    probe = ClusterProbe.of(classes)
    shares = neighbourhood_shares(probe.cosines(codes), probe.spread())
    assert (shares.argmax(1)[0] == truth).float().mean() > 0.95
    assert shares[:, :, 1, 1].max() > 0.8  # amid a block of one class


@pytest.mark.parametrize("bias", [-0.06, 0.06])
def test_a_border_between_classes_moves_towards_that_of_colours(bias):
    image = torch.full((1, 3, 256, 256), 0.2)
    image[..., 120:] = 0.7
    first = (torch.arange(256) < 120).float().view(16, 16).mean(1)
    first = 0.35 + 0.3 * first + bias  # so that patches say it of too many pixels, or too few
    shares = torch.stack([first, 1 - first])[None, :, None].expand(1, 2, 16, 16)
    true = (torch.arange(64) * 4 >= 120).long().expand(64, 64)
    patches = F.interpolate(shares, size=(64, 64), mode="bilinear").argmax(1)[0]
    wrong = (patches != true).sum()
    assert (fit_to_colours(shares, image).argmax(1)[0] != true).sum() <= wrong / 2
    # And where there is none, nothing moves so far.
    assert (fit_to_colours(shares, torch.full_like(image, 0.2)).argmax(1)[0] != true).sum() > wrong / 2


def test_a_small_thing_of_a_colour_of_its_own_stays_and_a_speck_without_one_goes():
    image = torch.full((1, 3, 64, 64), 0.4)
    shares = torch.full((1, 2, 4, 4), 0.3)
    shares[:, 0] = 0.7
    shares[0, :, 1, 1] = torch.tensor([0.1, 0.9])
    assert fit_to_colours(shares, image).argmax(1).sum() == 0
    image[..., 16:32, 16:32] = 0.8
    labels = fit_to_colours(shares, image).argmax(1)[0]
    assert labels[4:8, 4:8].all()
    assert labels.sum() == 16


def test_shares_are_those_of_the_crf_on_means_of_cells_with_the_kernel_in_pixels_of_the_image():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 42, 84, generator=generator)
    shares = torch.rand(1, 3, 3, 6, generator=generator).softmax(1)
    cells = F.interpolate(image, size=(12, 24), mode="bilinear", antialias=True)[0]
    fine = F.interpolate(shares, size=(12, 24), mode="bilinear")[0].log()
    guide = (cells * 255).round().to(torch.uint8)
    expected = dense_crf(guide, fine, iterations=5, bilateral=Bilateral(sxy=67 / 3.5, compat=2.5))
    torch.testing.assert_close(fit_to_colours(shares, image)[0], expected.clamp_min(1e-5))


def test_images_of_a_batch_and_bands_beyond_three_do_not_matter():
    generator = torch.Generator().manual_seed(1)
    images, shares = (
        torch.rand(2, 5, 32, 32, generator=generator),
        torch.rand(2, 4, 2, 2, generator=generator).softmax(1),
    )
    together = fit_to_colours(shares, images)
    for number in range(2):
        alone = fit_to_colours(shares[number : number + 1], images[number : number + 1, :3])
        assert torch.equal(together[number : number + 1], alone)


@pytest.mark.parametrize(("patch_px", "cells"), [(1, 1), (2, 1), (4, 1), (8, 2), (14, 4), (16, 4), (32, 8)])
def test_cells_are_whole_pixels_at_least(patch_px, cells):
    assert cells_along(patch_px) == cells
    shares = fit_to_colours(torch.full((1, 2, 3, 2), 0.5), torch.rand(1, 1, 3 * patch_px, 2 * patch_px))
    assert shares.shape == (1, 2, 3 * cells, 2 * cells)


def test_a_class_that_is_nowhere_has_a_logarithm():
    shares = torch.zeros(1, 2, 2, 2)
    shares[:, 0] = 1
    assert fit_to_colours(shares, torch.zeros(1, 3, 16, 16)).log().isfinite().all()
