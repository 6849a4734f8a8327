"""A model for one scene when none was trained: cosine k-means on the scene's own features."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geohp import backbones
from geohp.backbones.base import Backbone
from geohp.classes import default_classes
from geohp.config import BackboneConfig
from geohp.errors import DataError
from geohp.inference.engine import default_input_px
from geohp.methods.kmeans import KMeans
from geohp.model import LandCoverModel, ModelCard
from geohp.model_file import describe_backbone
from geohp.raster.patches import read_patch, sample_origins
from geohp.raster.scenes import Scene
from geohp.version import __version__

logger = logging.getLogger(__name__)

SAMPLED_WINDOWS = 32
"""Most windows of a scene that the features are sampled from; a small scene needs no more than cover it."""


def fit_kmeans(
    scene: Scene, classes: int, backbone: BackboneConfig, *, device: torch.device, seed: int
) -> LandCoverModel:
    """Fit cosine k-means on features of windows drawn from the whole scene.

    Only patches that show valid pixels count. A scene with fewer different ones than classes gets as many classes as
    it has patches; one without any gets a model that is never run, since nothing in it can be labelled.

    Args:
        scene: what to fit on.
        classes: how many classes to find.
        backbone: which features.
        device: where the features are computed.
        seed: of filters, samples and seedings.

    Raises:
        WeightsError: when the backbone's weights cannot be found.
        ConfigError: when there is no such backbone.
    """
    net = backbones.create_for_bands(
        backbone.name,
        len(scene.bands),
        seed=seed,
        weights=backbone.weights,
        block=backbone.block,
        **backbone.options,
    )
    side = default_input_px(net.patch_size)
    rng = np.random.default_rng(seed)
    count = min(SAMPLED_WINDOWS, math.ceil(1.5 * scene.height * scene.width / side**2))
    patches = [read_patch(scene, *at, side) for at in sample_origins(scene, side, count, rng, min_valid=0.5)]
    images = [torch.from_numpy(data) for data, _ in patches]
    mean, std = (torch.tensor(v)[:, None, None] for v in (net.mean, net.std))
    net.to(device)
    rows = torch.empty(0, net.channels)
    if images:
        normalised = [((image - mean) / std)[None].to(device) for image in images]
        if net.needs_fit:
            _fit(net, normalised, seed)
        rows = torch.cat(
            [
                _valid_rows(net(image, affinities=False).features[0], valid, net.patch_size)
                for image, (_, valid) in zip(normalised, patches, strict=True)
            ]
        )
    # Patches that are the same to the last bit cannot belong to different classes.
    distinct = _distinct(rows, seed)
    found = max(1, min(classes, distinct))
    if found < classes:
        logger.warning(_few_patches(scene.path, distinct, found, classes))
    method = KMeans(net.channels, found, seed=seed).to(device)
    if len(rows):
        method.prepare(lambda _: _as_maps(rows))
    card = ModelCard(
        method="kmeans",
        backbone=describe_backbone(net),
        in_channels=net.channels,
        code_channels=net.channels,
        classes=default_classes(found),
        bands=scene.bands,
        scaling=scene.scaling.rule,
        patch_px=side,
        input_px=side,
        geohp_version=__version__,
    )
    return LandCoverModel(net, method.head, method.probe, card)


def _valid_rows(features: Tensor, valid: np.ndarray[Any, np.dtype[np.bool_]], patch: int) -> Tensor:
    """Feature rows (n, C) of the patches at least half of which is valid, or any part where none is."""
    h, w = features.shape[-2:]
    share = torch.from_numpy(valid.reshape(h, patch, w, patch).mean(axis=(1, 3)))
    rows = features.flatten(1).T
    chosen = (share >= 0.5).flatten()
    if not bool(chosen.any()):
        chosen = (share > 0).flatten()
    return rows[chosen.to(rows.device)].cpu()


def _fit(net: Backbone, images: list[Tensor], seed: int) -> None:
    """Fit the backbone; to imagery of one colour, which has nothing to draw filters from, as to faint noise."""
    try:
        net.fit(images)
    except DataError:
        generator = torch.Generator().manual_seed(seed)
        net.fit([image + 1e-3 * torch.randn(image.shape, generator=generator).to(image) for image in images])


def _distinct(rows: Tensor, seed: int) -> int:
    """How many different rows there are, told apart by a random direction."""
    direction = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return len(torch.unique(rows.double() @ direction))


def _few_patches(path: str, patches: int, found: int, classes: int) -> str:
    if not patches:
        return f"{path} holds no data: the map is nodata everywhere"
    return f"{path} does not hold {classes} classes: {patches} different patch(es) give {found} class(es)"


def _as_maps(rows: Tensor) -> Iterator[Tensor]:
    yield rows.T[None, :, :, None]
