"""Looks, and what they would be in clear air and full, white light: faults are made up for, and nothing else is."""

import pytest
import torch
import torch.nn.functional as F

from geohp.methods.kmeans.covers import is_open_ground, is_vegetation
from geohp.methods.kmeans.light import Looks, excess_green

GREY, GREEN = (0.9, 0.9, 0.9), (0.27, 0.35, 0.2)


def patches(*colours, texture=0.02, each=100):
    """Of each colour so many."""
    rows = torch.tensor(colours).repeat_interleave(each, 0)
    textures = torch.full((len(rows),), texture)
    return Looks(rows, textures, 2 * textures)


def test_the_index_is_that_of_the_paper():
    colours = torch.tensor([[0.2, 0.2, 0.2], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.1, 0.3, 0.1], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(excess_green(colours), torch.tensor([0.0, 2.0, -1.0, 0.8, 0.0]))


def test_groups_look_like_the_mean_of_their_patches():
    colours = torch.tensor([[0.2, 0.4, 0.6], [0.4, 0.6, 0.8], [1.0, 0, 0]])
    looks = Looks(colours, torch.tensor([0.1, 0.3, 0.5]), torch.tensor([0.2, 0.4, 0.7]))
    means = looks.means(torch.tensor([2, 2, 0]), 3)
    torch.testing.assert_close(means.colours, torch.tensor([[1.0, 0, 0], [0, 0, 0], [0.3, 0.5, 0.7]]))
    torch.testing.assert_close(means.textures, torch.tensor([0.5, 0, 0.2]))
    torch.testing.assert_close(means.around, torch.tensor([0.7, 0, 0.3]))


def test_haze_is_taken_off_and_light_made_up_for_within_bounds():
    colours = torch.tensor([[0.5, 0.6, 0.4], [0.3, 0.3, 0.3], [0.7, 0.7, 0.7]]).repeat_interleave(100, 0)
    textures = torch.full((300,), 0.05)
    looks = Looks(colours, textures, 2 * textures).in_clear_light()  # from 0.25 to 0.75: haze of 0.1
    gain = 0.8 / 0.65
    torch.testing.assert_close(looks.colours, (colours - 0.1) * gain)
    torch.testing.assert_close(looks.textures, textures * gain)
    torch.testing.assert_close(looks.around, 2 * textures * gain)
    bluish = Looks(colours + torch.tensor([0, 0, 0.06]), textures, textures).in_clear_light()  # 0.02 more on average
    torch.testing.assert_close(bluish.colours, (colours - 0.12) * gain)
    sand = Looks(torch.full((50, 3), 0.85), torch.full((50,), 0.01), torch.full((50,), 0.01)).in_clear_light()
    torch.testing.assert_close(sand.colours, torch.full((50, 3), (0.85 - 0.25) * 0.8 / 0.61))
    assert is_open_ground(sand).all()
    framed = Looks(*(F.pad(part, (0,) * (2 * part.ndim - 2) + (0, 30)) for part in (colours, textures, textures)))
    torch.testing.assert_close(framed.in_clear_light().colours[:300], (colours - 0.1) * gain)
    nothing = framed[slice(300, None)].in_clear_light()
    assert not nothing.colours.any()
    night = Looks(torch.full((50, 3), 0.1), torch.full((50,), 0.0), torch.full((50,), 0.0)).in_clear_light()
    torch.testing.assert_close(night.colours, torch.full((50, 3), 0.2))


@pytest.mark.parametrize("cast", [(0.88, 1, 1.1), (0.8, 1, 1.2), (0.95, 1, 1.05)])
def test_a_cold_cast_is_balanced_by_what_is_brightest(cast):
    looks = patches(GREY, GREEN, (0.1, 0.1, 0.1))
    cold = Looks(looks.colours * 0.8 * torch.tensor(cast), looks.textures, looks.around).in_clear_light()
    shares = cold.colours[100:200] / cold.colours[100:200].sum(-1, keepdim=True)
    torch.testing.assert_close(shares, looks.colours[100:200] / looks.colours[100:200].sum(-1, keepdim=True))
    assert is_vegetation(cold).sum() == 100


@pytest.mark.parametrize(
    "brightest",
    [(0.88, 0.9, 0.91), (0.9, 0.9, 0.7), (0.5, 0.7, 0.6), (0.6, 0.8, 1.1), (0.9, 0.7, 0.8), (0.55, 0.8, 0.9)],
    ids=["nearly white", "sand", "a forest", "blue roofs", "pink roofs", "a turquoise sea"],
)
def test_what_is_bright_and_of_another_colour_tells_of_no_cast(brightest):
    looks = patches(brightest, GREEN, (0.1, 0.1, 0.1), texture=0.0)
    bright = Looks(looks.colours * 0.85, looks.textures, looks.around)
    seen = bright.in_clear_light()
    torch.testing.assert_close(F.normalize(seen.colours, dim=1), F.normalize(bright.colours, dim=1))


def test_what_is_clipped_is_no_white():
    cold = torch.tensor([0.88, 1, 1.1])
    looks = patches((1.0, 1.0, 1.0), (0.7, 0.7, 0.7), GREEN, (0.1, 0.1, 0.1))
    colours = torch.cat([looks.colours[:100], looks.colours[100:] * cold])
    seen = Looks(colours, looks.textures, looks.around).in_clear_light()
    white = seen.colours[100:200]
    torch.testing.assert_close(white, white[:, :1].expand(-1, 3))
    everything = patches((1.0, 1.0, 1.0), texture=0.0)
    torch.testing.assert_close(everything.in_clear_light().colours, torch.full((100, 3), 0.75 * 0.8 / 0.75))


@pytest.mark.parametrize(("share", "index"), [(1, 0.2805), (0.7, 0.1963), (0.5, 0.18), (0.2, 0.1122)])
def test_only_pale_colours_are_made_stronger_and_no_grey_is_coloured(share, index):
    green = torch.tensor(GREEN)
    grey = green.mean()
    looks = patches(GREY, tuple((grey + share * (green - grey)).tolist()), (0.1, 0.1, 0.1)).in_clear_light()
    torch.testing.assert_close(excess_green(looks.colours[100]), torch.tensor(index), atol=1e-4, rtol=0)
    torch.testing.assert_close(looks.colours.mean(-1)[100], grey)
    torch.testing.assert_close(looks.colours[200], torch.full((3,), 0.1))


@pytest.mark.parametrize("colour", [(0.5, 0.45, 0.4), (0.5, 0.5, 0.5), (0.4, 0.45, 0.55)])
def test_where_nothing_grows_nothing_is_made_green(colour):
    looks = patches(GREY, colour, (0.1, 0.1, 0.1)).in_clear_light()
    assert not is_vegetation(looks).any()
