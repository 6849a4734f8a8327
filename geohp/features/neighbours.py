"""Similar images: for each of a set the nearest others by the cosine of their mean features, one drawn at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.errors import DataError
from geohp.features.sampler import FeatureSampler
from geohp.progress import Progress, no_progress

_CHUNK = 1 << 22
"""Similarities compared at once: 16 MB of them, however many images there are."""


class NearestImages:
    """The features of an image drawn from each image's nearest ones.

    Args:
        features: of the images; all are looked at once.
        count: how many nearest ones to draw from; less where there are fewer others.
        seed: of the draws.
        progress: of looking at the images.

    Attributes:
        nearest: (n, count) int64, of every image that can be read the places of the nearest ones, the nearest first.

    Raises:
        DataError: there is a single image.
    """

    def __init__(
        self, features: FeatureSampler, count: int, *, seed: int = 0, progress: Progress = no_progress
    ) -> None:
        if len(features) < 2:
            raise DataError("a single image has no similar ones", "give more imagery, or method.neighbour_weight = 0")
        self._features = features
        self.nearest = nearest_rows(mean_features(features, progress), min(count, len(features) - 1))
        self._generator = Generator().manual_seed(seed)

    def draw(self, indices: Tensor) -> Tensor:
        """Feature maps (B, C, h, w) of one similar image for each of the images of these numbers (B,)."""
        nearest = self.nearest[self._features.places(indices)]
        chosen = torch.randint(nearest.shape[1], (len(nearest), 1), generator=self._generator)
        return torch.cat(list(self._features.maps(nearest.gather(1, chosen)[:, 0])))

    def state(self) -> Tensor:
        """What decides over coming draws, for :meth:`restore`."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go on where :meth:`state` was asked."""
        self._generator.set_state(state.cpu())


@torch.no_grad()
def mean_features(features: FeatureSampler, progress: Progress = no_progress) -> Tensor:
    """The mean of each image's patches as a unit vector, (n, C) float32 on the CPU, in the order of the images."""
    rows: list[Tensor] = []
    done = 0
    for maps in features.maps(torch.arange(len(features))):
        rows.append(F.normalize(maps.mean((2, 3)), dim=1).cpu())
        done += len(maps)
        progress("looking for similar images", done, len(features))
    return torch.cat(rows)


def nearest_rows(rows: Tensor, count: int) -> Tensor:
    """The nearest other rows of each by their product, the nearest first; never all pairs at once.

    Args:
        rows: (n, C) unit vectors.
        count: how many, less than n.

    Returns:
        (n, count) int64.
    """
    at_once = max(1, _CHUNK // len(rows))
    nearest, similar = torch.empty(len(rows), count, dtype=torch.long), rows.new_empty(at_once, len(rows))
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        # In one place: blocks made anew each time would leave gaps in memory, and so take ever more of it.
        block = torch.mm(part, rows.T, out=similar[: len(part)])
        block.diagonal(start).fill_(-torch.inf)  # itself
        nearest[start : start + len(part)] = block.topk(count).indices
    return nearest
