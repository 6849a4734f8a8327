"""What a trained model's classes look like: their colours, and vegetation gathered by its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geohp.config.experiment import ClassesConfig
from geohp.errors import GeohpError
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Method
from geohp.methods.kmeans.vegetation import gather_vegetation, name_vegetation
from geohp.model.appearance import CHANNELS, coloured_by_look, patch_colours
from geohp.model.card import ModelCard
from geohp.model.network import LandCoverModel
from geohp.training.sample_images import readable_images

logger = logging.getLogger(__name__)

_IMAGES = 64


@dataclass(frozen=True)
class Looks:
    """Patches as a method and as a person sees them.

    Attributes:
        codes: (n, D), on the CPU.
        colours: (n, 3) red, green, blue in [0, 1].
    """

    codes: Tensor
    colours: Tensor


@torch.no_grad()
def sample_looks(method: Method, features: FeatureSampler) -> Looks | None:
    """Of up to 64 images, spread over those that a method was trained on; ``None`` where none can be read any more."""
    try:
        items = readable_images(features.images, _IMAGES)
    except GeohpError as error:
        logger.warning("classes keep their default colours, and vegetation is not gathered: %s", error.problem)
        return None
    codes, colours = [], []
    for numbers in torch.split(torch.tensor(list(items)), features.batch_size):
        images = torch.stack([items[number]["image"].float() for number in numbers.tolist()])
        maps = method.head(features.patches({"image": images, "index": numbers}).features).float().cpu()
        codes.append(maps.permute(0, 2, 3, 1).flatten(0, 2))
        means = patch_colours(images, (maps.shape[-2], maps.shape[-1]))
        colours.append(means.permute(0, 2, 3, 1).reshape(-1, CHANNELS))
    return Looks(torch.cat(codes), torch.cat(colours))


def gather_by_look(method: Method, looks: Looks, card: ModelCard, classes: ClassesConfig, seed: int) -> ModelCard:
    """Gather vegetation where it covers much: the method's clusters change, and the names of classes in its card."""
    gathered = gather_vegetation(looks.codes, looks.colours, classes.clusters, extra=classes.extra_clusters, seed=seed)
    if gathered is None:
        return card
    method.probe = gathered.probe.to(method.probe.clusters)
    return card if classes.names else replace(card, classes=name_vegetation(card.classes, gathered.classes))


@torch.no_grad()
def colour_by_look(model: LandCoverModel, looks: Looks, chosen: Sequence[str] = ()) -> None:
    """Give a model's classes the colours of their patches.

    Args:
        model: of which the card changes.
        looks: of images that it was trained on.
        chosen: colours of the first classes, which stay.
    """
    clusters = model.probe.scores(looks.codes.to(model.device).T[None, :, None])[0, :, 0].argmax(0).cpu()
    classes = coloured_by_look(model.card.classes, looks.colours, clusters, chosen)
    model.card = replace(model.card, classes=classes)
