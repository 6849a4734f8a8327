"""Pictures of a cluster to name it by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohp.raster.block import Block
from geohp.viewer.clusters import Cluster
from geohp.viewer.inputs import MapInputs
from geohp.viewer.pyramid import encode_image, read_colours

EXAMPLES = 6
"""Pictures of each cluster."""

_ALIKE = 5.0  # of 255, between means and deviations of two pictures that show the same
_FADED = 0.45  # of what is not the cluster, towards white


@dataclass(frozen=True)
class Example:
    """A place where a cluster is most itself.

    Attributes:
        block: the pixels.
        image: of them, as WebP in base64; what is not the cluster is faded.
    """

    block: Block
    image: str


@dataclass(frozen=True)
class _Picture:
    """A place as it looks.

    Attributes:
        block: the pixels.
        colours: (rows, cols, 4) uint8, see :class:`geohp.viewer.pyramid.Tile`.
        inside: (rows, cols) whether a pixel is of the cluster.
        look: (6,) mean and deviation of the cluster's red, green and blue.
    """

    block: Block
    colours: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    look: NDArray[np.float64]

    def faded(self) -> NDArray[np.uint8]:
        """The colours, those outside the cluster nearer to white."""
        colours = self.colours.copy()
        outside = ~self.inside & (colours[..., 3] > 0)
        colours[outside, :3] = np.rint(colours[outside, :3] * (1 - _FADED) + 255 * _FADED)
        return colours


def cluster_examples(inputs: MapInputs, cluster: Cluster) -> list[Example]:
    """Pictures of a cluster: its best places, those that look like a better one only where there are no others."""
    different: list[_Picture] = []
    alike: list[_Picture] = []
    for block in cluster.places:
        picture = _picture(inputs, block, cluster.entry.id)
        (alike if _looks_like_any(picture, different) else different).append(picture)
        if len(different) == EXAMPLES:
            break
    return [Example(picture.block, encode_image(picture.faded())) for picture in [*different, *alike][:EXAMPLES]]


def _picture(inputs: MapInputs, block: Block, label: int) -> _Picture:
    colours = read_colours(inputs, block)
    inside = inputs.read_labels(block) == label
    shown = colours[inside & (colours[..., 3] > 0), :3].astype(np.float64)
    look = np.concatenate([shown.mean(axis=0), shown.std(axis=0)]) if len(shown) else np.zeros(6)
    return _Picture(block, colours, inside, look)


def _looks_like_any(picture: _Picture, others: Iterable[_Picture]) -> bool:
    return any(np.abs(picture.look - other.look).max() < _ALIKE for other in others)
