"""The images that a report shows, as the trained model sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geohp.backbones.base import PatchFeatures
from geohp.data.base import ImageSet, Item
from geohp.errors import DataError, GeohpError
from geohp.features.images import UNREADABLE
from geohp.features.sampler import FeatureSampler
from geohp.model.network import LandCoverModel
from geohp.reporting.figures import spread

_IMAGES = 16
_LOT = 4
"""Images whose features are computed at once."""


@dataclass(frozen=True)
class SampleImages:
    """Some images, as the trained model sees them.

    Attributes:
        images: (bands, H, W) each, in [0, 1], on the CPU.
        names: what they are called.
        patches: their features and affinities, on the model's device.
        clusters: (B, h, w) integer, on the CPU, the cluster of each patch.
        labels: (B, h, w) integer, on the CPU, the label at each patch's centre, negative where unknown; or ``None``.
    """

    images: tuple[Tensor, ...]
    names: tuple[str, ...]
    patches: PatchFeatures
    clusters: Tensor
    labels: Tensor | None

    def place(self, patch: int) -> tuple[int, int]:
        """Row and column of a patch."""
        return divmod(patch, self.patches.grid[1])


@torch.no_grad()
def load_sample_images(source: FeatureSampler, model: LandCoverModel, batch_size: int) -> SampleImages:
    """Up to 16 images, and no more than a step has, spread over the source; those that cannot be read are passed over.

    Raises:
        DataError, SceneError: none can be read.
    """
    items = readable_images(source.images, max(2, min(_IMAGES, batch_size)))
    images = tuple(item["image"].float() for item in items.values())
    pixels, numbers = torch.stack(images), torch.tensor(list(items))
    batches = [
        source.patches({"image": pixels[first : first + _LOT], "index": numbers[first : first + _LOT]})
        for first in range(0, len(images), _LOT)
    ]
    affinities = [batch.affinities for batch in batches if batch.affinities is not None]
    patches = PatchFeatures(
        torch.cat([batch.features for batch in batches]),
        torch.cat(affinities) if len(affinities) == len(batches) else None,
    )
    clusters = model.probe.scores(model.head(patches.features)).argmax(1).cpu()
    masks = [item["mask"] for item in items.values() if "mask" in item]
    labels = labels_at_centres(torch.stack(masks), patches.grid) if len(masks) == len(images) else None
    return SampleImages(images, tuple(map(source.images.name, items)), patches, clusters, labels)


def readable_images(images: ImageSet, most: int) -> dict[int, Item]:
    """Items by index, as many as can be read of up to so many that are spread over all.

    Raises:
        DataError, SceneError: none can be read.
    """
    return dict(read_spread(images, most))


def read_spread(images: ImageSet, most: int) -> Iterator[tuple[int, Item]]:
    """Those of :func:`readable_images`, one at a time; where there are none it ends with its errors."""
    read = False
    failure: GeohpError = DataError("no image can be read any more", "look whether files were moved")
    for index in spread(len(images), most):
        try:
            item = images[index]
        except GeohpError as error:
            failure = error
            continue
        if UNREADABLE not in item:  # else it is another image in its place
            read = True
            yield index, item
    if not read:
        raise failure


@torch.no_grad()
def predict_labels(image: Tensor, model: LandCoverModel) -> NDArray[np.uint8]:
    """Classes (H, W) of an image (bands, H, W) in [0, 1], from scores interpolated to its pixels."""
    scores = model(image[None].to(model.device))[:, : model.clusters]
    fine = F.interpolate(scores, size=image.shape[-2:], mode="bilinear", align_corners=False)
    labels: NDArray[np.uint8] = fine[0].argmax(0).cpu().numpy().astype(np.uint8)
    return labels


def labels_at_centres(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) at the centres of patches, -1 for 255."""
    rows, cols = (
        ((torch.arange(count) + 0.5) * side / count).long() for count, side in zip(grid, masks.shape[-2:], strict=True)
    )
    labels = masks[:, rows][:, :, cols].long()
    return torch.where(labels == 255, -1, labels)
