"""What a trained model's classes look like: their colours, and covers gathered by their looks."""

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
from geohp.methods.kmeans.covers import GatheredCovers, Looks, gather_covers
from geohp.model.appearance import CHANNELS, coloured_by_look, patch_looks
from geohp.model.network import LandCoverModel
from geohp.training.sample_images import readable_images

logger = logging.getLogger(__name__)

_IMAGES = 64


@dataclass(frozen=True)
class SeenPatches:
    """Patches as a method and as a person sees them: codes (n, D), on the CPU, and looks."""

    codes: Tensor
    looks: Looks


@torch.no_grad()
def see_patches(method: Method, features: FeatureSampler) -> SeenPatches | None:
    """Of up to 64 images, spread over those that a method was trained on; ``None`` where none can be read any more."""
    try:
        items = readable_images(features.images, _IMAGES)
    except GeohpError as error:
        logger.warning("classes keep their default colours, and covers are not gathered: %s", error.problem)
        return None
    codes, looks = [], []
    for numbers in torch.split(torch.tensor(list(items)), features.batch_size):
        images = torch.stack([items[number]["image"].float() for number in numbers.tolist()])
        maps = method.head(features.patches({"image": images, "index": numbers}).features).float().cpu()
        codes.append(maps.permute(0, 2, 3, 1).flatten(0, 2))
        shown = patch_looks(images, (maps.shape[-2], maps.shape[-1]))
        looks.append(shown.permute(0, 2, 3, 1).flatten(0, 2))
    all_looks = torch.cat(looks)
    return SeenPatches(torch.cat(codes), Looks(all_looks[:, :CHANNELS], all_looks[:, CHANNELS]))


def gather_by_look(method: Method, seen: SeenPatches, classes: ClassesConfig, seed: int) -> GatheredCovers | None:
    """Gather covers of much of the ground, which become the method's clusters; ``None`` where there are none."""
    gathered = gather_covers(seen.codes, seen.looks, classes.clusters, extra=classes.extra_clusters, seed=seed)
    if gathered is not None:
        method.probe = gathered.probe.to(method.probe.clusters)
    return gathered


@torch.no_grad()
def colour_by_look(model: LandCoverModel, seen: SeenPatches, chosen: Sequence[str] = ()) -> None:
    """Give a model's classes the colours of their patches.

    Args:
        model: of which the card changes.
        seen: of images that it was trained on.
        chosen: colours of the first classes, which stay.
    """
    clusters = model.probe.classes_of(seen.codes)
    classes = coloured_by_look(model.card.classes, seen.looks.colours, clusters, chosen)
    model.card = replace(model.card, classes=classes)
