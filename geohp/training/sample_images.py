"""What a report shows of single images: positives of a few anchors among them, and weights of neighbourhoods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geohp.backbones.affinities import neighbour_indices
from geohp.backbones.base import PatchFeatures
from geohp.errors import DataError, GeohpError
from geohp.features.images import UNREADABLE
from geohp.features.sampler import FeatureSampler
from geohp.reporting import figures
from geohp.reporting import pages as html
from geohp.reporting.pages import Markup, element, join
from geohp.reporting.plots import spread
from geohp.training.findings import Agreement, Anchor, Findings

if TYPE_CHECKING:
    from geohp.classes import LandCoverClass
    from geohp.model.network import LandCoverModel

_IMAGES = 16
_LOT = 4
"""Images whose features are computed at once."""
_SHOWN_WITH = 5
"""Images shown beside an anchor's own."""


@dataclass(frozen=True)
class SampleImages:
    """Some images, as the trained model sees them.

    Attributes:
        images: (bands, H, W) each, in [0, 1], on the CPU.
        names: what they are called.
        patches: their features and affinities, on the model's device.
        clusters: (B, h, w) integer, on the CPU, the cluster of each patch.
        labels: (B, h, w) integer, on the CPU, the label at each patch's centre, negative where unknown; or ``None``.
    """

    images: tuple[Tensor, ...]
    names: tuple[str, ...]
    patches: PatchFeatures
    clusters: Tensor
    labels: Tensor | None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.patches.grid

    def spread(self, wanted: int) -> list[int]:
        """Places of up to so many images, evenly chosen."""
        return spread(len(self.images), wanted)

    def place(self, patch: int) -> tuple[int, int]:
        """Row and column of a patch."""
        return divmod(patch, self.grid[1])


@torch.no_grad()
def load_sample_images(source: FeatureSampler, model: LandCoverModel, batch_size: int) -> SampleImages:
    """Up to 16 images, and no more than a step has, spread over the source; those that cannot be read are passed over.

    Raises:
        DataError, SceneError: none can be read.
    """
    images, names, masks = [], [], []
    failed: GeohpError = DataError("no image can be read any more; look whether files were moved")
    for index in spread(len(source.images), max(2, min(_IMAGES, batch_size))):
        try:
            item = source.images[index]
        except GeohpError as error:
            failed = error
            continue
        if UNREADABLE in item:  # another image in its place
            continue
        images.append(item["image"].float())
        names.append(source.images.name(index))
        if "mask" in item:
            masks.append(item["mask"])
    if not images:
        raise failed
    found = [source.encode(torch.stack(images[first : first + _LOT])) for first in range(0, len(images), _LOT)]
    affinities = [one.affinities for one in found if one.affinities is not None]
    patches = PatchFeatures(
        torch.cat([one.features for one in found]), torch.cat(affinities) if len(affinities) == len(found) else None
    )
    clusters = model.probe.scores(model.head(patches.features)).argmax(1).cpu()
    labels = _at_centres(torch.stack(masks), patches.grid) if len(masks) == len(images) else None
    return SampleImages(tuple(images), tuple(names), patches, clusters, labels)


def positives_section(found: Findings, shown: SampleImages, classes: Sequence[LandCoverClass]) -> Iterator[Markup]:
    """The paper's figure for each anchor, and how positives are distributed."""
    patches = shown.clusters.numel() - 1
    yield element(
        "p",
        "An anchor is pulled towards its positives. Task-agnostic ones (A): the two patches are closer to each other, "
        "in the frozen backbone's features, than one of them is to any patch of a reference pool. Task-specific ones "
        "(E): likewise, in the codes of the averaged head. Both are found here as in a training step, channel dropout "
        "included. Healthy: coloured patches show what the framed one shows, in other images too, and the head adds to "
        "what the features found.",
    )
    yield element("p", join(_key(*one) for one in _KEY))
    yield element("p", _distribution(found, patches))
    for number, anchor in enumerate(found.anchors, start=1):
        cluster = int(shown.clusters[anchor.image].flatten()[anchor.patch])
        counts = [int(kind.sum()) for kind in (anchor.agnostic, anchor.specific, anchor.both)]
        yield element("h3", join([f"Anchor {number}: ", html.swatch(classes[cluster].colour), classes[cluster].name]))
        yield element(
            "p",
            f"{counts[0]:,} task-agnostic and {counts[1]:,} task-specific positives, {counts[2]:,} of them both, among "
            f"{patches:,} other patches.",
        )
        yield element("div", join(_anchor_pictures(anchor, shown)), class_="grid small anchor")


def affinities_section(found: Findings, shown: SampleImages) -> Iterator[Markup]:
    """Weights around the anchors, and where they tell neighbours apart."""
    if shown.patches.affinities is None:
        return
    yield element(
        "p",
        "A patch's code is mixed with those of its neighbours, so that the loss reaches them as well. The figures are "
        "the nine weights in percent of their sum. Healthy: neighbours of the same kind weigh more than those across a "
        "border. First the anchors above, then, in each of their images, the patch whose neighbours divide most evenly "
        "into heavy and light ones.",
    )
    affinities = shown.patches.affinities.float().cpu()
    inside = neighbour_indices(*shown.grid)[1]
    drawn = []
    places = [(anchor.image, anchor.patch) for anchor in found.anchors]
    places += [(image, _most_divided(affinities[image], inside)) for image in dict.fromkeys(i for i, _ in places)]
    for image, patch in dict.fromkeys(places):
        weights = affinities[image, patch]
        mixed = weights / inside[patch].sum()
        shares = (100 * weights / weights.sum().clamp_min(1e-12)).numpy()
        row, col = shown.place(patch)
        picture = figures.draw_neighbourhood(shown.images[image].numpy(), shares, (row, col), shown.grid)
        alt = f"Weights around patch {row}, {col} of image {shown.names[image]}"
        drawn.append(html.picture(picture, alt, f"sum {float(mixed.sum()):.3g}"))
    yield element("div", join(drawn), class_="grid near")


_KEY = (
    (figures.AGNOSTIC, "A only"),
    (figures.SPECIFIC, "E only"),
    (figures.BOTH, "both"),
    ("#ffdd00", "the anchor"),
)


def _key(colour: str, meaning: str) -> Markup:
    return element("span", join([html.swatch(colour), meaning]), class_="key")


def _anchor_pictures(anchor: Anchor, shown: SampleImages) -> Iterator[Markup]:
    """The anchor, its own image, and the others with the most positives."""
    place = shown.place(anchor.patch)
    own = shown.images[anchor.image].numpy()
    name = shown.names[anchor.image]
    yield html.picture(figures.draw_anchor(own, place, shown.grid), f"Anchor in image {name}", "the anchor")
    totals = (anchor.agnostic | anchor.specific).flatten(1).sum(1)
    order = totals.argsort(descending=True, stable=True).tolist()
    order.remove(anchor.image)
    for image in [anchor.image, *order[:_SHOWN_WITH]]:
        agnostic, specific = anchor.agnostic[image].numpy(), anchor.specific[image].numpy()
        framed = place if image == anchor.image else None
        picture = figures.draw_positives(shown.images[image].numpy(), agnostic, specific, framed)
        caption = f"A {agnostic.sum()} · E {specific.sum()}"
        yield html.picture(picture, f"Positives in image {shown.names[image]}", caption)


def _distribution(found: Findings, patches: int) -> str:
    a, e = (float(counts.double().median()) for counts in (found.agnostic, found.specific))
    said = [
        f"Of {found.counted} anchors drawn at random among {patches + 1:,} patches, the median has {a:,.0f} "
        f"task-agnostic and {e:,.0f} task-specific positives; {100 * found.alone:.0f} % have no task-agnostic one and "
        "are left out of the loss.",
    ]
    if np.isfinite(found.within):
        said.append(f"{100 * found.within:.0f} % of the task-agnostic ones lie in the anchor's own image.")
    said += _agreement("cluster", found.clusters)
    if found.labels is not None:
        said += _agreement("label", found.labels)
    return " ".join(said)


def _agreement(what: str, found: Agreement) -> list[str]:
    shares = [(found.agnostic, "task-agnostic"), (found.specific, "task-specific"), (found.chance, "of all patches")]
    known = [f"{100 * share:.0f} % ({name})" for share, name in shares if np.isfinite(share)]
    return [f"They share the anchor's {what} in {', '.join(known)}."] if known else []


def _most_divided(affinities: Tensor, inside: Tensor) -> int:
    """The patch, away from the image's border, whose neighbours divide most evenly into heavy and light ones."""
    neighbours = affinities[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    heavy = (neighbours > affinities.amax(1, keepdim=True) / 2).sum(1)
    divided = torch.minimum(heavy, 8 - heavy) * inside.all(1)
    contrast = neighbours.var(1, correction=0) / affinities.square().sum(1).clamp_min(1e-12)
    return int((divided + contrast).argmax())


def _at_centres(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) at the centres of patches, -1 for 255."""
    rows, cols = (
        ((torch.arange(count) + 0.5) * side / count).long() for count, side in zip(grid, masks.shape[-2:], strict=True)
    )
    labels = masks[:, rows][:, :, cols].long()
    return torch.where(labels == 255, -1, labels)
