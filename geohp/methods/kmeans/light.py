"""What patches look like, and what they would look like in clear air and full, white light.

Imagery may be hazy, dark, pale or of a cold cast throughout. Rules about the looks of land covers are for none of
these, so that is made up for first. Each step leaves imagery without that fault as it is (docs/accuracy.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BLACK = 1 / 255
"""What is no brighter was not seen."""
_CLEAR, _MOST_HAZE = 0.15, 0.25
"""Of a hundred patches one has parts darker than 0.15 where the air is clear; haze adds no more than 0.25."""
_SKYLIGHT = 1.15
"""Shadows under a blue sky are at most so much bluer than green, without any haze."""
_SUNLIT, _MOST_GAIN = 0.8, 2.0
"""And one has parts brighter than 0.8 in full light; less light is made up for by up to twice as much."""
_BRIGHTEST, _CLIPPED = 0.98, 0.97
"""Quantile from which on patches are the brightest, of those whose parts stay below: what is clipped is white."""
_WHITE, _MOST_CAST = 1.03, 1.3
"""Their bands differ by less than such a factor in white light; where by more than the other, they are coloured."""
_GREENEST, _MOST_PALE, _DIM = 0.18, 2.0, 0.1
"""Of a hundred patches brighter than the last, one has that excess green index where plants grow; paler colours are
made up to twice as strong."""


@dataclass(frozen=True)
class Looks:
    """What patches look like.

    Attributes:
        colours: (n, 3) mean red, green and blue in [0, 1].
        textures: (n,) standard deviation within the patch, a mean over the bands.
        around: (n,) the largest of those of the patches around it, itself included.
    """

    colours: Tensor
    textures: Tensor
    around: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Looks:
        """What :func:`geohp.model.appearance.patch_looks` has found, as rows (n, 5)."""
        return cls(rows[:, :3], rows[:, 3], rows[:, 4])

    def __getitem__(self, rows: Tensor | slice) -> Looks:
        return Looks(self.colours[rows], self.textures[rows], self.around[rows])

    def is_black(self) -> Tensor:
        """(n,) which are black throughout, as the frames of images are that do not say where they hold no data."""
        return self.colours.mean(-1) <= _BLACK

    def in_clear_light(self) -> Looks:
        """As they would be in clear air and full, white light, their colours as strong as those of plants are."""
        seen = self[~self.is_black()]
        if not len(seen.colours):
            return self
        haze = _haze(seen)
        brightest = (seen.colours.mean(-1) + seen.textures).quantile(0.99) - haze[0]
        gain = _SUNLIT / brightest.clamp(_SUNLIT / _MOST_GAIN, _SUNLIT)
        balance = gain / _cast(seen, haze)
        looks = Looks((self.colours - haze).clamp_min(0) * balance, self.textures * gain, self.around * gain)
        return looks._in_full_colour()

    def cpu(self) -> Looks:
        """The same on the CPU."""
        return Looks(self.colours.cpu(), self.textures.cpu(), self.around.cpu())

    def means(self, groups: Tensor, count: int) -> Looks:
        """Of so many groups, given the group (n,) of each patch."""
        rows = torch.cat([self.colours, self.textures[:, None], self.around[:, None]], 1)
        sums = torch.zeros(count, rows.shape[1]).to(rows).index_add_(0, groups, rows)
        return Looks.of(sums / torch.bincount(groups, minlength=count).clamp_min(1).to(rows)[:, None])

    def _in_full_colour(self) -> Looks:
        """With colours as strong as they are where plants grow; of greys none are made."""
        lit = self.colours[self.colours.mean(-1) > _DIM]
        if not len(lit):
            return self
        greenest = excess_green(lit).quantile(0.99)
        if greenest <= 0:
            return self
        grey = self.colours.mean(-1, keepdim=True)
        colours = torch.lerp(grey, self.colours, (_GREENEST / greenest).clamp(1, _MOST_PALE))
        return Looks(colours.clamp_min(0), self.textures, self.around)


def excess_green(colours: Tensor) -> Tensor:
    """2 g - r - b of colours (..., 3), where r, g, b are their shares of R + G + B: from -1 to 2, 0 for greys.

    The index of Woebbecke et al. (Color indices for weed identification under various soil, residue, and lighting
    conditions, Transactions of the ASAE 38, 1995).
    """
    red, green, blue = band_shares(colours).unbind(-1)
    return 2 * green - red - blue


def natural_from_infrared(near: Tensor, red: Tensor, green: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue that look natural, of near infrared, red and green of one shape, as SPOT's images have them.

    Green is three parts of green and one of near infrared, blue is green: plants are green then, and water is not.
    """
    return red, 0.75 * green + 0.25 * near, green


def band_shares(colours: Tensor) -> Tensor:
    """Each band's share of the sum R + G + B of colours (..., 3); nothing where all are 0."""
    total = colours.sum(-1, keepdim=True)
    return colours / total.clamp_min(torch.finfo(colours.dtype).tiny)


def _haze(seen: Looks) -> Tensor:
    """(3,) what the air adds to each band.

    Haze adds light, which shows where there is none: dark-object subtraction (Chavez, An improved dark-object
    subtraction technique for atmospheric scattering correction of multispectral data, Remote Sensing of Environment 24,
    1988). All bands lose the same, since the darkest ground of green country is green itself, but blue up to twice as
    much where the haze is bluish.
    """
    _, green, blue = (seen.colours - seen.textures[:, None]).quantile(0.01, dim=0)
    haze = ((seen.colours.mean(-1) - seen.textures).quantile(0.01) - _CLEAR).clamp(0, _MOST_HAZE)
    bluish = torch.minimum((blue - green).clamp_min(0), haze) * (blue > _SKYLIGHT * green)
    return torch.stack([haze, haze, haze + bluish])


def _cast(seen: Looks, haze: Tensor) -> Tensor:
    """(3,) the colour of the light, where it is colder than white; green is 1.

    The brightest of what is seen is white, or nearly (Land and McCann, Lightness and retinex theory, Journal of the
    Optical Society of America 61, 1971). Ripe fields and sand are bright and warm, so that only a cold cast is told.
    """
    brightness = seen.colours.mean(-1) + seen.textures
    whole = seen.colours.amax(-1) + seen.textures < _CLIPPED
    neutral = torch.ones_like(haze)
    if not bool(whole.any()):
        return neutral
    brightest = whole & (brightness >= brightness[whole].quantile(_BRIGHTEST))
    colour = (seen.colours[brightest] - haze).clamp_min(0).mean(0)
    cast = colour / colour[1].clamp_min(torch.finfo(colour.dtype).tiny)
    red, _, blue = cast
    cold = 1 / _MOST_CAST < red < _WHITE < blue < _MOST_CAST
    return torch.stack([red.clamp_max(1), cast[1], blue]) if cold else neutral
