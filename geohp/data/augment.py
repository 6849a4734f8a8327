"""Augmentation of images in [0, 1]: before normalisation, so that nothing but real colours is clipped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.data.base import Item

KINDS = ("crop", "flip", "turn", "colour")
_SMALLEST_SHARE = 0.5  # of an image's area, that a random crop takes

# Luma weights of ITU-R BT.601, for images of three bands.
_LUMA = (0.299, 0.587, 0.114)


def photometric(images: Tensor, generator: Generator, strength: float = 0.3) -> Tensor:
    """Random brightness, contrast and saturation, each image its own; geometry is untouched.

    Args:
        images: (B, bands, H, W) in [0, 1].
        generator: source of randomness, on the CPU.
        strength: factors are drawn from [1 - strength, 1 + strength].

    Returns:
        The same shape, in [0, 1].
    """

    def factor() -> Tensor:
        draw = torch.rand(len(images), 1, 1, 1, generator=generator)
        return (1 + strength * (2 * draw - 1)).to(images)

    images = images * factor()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor()
    weights = torch.tensor(_LUMA if images.shape[1] == 3 else [1 / images.shape[1]] * images.shape[1]).to(images)
    grey = (images * weights[:, None, None]).sum(1, keepdim=True)
    return (grey + (images - grey) * factor()).clamp(0, 1)


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
