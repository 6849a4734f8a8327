"""What classes look like is the mean of their patches."""

import pytest
import torch

from geohp.classes import default_classes
from geohp.colours import spread_colours
from geohp.model.appearance import LOOKS, coloured_by_look, natural_colours, patch_colours, patch_looks


def test_a_patch_has_the_mean_colour_of_its_valid_pixels():
    images = torch.rand(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(patch_colours(images, (2, 3))[0, :, 1, 2], images[0, :3, 2:4, 4:6].mean((1, 2)))
    valid = torch.ones(1, 4, 6, dtype=torch.bool)
    valid[0, 2, 4:6] = False
    means = patch_colours(images * valid, (2, 3), valid)
    assert torch.allclose(means[0, :, 1, 2], images[0, :3, 3, 4:6].mean(1))
    valid[0, 2:4, 4:6] = False
    assert patch_colours(images * valid, (2, 3), valid).isfinite().all()
    grey = patch_colours(images[:, :2], (2, 3))[0]
    assert torch.equal(grey[0], grey[2])
    assert torch.allclose(grey[1, 0, 0], images[0, 0, :2, :2].mean())


def test_classes_get_the_colours_of_their_patches():
    colours = torch.tensor([[0.1, 0.5, 0.1], [0.3, 0.7, 0.3], [0.1, 0.1, 0.5]])
    classes = coloured_by_look(default_classes(4), colours, torch.tensor([2, 2, 0]))
    looks = [[0.1, 0.1, 0.5], [float("nan")] * 3, [0.2, 0.6, 0.2], [float("nan")] * 3]
    assert [entry.colour for entry in classes] == spread_colours(looks)
    assert [entry.name for entry in classes] == ["class 0", "class 1", "class 2", "class 3"]
    fixed = coloured_by_look(default_classes(3), colours, torch.tensor([2, 2, 0]), chosen=("#ff0000", "#00ff00"))
    assert [entry.colour for entry in fixed[:2]] == ["#ff0000", "#00ff00"]
    assert fixed[2].rgb[1] > max(fixed[2].rgb[0], fixed[2].rgb[2])


def test_hues_are_of_the_first_classes_that_have_no_colour_chosen():
    colours, clusters = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.9, 0.9, 0.9]]), torch.tensor([0, 1, 2])
    hues = ("#5f9b4a", "#4a86b8")
    looks = colours.double().numpy()
    found = [entry.colour for entry in coloured_by_look(default_classes(3), colours, clusters, hues=hues)]
    assert found == spread_colours(looks, hues=hues)
    found = [entry.colour for entry in coloured_by_look(default_classes(3), colours, clusters, ["#ff0000"], hues)]
    assert found == ["#ff0000", *spread_colours(looks[1:], ["#ff0000"], hues[1:])]


def test_looks_are_means_and_deviations_of_what_is_valid():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 4, 16, 24, generator=generator)
    valid = torch.rand(2, 16, 24, generator=generator) > 0.3
    looks = patch_looks(images * valid[:, None], (2, 3), valid)
    assert looks.shape == (2, LOOKS, 2, 3)
    inside = images[1, :3, 8:16, 16:24][:, valid[1, 8:16, 16:24]]
    torch.testing.assert_close(looks[1, :3, 1, 2], inside.mean(1))
    torch.testing.assert_close(looks[1, 3, 1, 2], inside.std(1, correction=0).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(patch_looks(images, (2, 3))[:, :3], patch_colours(images, (2, 3)))


@pytest.mark.parametrize(("side", "reach"), [(8, 2), (14, 1), (16, 1)])
def test_what_is_around_a_patch_is_told_alike_whatever_the_size_of_patches(side, reach):
    images = torch.full((1, 3, 9 * side, 9 * side), 0.5)
    images[..., 4 * side : 5 * side : 2, 4 * side : 5 * side] = 0.7
    texture, around = patch_looks(images, (9, 9))[0, 3:]
    assert texture.nonzero().tolist() == [[4, 4]]
    assert (around > 0).nonzero().tolist() == [
        [row, column] for row in range(4 - reach, 5 + reach) for column in range(4 - reach, 5 + reach)
    ]
    assert torch.equal(around.unique(), torch.tensor([0.0, float(texture[4, 4])]))


def test_infrared_becomes_green_and_bands_in_another_order_are_sorted():
    near, red, green, blue = torch.rand(4, 1, 2, 2)
    natural = natural_colours(torch.stack([near, red, green], 1), ("nir", "red", "green"))
    torch.testing.assert_close(natural, torch.stack([red, 0.75 * green + 0.25 * near, green], 1))
    four = natural_colours(torch.stack([red, green, blue, near], 1), ("red", "green", "blue", "nir"))
    torch.testing.assert_close(four, natural)
    turned = torch.stack([blue, green, red], 1)
    assert torch.equal(natural_colours(turned, ("blue", "green", "red")), torch.stack([red, green, blue], 1))
    for unknown in ((None,) * 3, ("nir", "red", None), ("red", "green"), ()):
        assert torch.equal(natural_colours(turned, unknown), turned)
    assert torch.equal(natural_colours(turned[:, :1], ("red", "green", "blue")), turned[:, :1])
