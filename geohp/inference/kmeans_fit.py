"""A model where none was trained: cosine k-means on the own features of the scenes to be labelled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone_for_bands
from geohp.classes import default_classes
from geohp.errors import DataError, Note
from geohp.inference import scene_sampler
from geohp.inference.engine.settings import default_input_px
from geohp.inference.scene_sampler import SampledPatch, SceneSampler, Window
from geohp.methods.kmeans.covers import INFRARED, describe_covers, gather_covers, seem_infrared
from geohp.methods.kmeans.light import Looks
from geohp.methods.kmeans.method import KMeans
from geohp.model.appearance import LOOKS, coloured_by_look, natural_colours, patch_looks
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.options import FitOptions
from geohp.progress import Progress, no_progress
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.read.bands import are_named, as_infrared
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.scene import Scene
from geohp.version import __version__

logger = logging.getLogger(__name__)

_SHOWN = 20_000  # patches whose mean colours are those of the classes

DEFAULT_CLASSES = 6
"""How many classes are found where nobody says."""

_READING, _FITTING = "reading samples", "finding classes"
"""What progress calls the two steps of a fit."""


def fit_kmeans(
    scenes: Scene | SceneCollection,
    options: FitOptions,
    *,
    device: torch.device,
    errors_as_nodata: bool = False,
    area: AreaOfInterest | None = None,
    colour_share: float,
    progress: Progress = no_progress,
) -> LandCoverModel:
    """Fit cosine k-means on features of windows drawn from all over a scene, or several.

    Only patches that show valid pixels count. Where there are fewer different ones than classes, there are as many
    classes as patches; without any the model is never run, since there is nothing that it could label.

    Of several scenes one is open at a time, and what cannot be read is passed over. The arguments are those of
    :meth:`.Segmenter.fit`.
    """
    options.check_fit()
    sampler = SceneSampler(scenes, errors_as_nodata, area)
    classes, seed = DEFAULT_CLASSES if options.classes is None else options.classes, options.seed
    net = create_backbone_for_bands(
        options.backbone or "rcf",
        sampler.channels,
        seed=seed,
        weights=options.weights,
        block=-1 if options.block is None else options.block,
        remove_position_bias=True,
        colour_share=colour_share,
    ).to(device)
    rows, looks = _sample_features(net, sampler, device, seed, progress)
    # Patches that are the same to the last bit cannot belong to different classes.
    distinct = _distinct(rows, seed)
    count = max(1, min(classes, distinct))
    if count < classes:
        logger.warning(_few_patches(sampler.name, distinct, count, classes))
    method = KMeans(net.channels, count, seed=seed)
    named, hues = default_classes(count), list[str]()
    gathered = None
    if len(rows) and not options.split_covers:
        if not are_named(sampler.band_request) and seem_infrared(looks):
            logger.warning(Note(f"{INFRARED}; {{option}} says so", option="bands", value=as_infrared(sampler.bands)))
        gathered = gather_covers(rows, looks, count, seed=seed)
    if gathered is not None:
        text = f"{describe_covers(gathered.covers)} ({{option}} tells their kinds apart)"
        logger.info(Note(text, option="split_covers", value=True))
        method.probe = gathered.probe
        named, hues = gathered.name(named), gathered.colours
    elif len(rows):
        method.finish(lambda _: iter([rows.T[None, :, :, None]]))
    side = default_input_px(net.patch_size)
    shown = slice(None, None, max(1, len(rows) // _SHOWN))
    card = ModelCard(
        method="kmeans",
        backbone=BackboneCard.of(net),
        in_channels=net.channels,
        code_channels=net.channels,
        classes=coloured_by_look(named, looks.colours[shown], method.probe.classes_of(rows[shown]), hues=hues),
        bands=sampler.bands,
        scaling=sampler.rule,
        patch_px=side,
        input_px=side,
        geohp_version=__version__,
        smooth_scores=True,
    )
    return LandCoverModel(net, method.head, method.probe, card).to(device)


def _sample_features(
    net: Backbone, sampler: SceneSampler, device: torch.device, seed: int, progress: Progress
) -> tuple[Tensor, Looks]:
    """Feature rows (n, C) of patches from all over the scenes and what they look like.

    The backbone is fitted first, where it needs it.
    """
    side = default_input_px(net.patch_size)
    windows = sampler.draw(side, np.random.default_rng(seed))
    mean, std = (torch.tensor(v)[:, None, None] for v in (net.mean, net.std))

    def normalised(patch: SampledPatch) -> Tensor:
        return ((torch.from_numpy(patch.data) - mean) / std)[None].to(device)

    limit = scene_sampler.SAMPLED_WINDOWS
    # So few patches stay in memory; of more, these are what the backbone is fitted to.
    chosen = _spread(windows, limit)
    patches = []
    for number, patch in enumerate(sampler.read(chosen, side), start=1):
        patches.append(patch)
        progress(_READING, number, len(chosen))
    if not patches:
        return torch.empty(0, net.channels), Looks.of(torch.empty(0, LOOKS))
    if net.needs_fit:
        _fit_backbone(net, [normalised(patch) for patch in patches], seed)
    most = limit * (side // net.patch_size) ** 2 // max(len(windows), limit)
    generator = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    for patch in patches if len(windows) <= limit else sampler.read(windows, side):
        progress(_FITTING, len(rows) + 1, len(windows))
        features = net(normalised(patch), affinities=False).features[0]
        image, valid = natural_colours(torch.from_numpy(patch.data)[None], patch.colours), torch.from_numpy(patch.valid)
        looks = patch_looks(image, (features.shape[-2], features.shape[-1]), valid[None])[0]
        both = torch.cat([features, looks.to(features)])
        rows.append(_draw_rows(_valid_rows(both, patch.valid, net.patch_size), most, generator))
    both = torch.cat(rows)
    own = net.channels
    return both[:, :own].contiguous(), Looks.of(both[:, own:])


def _spread(windows: Sequence[Window], most: int) -> list[Window]:
    """At most so many of them, spread evenly."""
    if len(windows) <= most:
        return list(windows)
    return [windows[i * len(windows) // most] for i in range(most)]


def _draw_rows(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many rows, drawn at random, in their order."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:most].sort().values]


def _valid_rows(features: Tensor, valid: np.ndarray[Any, np.dtype[np.bool_]], patch: int) -> Tensor:
    """Feature rows (n, C) of the patches at least half of which is valid, or any part where none is."""
    h, w = features.shape[-2:]
    share = torch.from_numpy(valid.reshape(h, patch, w, patch).mean(axis=(1, 3)))
    rows = features.flatten(1).T
    chosen = (share >= 0.5).flatten()
    if not bool(chosen.any()):
        chosen = (share > 0).flatten()
    return rows[chosen.to(rows.device)].cpu()


def _fit_backbone(net: Backbone, images: list[Tensor], seed: int) -> None:
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


def _few_patches(path: str, patches: int, count: int, classes: int) -> str:
    if not patches:
        return f"{path} holds no data: the map is nodata everywhere"
    return f"{path} does not hold {classes} classes: {patches} different patch(es) give {count} class(es)"
