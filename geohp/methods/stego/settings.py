"""The settings of STEGO. The weights and shifts of the three kinds of pairs are what its authors tune by data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from geohp.methods.settings import Bounds, MethodSettings, Settings, TrainingSize


@dataclass(frozen=True, kw_only=True)
class STEGORates(Settings):
    """Adam for everything; the published values."""

    head: Annotated[float, Bounds(gt=0)] = 5e-4
    linear_probe: Annotated[float, Bounds(gt=0)] = 5e-3
    cluster_probe: Annotated[float, Bounds(gt=0)] = 5e-3


@dataclass(frozen=True, kw_only=True)
class STEGOSettings(MethodSettings):
    """STEGO (ICLR 2022); symbols of the paper in brackets.

    Weights and shifts are those that the reference implementation ships for images of one's own.
    """

    name: Literal["stego"] = "stego"
    mirrored: ClassVar[bool] = True
    code_channels: Annotated[int, Bounds(ge=2)] = 70
    """Width of the codes."""
    self_weight: Annotated[float, Bounds(ge=0)] = 0.67
    """Weight of the pairs of an image with itself (lambda_self)."""
    self_shift: float = 0.18
    """Correspondence of features from which those pairs attract, below which they repel (b_self)."""
    neighbour_weight: Annotated[float, Bounds(ge=0)] = 0.25
    """Weight of the pairs of an image and a similar one (lambda_knn); 0 does without similar images."""
    neighbour_shift: float = 0.12
    """Correspondence from which those attract (b_knn)."""
    random_weight: Annotated[float, Bounds(ge=0)] = 0.63
    """Weight of the pairs of an image and any other of the batch (lambda_rand)."""
    random_shift: float = 0.46
    """Correspondence from which those attract (b_rand)."""
    nearest_images: Annotated[int, Bounds(ge=1)] = 7
    """Images that an image's similar one is drawn from, the nearest by the cosine of mean features."""
    random_pairs: Annotated[int, Bounds(ge=1)] = 5
    """Times that each image is paired with a random one in a step."""
    samples: Annotated[int, Bounds(ge=1)] = 11
    """Side of the square number of points at which a pair of images is compared."""
    pointwise: bool = True
    """Centre the correspondences of each point with the other image's (spatial centring)."""
    zero_clamp: bool = True
    """Codes that point away from each other are not pushed any further."""
    stabilise: bool = False
    """Codes with a cosine beyond 0.8 are not pulled any closer."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1
    """Share of channels dropped, per image."""
    refit_probe: bool = True
    """Settle the clusters by k-means on the trained codes; false keeps the published gradient-trained probe."""
    learning_rates: STEGORates = STEGORates()

    def resolve(self, size: TrainingSize) -> tuple[STEGOSettings, list[str]]:
        """No more neighbours than there are other images; a step of one image has no random pairs."""
        notes = []
        nearest = max(1, min(self.nearest_images, size.images - 1))
        if nearest < self.nearest_images:
            notes.append(
                f"similar images drawn from {nearest} instead of method.nearest_images = {self.nearest_images}"
            )
        if size.batch_size == 1:
            notes.append(
                "train.batch_size = 1: there are no random pairs of images to push apart, and codes will collapse; "
                "16 is published"
            )
        return replace(self, nearest_images=nearest), notes
