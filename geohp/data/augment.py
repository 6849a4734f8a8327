"""Augmentation of images in [0, 1]: before normalisation, so that nothing but real colours is clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from geohp.data.base import Item

KINDS = ("crop", "flip", "turn", "colour")
_SMALLEST_SHARE = 0.5  # of an image's area, that a random crop takes

# The view that HP compares an image with, as the authors' code draws it.
_JITTER, _HUE = 0.3, 0.1
_GREY_RATE, _BLUR_RATE = 0.2, 0.5
_BLUR_PX, _BLUR_SIGMA_PX = 5, (0.1, 2.0)


def photometric(images: Tensor, generator: Generator) -> Tensor:
    """The augmented view of HP: other colours, sometimes grey or blurred, each image its own; geometry is untouched.

    Brightness, contrast and saturation by factors from 0.7 to 1.3 and the hue by up to a tenth of a turn, in random
    order; grey in one of five; blurred in one of two by a Gaussian of 5 px with a deviation from 0.1 to 2 px. The
    functions are torchvision's, and the draws come in its order. Where there are not three bands, the grey of a pixel
    is the mean of its bands, and there is no hue to turn.

    Args:
        images: (B, bands, H, W) in [0, 1], both sides at least 3 px. The authors' code takes images that are normalised
            already, which torchvision's functions cut off at 0 and 1: that is not repeated here.
        generator: source of randomness, on the CPU.

    Returns:
        The same shape, in [0, 1].
    """
    return torch.stack([_view(image, generator) for image in images])


def _view(image: Tensor, generator: Generator) -> Tensor:
    """One image (bands, H, W), drawn anew."""

    def draw(low: float, high: float) -> float:
        return float(torch.empty(1).uniform_(low, high, generator=generator))

    changes = _RGB_CHANGES if len(image) == 3 else _BAND_CHANGES
    order = torch.randperm(len(_RGB_CHANGES), generator=generator).tolist()
    amounts = [draw(1 - _JITTER, 1 + _JITTER) for _ in range(3)] + [draw(-_HUE, _HUE)]
    for number in order:
        image = changes[number](image, amounts[number])
    if float(torch.rand(1, generator=generator)) < _GREY_RATE:
        image = _grey(image).expand_as(image)
    if float(torch.rand(1, generator=generator)) <= _BLUR_RATE:
        sigma = draw(*_BLUR_SIGMA_PX)
        image = functional.gaussian_blur(image, [_BLUR_PX, _BLUR_PX], [sigma, sigma])
    return image


def _grey(image: Tensor) -> Tensor:
    """(1, H, W): the luma of three bands, the mean of others."""
    return functional.rgb_to_grayscale(image) if len(image) == 3 else image.mean(0, keepdim=True)


def _blend(other: Tensor, image: Tensor, share: float) -> Tensor:
    return torch.lerp(other, image, share).clamp(0, 1)


_RGB_CHANGES: tuple[Callable[[Tensor, float], Tensor], ...] = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
)
_BAND_CHANGES: tuple[Callable[[Tensor, float], Tensor], ...] = (
    lambda image, factor: _blend(torch.zeros_like(image), image, factor),
    lambda image, factor: _blend(_grey(image).mean().expand_as(image), image, factor),
    lambda image, factor: _blend(_grey(image).expand_as(image), image, factor),
    lambda image, turn: image,
)


def seeded(*numbers: int) -> Generator:
    """A generator on the CPU whose draws depend on all of the numbers, and on how many they are."""
    state = 0
    for number in numbers:
        # An odd multiplier keeps what differs different; what is counted here is small beside it.
        state = (state * 0x9E3779B97F4A7C15 + number + 1) % (1 << 63)
    return Generator().manual_seed(state)


class Augmentation:
    """Random changes of images, masks with them: the same for the same seed, epoch and image, whoever reads it.

    Args:
        kinds: of :data:`KINDS`: ``crop`` (a square of half to all of the image's area, enlarged to its size), ``flip``
            (each axis every other time), ``turn`` (by 0 to 3 quarters) and ``colour`` (:func:`photometric`).
        seed: of all draws.

    Raises:
        ValueError: for an unknown kind.
    """

    def __init__(self, kinds: Iterable[str], seed: int = 0) -> None:
        self.kinds, self.seed = frozenset(kinds), seed
        if unknown := self.kinds.difference(KINDS):
            raise ValueError(f"no augmentation is called {min(unknown)}; there are {', '.join(KINDS)}")

    def __call__(self, item: Item, epoch: int, index: int) -> Item:
        """The item with ``image`` (bands, H, W) and, where it has them, ``mask`` and ``segments`` changed together.

        Quarter turns are for square images.
        """
        generator = seeded(self.seed, epoch, index)
        image = item["image"]
        optional = {"mask": item.get("mask"), "segments": item.get("segments")}
        maps = {name: labels for name, labels in optional.items() if labels is not None}
        if "colour" in self.kinds:
            image = photometric(image[None], generator)[0]
        if "crop" in self.kinds:
            image, maps = _cropped(image, maps, generator)
        axes: list[int] = []
        if "flip" in self.kinds:
            axes = [axis for axis, draw in zip((-2, -1), torch.rand(2, generator=generator), strict=True) if draw < 0.5]
        quarters = int(torch.randint(4, (1,), generator=generator)) if "turn" in self.kinds else 0
        changed = {n: t.flip(axes).rot90(quarters, (-2, -1)).contiguous() for n, t in {"image": image, **maps}.items()}
        return cast(Item, {**item, **changed})


def _cropped(image: Tensor, maps: dict[str, Tensor], generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """A random square of the image at the image's size: bilinear, and labels (H, W) by the nearest pixel."""
    height, width = image.shape[-2:]
    share, down, right = torch.rand(3, generator=generator).tolist()
    scale = (_SMALLEST_SHARE + (1 - _SMALLEST_SHARE) * share) ** 0.5
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = int(down * (height - rows + 1)), int(right * (width - cols + 1))
    image = image[:, top : top + rows, left : left + cols]
    image = F.interpolate(image[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    cut = {}
    for name, labels in maps.items():
        labels = labels[None, None, top : top + rows, left : left + cols]
        resized = F.interpolate(labels.float(), size=(height, width), mode="nearest-exact")
        cut[name] = resized[0, 0].to(labels.dtype)
    return image, cut
