"""Weights that suit overhead imagery: which block to use, and what they were trained on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recommendation:
    """A backbone by name, and how it is best used on overhead imagery.

    Attributes:
        name: as :func:`geohp.backbones.factory.create_backbone` takes it; normalisation and positions follow from it.
        block: whose output to use, counted from 0; -1 is the last, after its final norm.
        trained_on: the images its authors trained it on.
        pixel_size_m: of these, in metres; ``None`` where they were of all sizes, or photographs.
        parameters: how many it has (``aerial``: in its first stage).
        licence: of the weights.
    """

    name: str
    block: int
    trained_on: str
    pixel_size_m: float | None
    parameters: float
    licence: str


RECOMMENDED = (
    Recommendation("aerial", -1, "orthophotos", 0.125, 0.15e6, "MIT"),
    Recommendation("vit_large_patch16_dinov3.sat493m", -1, "satellite images", 0.6, 303e6, "DINOv3 License"),
    Recommendation("vit_small_patch8_224.satdino", -1, "satellite images", None, 22e6, "Apache-2.0"),
    Recommendation("vit_small_patch16_224.satdino", -1, "satellite images", None, 22e6, "Apache-2.0"),
    Recommendation("vit_small_patch14_dinov2.lvd142m", 5, "photographs", None, 22e6, "Apache-2.0"),
    Recommendation("vit_small_patch16_dinov3.lvd1689m", -1, "photographs", None, 22e6, "DINOv3 License"),
    Recommendation("vit_small_patch8_224.dino", -1, "photographs", None, 22e6, "Apache-2.0"),
)


SUGGESTED = next(choice for choice in RECOMMENDED if "dinov2" in choice.name)
"""Of the vision transformers, the one for a computer without a GPU, and of the kind that was measured."""


def recommendation(name: str) -> Recommendation | None:
    """What is known of a backbone's weights by its name."""
    return next((choice for choice in RECOMMENDED if choice.name == name), None)
