"""Colours of a trained model's classes: what their patches look like on images that it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from geohp.errors import GeohpError
from geohp.features.sampler import FeatureSampler
from geohp.model.appearance import CHANNELS, coloured_by_look, patch_colours
from geohp.model.network import LandCoverModel
from geohp.training.sample_images import readable_images

logger = logging.getLogger(__name__)

_IMAGES = 24


@torch.no_grad()
def colour_by_look(model: LandCoverModel, features: FeatureSampler, chosen: Sequence[str] = ()) -> None:
    """Give a model's classes the colours of their patches on up to 24 images, spread over those trained on.

    Args:
        model: of which the card changes.
        features: of the images that it was trained on.
        chosen: colours of the first classes, which stay.
    """
    try:
        items = readable_images(features.images, _IMAGES)
    except GeohpError as error:
        logger.warning("classes keep their default colours: %s", error.problem)
        return
    colours, clusters = [], []
    for numbers in torch.split(torch.tensor(list(items)), features.batch_size):
        images = torch.stack([items[number]["image"].float() for number in numbers.tolist()])
        codes = model.head(features.patches({"image": images, "index": numbers}).features)
        clusters.append(model.probe.scores(codes).argmax(1).flatten().cpu())
        means = patch_colours(images, (codes.shape[-2], codes.shape[-1]))
        colours.append(means.permute(0, 2, 3, 1).reshape(-1, CHANNELS))
    classes = coloured_by_look(model.card.classes, torch.cat(colours), torch.cat(clusters), chosen)
    model.card = replace(model.card, classes=classes)
