"""What a report shows of a method's discoveries: positives of a few anchors, and weights of neighbourhoods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, minimum

from geohp.backbones.affinities import neighbour_indices
from geohp.classes import LandCoverClass
from geohp.methods.hp.settings import HPSettings
from geohp.reporting import figures
from geohp.reporting.pages import Picture
from geohp.training.findings import Anchor, Findings
from geohp.training.sample_images import SampleImages

_SHOWN_WITH = 5
"""Images shown beside an anchor's own."""
_KEY = (
    (figures.AGNOSTIC, "A only"),
    (figures.SPECIFIC, "E only"),
    (figures.BOTH, "both"),
    (figures.ANCHOR, "the anchor"),
)


@dataclass(frozen=True)
class AnchorView:
    """An anchor: its cluster, how many task-agnostic and task-specific positives and both it has, and where."""

    name: str
    colour: str
    agnostic: int
    specific: int
    both: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Discovery:
    """What a page shows.

    Attributes:
        anchors: the paper's figure for each.
        patches: beside an anchor's own.
        findings: about anchors drawn at random.
        median_agnostic, median_specific: of their positives.
        affinities: weights around the anchors, and where they tell neighbours apart; none without local positives.
        left_out: kinds of positives that the training did without.
        key: colours and what they mean.
    """

    anchors: tuple[AnchorView, ...]
    patches: int
    findings: Findings
    median_agnostic: float
    median_specific: float
    affinities: tuple[Picture, ...]
    left_out: tuple[str, ...] = ()
    key: tuple[tuple[str, str], ...] = _KEY


def show_findings(
    findings: Findings, samples: SampleImages, classes: Sequence[LandCoverClass], settings: HPSettings
) -> Discovery:
    """Pictures and sentences of what was found in some images."""
    return Discovery(
        anchors=tuple(_anchor(anchor, samples, classes) for anchor in findings.anchors),
        patches=samples.clusters.numel() - 1,
        findings=findings,
        median_agnostic=float(findings.agnostic.double().median()),
        median_specific=float(findings.specific.double().median()),
        affinities=tuple(_neighbourhoods(findings.anchors, samples)) if settings.local_positives else (),
        left_out=settings.left_out,
    )


def _anchor(anchor: Anchor, samples: SampleImages, classes: Sequence[LandCoverClass]) -> AnchorView:
    entry = classes[int(samples.clusters[anchor.image].flatten()[anchor.patch])]
    agnostic, specific, both = (int(kind.sum()) for kind in (anchor.agnostic, anchor.specific, anchor.both))
    pictures = tuple(_anchor_pictures(anchor, samples))
    return AnchorView(entry.name, entry.colour, agnostic, specific, both, pictures)


def _anchor_pictures(anchor: Anchor, samples: SampleImages) -> Iterator[Picture]:
    """The anchor, its own image, and the others with the most positives."""
    place = samples.place(anchor.patch)
    png = figures.draw_anchor(samples.images[anchor.image].numpy(), place, samples.patches.grid)
    yield Picture(png, f"Anchor in image {samples.names[anchor.image]}", "the anchor")
    totals = (anchor.agnostic | anchor.specific).flatten(1).sum(1)
    others = totals.argsort(descending=True, stable=True).tolist()
    others.remove(anchor.image)
    for image in [anchor.image, *others[:_SHOWN_WITH]]:
        agnostic, specific = anchor.agnostic[image].numpy(), anchor.specific[image].numpy()
        framed = place if image == anchor.image else None
        png = figures.draw_positives(samples.images[image].numpy(), agnostic, specific, framed)
        yield Picture(png, f"Positives in image {samples.names[image]}", f"A {agnostic.sum()} · E {specific.sum()}")


def _neighbourhoods(anchors: Sequence[Anchor], samples: SampleImages) -> Iterator[Picture]:
    if samples.patches.affinities is None:
        return
    affinities = samples.patches.affinities.float().cpu()
    inside = neighbour_indices(*samples.patches.grid)[1]
    places = [(anchor.image, anchor.patch) for anchor in anchors]
    places += [(image, _most_divided(affinities[image], inside)) for image in dict.fromkeys(i for i, _ in places)]
    for image, patch in dict.fromkeys(places):
        weights = affinities[image, patch]
        mixed = weights / inside[patch].sum()
        shares = (100 * weights / weights.sum().clamp_min(1e-12)).numpy()
        row, col = samples.place(patch)
        png = figures.draw_neighbourhood(samples.images[image].numpy(), shares, (row, col), samples.patches.grid)
        alt = f"Weights around patch {row}, {col} of image {samples.names[image]}"
        yield Picture(png, alt, f"sum {float(mixed.sum()):.3g}")


def _most_divided(affinities: Tensor, inside: Tensor) -> int:
    """The patch, away from the image's border, whose neighbours divide most evenly into heavy and light ones."""
    neighbours = affinities[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    heavy = (neighbours > affinities.amax(1, keepdim=True) / 2).sum(1)
    divided = minimum(heavy, 8 - heavy) * inside.all(1)
    contrast = neighbours.var(1, correction=0) / affinities.square().sum(1).clamp_min(1e-12)
    return int((divided + contrast).argmax())
