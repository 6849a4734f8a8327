"""Images seen through a frozen backbone."""

from __future__ import annotations

import torch
from torch import Tensor

from geohp.backbones.base import Backbone, PatchFeatures
from geohp.backbones.memory import half_as_many
from geohp.backbones.weights import fingerprint
from geohp.errors import ModelError

_LOT = 4
"""Images that a CPU computes at once."""


class FrozenEncoder:
    """Features of images in [0, 1], on the backbone's device, in float32.

    On a CPU an image's features are the same bits whatever it is computed together with. On a GPU matrix products are
    in bfloat16, as those of :class:`geohp.inference.engine.forward.Runner` are, whatever the caller's autocasting. In
    memory, the channels of a patch lie side by side, as heads and losses want them.

    Args:
        backbone: fitted before anything but :meth:`normalise` is called.
        batch_size: images there are at most at a time.
        exact: products in float32 on a GPU, too.
    """

    def __init__(self, backbone: Backbone, batch_size: int, *, exact: bool = False) -> None:
        self.backbone, self.exact = backbone, exact
        self._lot = min(batch_size, _LOT)
        self._most: int | None = None  # images that a GPU's memory has been found to do for
        self._mean, self._std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        return self.backbone.device

    @property
    def half(self) -> bool:
        """Whether products are in bfloat16."""
        return self.device.type == "cuda" and not self.exact

    @property
    def images_at_once(self) -> int | None:
        """How many are computed together, always; ``None`` where it does not matter."""
        return self._lot if self.device.type == "cpu" else None

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, bands, H, W) in [0, 1] as the backbone wants them, on its device."""
        # Once: what is not page-locked, as these are not, may make a GPU's host wait each time.
        self._mean, self._std = self._mean.to(self.device), self._std.to(self.device)
        return (images.to(self.device, non_blocking=True) - self._mean) / self._std

    def __call__(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features of images (B, bands, H, W); where a GPU's memory does not do for all of them, of some at a time.

        Raises:
            ModelError: it does not do for a single one.
        """
        normalised = self.normalise(images)
        if self.images_at_once is None:
            return _channels_last(self._as_many_as_fit(normalised, affinities), len(images))
        # Products of few rows are added up in another order than those of many: each has equally many.
        lots = list(torch.split(normalised, self._lot))
        lots[-1] = torch.cat([lots[-1], lots[-1][-1:].expand(self._lot - len(lots[-1]), -1, -1, -1)])
        return _channels_last([self._patches(lot, affinities) for lot in lots], len(images))

    def _as_many_as_fit(self, normalised: Tensor, affinities: bool) -> list[PatchFeatures]:
        """Lots of features; they get smaller where memory runs out, and stay so."""
        while True:
            at_once = min(self._most or len(normalised), len(normalised))
            try:
                return [self._patches(lot, affinities) for lot in torch.split(normalised, at_once)]
            except torch.OutOfMemoryError as error:
                if at_once == 1:
                    raise ModelError(
                        f"device {self.device}: not enough memory for the features of a single image",
                        "give smaller ones, or another device",
                    ) from error
            self._most = half_as_many(at_once, self.device, "images")

    def _patches(self, lot: Tensor, affinities: bool) -> PatchFeatures:
        """Of normalised images, in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            patches = self.backbone(lot, affinities)
        weights = patches.affinities
        return PatchFeatures(patches.features.float(), None if weights is None else weights.float())

    def identity(self) -> dict[str, object]:
        """Everything about it that features depend on, in JSON's types."""
        backbone = self.backbone
        return {
            "torch": torch.__version__,
            "backbone": backbone.name,
            "block": backbone.block,
            "options": backbone.options(),
            "weights": fingerprint(backbone),
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            # Bits differ between devices, and on a CPU training is to repeat to the last.
            "device": self.device.type,
            "at once": self.images_at_once,
            **({"products": "bfloat16"} if self.half else {}),
        }


def _channels_last(lots: list[PatchFeatures], images: int) -> PatchFeatures:
    """The features of the first so many images, (B, C, h, w) with the channels last in memory."""
    features = torch.cat([lot.features.permute(0, 2, 3, 1) for lot in lots])[:images].contiguous().permute(0, 3, 1, 2)
    affinities = [lot.affinities for lot in lots if lot.affinities is not None]
    return PatchFeatures(features, torch.cat(affinities)[:images] if affinities else None)
