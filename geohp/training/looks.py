"""What a trained model's classes look like: their colours, and covers gathered by their looks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Generator, Tensor

from geohp.config.experiment import ClassesConfig
from geohp.errors import GeohpError
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Method
from geohp.methods.kmeans.covers import GatheredCovers, gather_covers
from geohp.methods.kmeans.light import Looks
from geohp.model.appearance import LOOKS, coloured_by_look, natural_colours, patch_looks
from geohp.model.network import LandCoverModel
from geohp.raster.read.bands import BandRequest, asked_colours
from geohp.training.halves import ImagePatches, rows_of_images
from geohp.training.sample_images import read_spread

logger = logging.getLogger(__name__)

_IMAGES = 64


@dataclass(frozen=True)
class SeenPatches(ImagePatches):
    """Patches as a method and as a person sees them: their codes, and looks, which are known."""

    looks: Looks


@torch.no_grad()
def see_patches(
    head: Callable[[Tensor], Tensor],
    features: FeatureSampler,
    images: int = _IMAGES,
    *,
    bands: BandRequest = None,
    rows: int | None = None,
    seed: int = 0,
) -> SeenPatches | None:
    """Of images spread over those that a method was trained on; ``None`` where none can be read any more.

    Args:
        head: makes codes (B, D, h, w) of features (B, C, h, w).
        features: of the images.
        images: at most so many.
        bands: of the images, as asked for.
        rows: patches in all, at most, drawn evenly; all by default.
        seed: of the draw.
    """
    images = min(images, len(features.images))
    try:
        both = rows_of_images(
            _codes_and_looks(head, features, images, asked_colours(bands)), images, rows, Generator().manual_seed(seed)
        )
    except GeohpError as error:
        logger.warning(
            "patches are taken without their looks, by which covers are gathered and classes coloured: %s",
            error.problem,
        )
        return None
    codes, looks = torch.split(both.rows, [both.rows.shape[1] - LOOKS, LOOKS], dim=1)
    return SeenPatches(codes.contiguous(), both.image, Looks.of(looks))


@torch.no_grad()
def draw_patches(
    head: Callable[[Tensor], Tensor],
    features: FeatureSampler,
    images: int,
    rows: int,
    seed: int,
    *,
    bands: BandRequest = None,
    with_looks: bool,
) -> ImagePatches:
    """Codes of patches of up to so many images and rows; where images cannot be read any more, without looks.

    The other arguments are those of :func:`see_patches`.
    """
    seen = see_patches(head, features, images, bands=bands, rows=rows, seed=seed) if with_looks else None
    if seen is not None:
        return seen
    codes = (head(maps) for maps in features.sample(images))
    return rows_of_images(codes, images, rows, Generator().manual_seed(seed))


def _codes_and_looks(
    head: Callable[[Tensor], Tensor], features: FeatureSampler, images: int, colours: Sequence[str | None]
) -> Iterator[Tensor]:
    """Codes of images and, in the last channels, their looks (B, D + 5, h, w), a few images at a time."""
    items = read_spread(features.images, images)
    while lot := dict(islice(items, features.batch_size)):
        pixels = torch.stack([item["image"].float() for item in lot.values()])
        maps = head(features.patches({"image": pixels, "index": torch.tensor(list(lot))}).features).float().cpu()
        pixels = natural_colours(pixels, colours)
        yield torch.cat([maps, patch_looks(pixels, (maps.shape[-2], maps.shape[-1]))], dim=1)


def gather_by_look(method: Method, seen: SeenPatches, classes: ClassesConfig, seed: int) -> GatheredCovers | None:
    """Gather covers of much of the ground, which become the method's clusters; ``None`` where there are none."""
    gathered = gather_covers(seen.rows, seen.looks, classes.clusters, extra=classes.extra_clusters, seed=seed)
    if gathered is not None:
        method.probe = gathered.probe.to(method.probe.clusters)
    return gathered


@torch.no_grad()
def colour_by_look(
    model: LandCoverModel, seen: SeenPatches, chosen: Sequence[str] = (), hues: Sequence[str] = ()
) -> None:
    """Give a model's classes the colours of their patches.

    Args:
        model: of which the card changes.
        seen: of images that it was trained on.
        chosen: colours of the first classes, which stay.
        hues: of the others of the first, see :func:`geohp.model.appearance.coloured_by_look`.
    """
    clusters = model.probe.classes_of(seen.rows)
    classes = coloured_by_look(model.card.classes, seen.looks.colours, clusters, chosen, hues)
    model.card = replace(model.card, classes=classes)
