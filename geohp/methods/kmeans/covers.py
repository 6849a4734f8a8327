"""Covers gathered: vegetation, open ground and water are one class each by their looks; k-means would split them.

K-means gives a cover as many clusters as it has area and variety: where fields and trees, or sand, are most of the
ground they take most of the classes, and roads, roofs and water share what is left. That many greens, or many sands,
are one class is nothing that features tell: it is what legends of land cover agree on, and looks tell which is which.
How much it is worth, and where it is worth nothing, stands in docs/accuracy.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.classes import LandCoverClass
from geohp.methods.kmeans.clustering import spherical_kmeans
from geohp.methods.kmeans.light import Looks, band_shares, excess_green, natural_from_infrared
from geohp.methods.probes import ClusterProbe

EXCESS_GREEN = 0.06
"""From which excess green index on something is vegetation; paved and bare ground and roofs lie around 0."""
_GREEN_OVER_BLUE, _GREEN_OVER_RED = 0.02, -0.01
"""By which shares green exceeds blue and red in vegetation, ripe grass included: turquoise water and mud do not."""
_BRIGHT, _SMOOTH = 0.5, 0.1
"""Open ground is brighter, and varies less within a patch, than that: sand, bare soil, snow; roofs and trees vary."""
_DARK, _STILL = 0.13, 0.04
"""Deep water is darker, and varies less within a patch, than that; shadows vary more."""
_MURKY, _UNTEXTURED, _CALM = 0.45, 0.01, 0.016
"""Murky water is no brighter, and varies less within a patch and within those around it, than that: fields have some
texture, and shadows and roofs are small."""
_DULL_GREEN = 0.02, 0.09
"""Between these its excess green index lies: asphalt has none, and plants mostly have more."""
_PLAIN = 0.25
"""And it varies by less than so much of what the roughest tenth of the patches does: images may be blurred."""
_HARDLY_GREEN, _MOSTLY_RED = 0.01, 0.25
"""Where less than the first of the ground is green, and more than the second as red as plants are in colour infrared,
it is that: reddest are tiled roofs and red soil, whose red is stronger than their blue."""
_ALIKE = 0.4
"""Halves of open ground are less than so many times as far apart as the halves of all of the ground; those of bright
roofs, roads and fields together are further."""
_MOST_EXTRA = 1 / 3
"""Of extra clusters, a cover has at most that."""
_FINEST = 8.0
"""Classes of the rest are on average at least the eighth part of a fair share; the others stay with a cover."""

_FINE, _MOST_FINE = 16, 128
"""Clusters a class whose looks count, and in all."""
_VOTES, _ITERATIONS = 5, 15
"""Such clusterings, none of which has to be the best: one alone may give much of a cover away."""
_CENTROIDS = 2
"""Centroids of a cover for every class that there is in all: it has more sides than one direction can tell."""
_ASTRAY, _MOST_ASTRAY = 20, 6
"""From so many patches on that are mixed up with murky water a class gets centroids for them, at most so many."""
_ROWS = 20_000
_PER_FINE = 20  # patches a fine cluster has at least on average


@dataclass(frozen=True)
class Cover:
    """A cover that was gathered.

    Attributes:
        name: what its classes are called.
        share: of the ground.
        classes: how many it has.
    """

    name: str
    share: float
    classes: int = 1

    @property
    def sentence(self) -> str:
        """What it has become."""
        classes = "one class" if self.classes == 1 else f"{self.classes} classes"
        return f"{self.name}, {100 * self.share:.0f} % of the ground, is {classes}"


def describe_covers(covers: Iterable[Cover]) -> str:
    """What was gathered, in words."""
    return "; ".join(cover.sentence for cover in covers)


@dataclass(frozen=True)
class GatheredCovers:
    """Clusters of which the first classes are covers.

    Attributes:
        probe: of K classes.
        covers: in the order of their classes, from number 0 on.
    """

    probe: ClusterProbe
    covers: tuple[Cover, ...]

    def name(self, classes: Sequence[LandCoverClass]) -> tuple[LandCoverClass, ...]:
        """Classes, those of covers called so."""
        names = [*self._names, *(entry.name for entry in classes[len(self._names) :])]
        return tuple(replace(entry, name=name) for entry, name in zip(classes, names, strict=True))

    @property
    def colours(self) -> list[str]:
        """Of the first classes, colours of their kind: vegetation is green and water blue, however dark they are."""
        return [_KINDS[cover.name].colour for cover in self.covers for _ in range(cover.classes)]

    def called_otherwise(self, names: Sequence[str]) -> str:
        """Which covers are called otherwise by names of all classes, in words; empty where none is."""
        pairs = zip(self._names, names, strict=False)
        return ", ".join(f"{own} is called {name!r}" for own, name in pairs if own.casefold() != name.casefold())

    @property
    def _names(self) -> list[str]:
        """Those of the first classes."""
        names = []
        for cover in self.covers:
            several = [f"{cover.name} {number}" for number in range(1, cover.classes + 1)]
            names += [cover.name] if cover.classes == 1 else several
        return names


def is_vegetation(looks: Looks) -> Tensor:
    """(n,) which are the colours of plants; of a dark green sea is none."""
    red, green, blue = band_shares(looks.colours).unbind(-1)
    plain_green = (green - blue > _GREEN_OVER_BLUE) & (green - red > _GREEN_OVER_RED)
    return plain_green & (excess_green(looks.colours) > EXCESS_GREEN) & ~is_dark_water(looks)


def seem_infrared(looks: Looks) -> bool:
    """Whether colours seem to be near infrared, red and green: plants, which are red then, cover much of the ground."""
    natural = torch.stack(natural_from_infrared(*looks.colours.unbind(-1)), dim=-1)
    as_they_are, otherwise = (
        float(is_vegetation(each.in_clear_light()).double().mean())  # of nothing no number, and so neither
        for each in (looks, replace(looks, colours=natural))
    )
    return as_they_are < _HARDLY_GREEN and otherwise > _MOSTLY_RED


def is_open_ground(looks: Looks) -> Tensor:
    """(n,) which are bright and smooth, and no plants."""
    return (looks.colours.mean(-1) > _BRIGHT) & (looks.textures < _SMOOTH) & ~is_vegetation(looks)


def is_dark_water(looks: Looks) -> Tensor:
    """(n,) which are dark and still, as deep water is."""
    return ~looks.is_black() & (looks.colours.mean(-1) < _DARK) & (looks.textures < _STILL)


def is_murky_water(looks: Looks) -> Tensor:
    """(n,) which have no texture at all, and a dull green: water full of algae or mud, under any sky but a bright one.

    Tells single patches, not the means of many: features hardly tell such water from a field.
    """
    brightness, green = looks.colours.mean(-1), excess_green(looks.colours)
    rough = float(looks.textures.quantile(0.9)) if len(looks.textures) else 0.0
    least, most = _DULL_GREEN
    of_that_colour = (brightness > _DARK) & (brightness < _MURKY) & (green > least) & (green < most)
    return of_that_colour & (looks.textures < min(_UNTEXTURED, _PLAIN * rough)) & (looks.around < _CALM)


@dataclass(frozen=True)
class _Kind:
    """What may be a cover.

    Attributes:
        belongs: which of some looks (n,) are those of it.
        least: fair shares of the ground (1 / K each, extra clusters not counted) from which on it is one class.
        colour: whose hue it has on maps: the one that readers of maps expect.
        alike: what looks like it is it only where its features are alike, too.
    """

    belongs: Callable[[Looks], Tensor]
    least: float
    colour: str
    alike: bool = False


_KINDS = {
    "vegetation": _Kind(is_vegetation, least=0.5, colour="#5f9b4a"),
    "open ground": _Kind(is_open_ground, least=1.55, colour="#e3d3a8", alike=True),
    "water": _Kind(is_dark_water, least=0.1, colour="#4a86b8"),
}
INFRARED = "the bands look like near infrared, red and green, in which vegetation is told only where they are named"
"""Said of what seems to be colour infrared."""
_REST = -1
"""The covers, numbered in this order, and the number of what belongs to none."""
_NUMBERS = {name: number for number, name in enumerate(_KINDS)}
_NUMBER_OF_WATER = _NUMBERS["water"]
_LEAST_MURKY = 0.05
"""Fair shares of murky water, which is never taken for something else."""


@torch.no_grad()
def gather_covers(rows: Tensor, looks: Looks, classes: int, *, extra: int = 0, seed: int = 0) -> GatheredCovers | None:
    """Clusters of patches, vegetation, open ground and water being one class each where they cover enough.

    Fine clusters belong to a cover, or not, by the mean looks of their patches, haze and want of light made up for: a
    shadow among trees goes with the trees, and a green car does not. Most of several fine clusterings decide. What
    looks like open ground is it only where its features are alike, too. Murky water is told patch by patch, and what
    its centroids would take of other classes, and these of it, gets centroids of its own. Patches that belong to none
    are clustered by themselves.

    Args:
        rows: (n, D) features or codes.
        looks: of the same patches.
        classes: number K of classes in all.
        extra: of which so many are there to be merged by a user: a cover's share of these go to it, at most a third.
        seed: of all draws.

    Returns:
        ``None`` where no cover has its least share of the ground (see :data:`_KINDS`), or there is nothing else.
    """
    rows = F.normalize(rows.float().cpu(), dim=1)
    order = torch.randperm(len(rows), generator=Generator().manual_seed(seed))[:_ROWS]
    rows, looks = rows[order], looks.cpu()[order].in_clear_light()
    murky = _much_murky_water(looks, classes - extra)
    kinds = _kinds_of(rows, looks, murky, classes, extra, seed)
    covers = _covers(kinds, classes, extra)
    others = classes - sum(cover.classes for cover in covers)
    if not covers or not 0 < others <= int((kinds == _REST).sum()):
        return None
    parts, members, first = [], [], 0
    for cover in covers:
        own = rows[kinds == _NUMBERS[cover.name]]
        centroids, numbers = _split(own, cover.classes, max(1, _CENTROIDS * classes // cover.classes), seed)
        parts.append(centroids)
        members.append(first + numbers)
        first += cover.classes
    parts.append(spherical_kmeans(rows[kinds == _REST], others, seed=seed)[0])
    members.append(torch.arange(first, classes))
    centroids, numbers = torch.cat(parts), torch.cat(members)
    if bool(murky.any()):
        kind_of = [_NUMBERS[cover.name] for cover in covers for _ in range(cover.classes)] + [_REST] * others
        centroids, numbers = _kept_from_water(rows, kinds, centroids, numbers, torch.tensor(kind_of), seed)
    return GatheredCovers(ClusterProbe.of(centroids, numbers), covers)


def _kinds_of(rows: Tensor, looks: Looks, murky: Tensor, classes: int, extra: int, seed: int) -> Tensor:
    """(n,) the number of the cover that patches belong to by the looks of their fine clusters, -1 for none.

    A cover of less than its least is none, nor are the smallest where they would leave no class to the rest; where
    there are too few patches for fine clusters there are none. Patches that are ``murky`` (n,) are water by themselves.
    """
    kinds = torch.full((len(rows),), _REST)
    fine = min(_FINE * classes, _MOST_FINE, len(rows) // _PER_FINE)
    if fine < classes:
        return kinds
    votes = torch.zeros(len(_KINDS), len(rows))
    for vote in range(_VOTES):
        centroids, _ = spherical_kmeans(rows, fine, iterations=_ITERATIONS, restarts=1, seed=_VOTES * seed + vote)
        nearest = (rows @ centroids.T).argmax(1)
        means = looks.means(nearest, fine)
        votes += torch.stack([kind.belongs(means)[nearest] for kind in _KINDS.values()])
    belonging, shares = (2 * votes > _VOTES) & ~murky & ~looks.is_black(), {}
    belonging[_NUMBER_OF_WATER] |= murky
    for number, (kind, own) in enumerate(zip(_KINDS.values(), belonging, strict=True)):
        share = float(own.double().mean())
        enough = share * (classes - extra) >= kind.least or (number == _NUMBER_OF_WATER and bool(murky.any()))
        if enough and (not kind.alike or _is_of_one_kind(rows, own, seed)):
            shares[number] = share
    for number in sorted(shares, key=lambda number: -shares[number])[: classes - extra - 1]:
        kinds[belonging[number]] = number
    return kinds


def _much_murky_water(looks: Looks, classes: int) -> Tensor:
    """(n,) which patches are it, or none where there is too little of it."""
    murky = is_murky_water(looks)
    return murky & bool(float(murky.double().mean()) * classes >= _LEAST_MURKY)


def _is_of_one_kind(rows: Tensor, own: Tensor, seed: int) -> bool:
    """Whether the two halves of a part of all rows, as k-means finds them, are alike by what is usual among these."""
    part, everything = (spherical_kmeans(r, 2, restarts=2, seed=seed)[0] for r in (rows[own], rows))
    return bool(1 - part[0] @ part[1] < _ALIKE * (1 - everything[0] @ everything[1]))


def _covers(kinds: Tensor, classes: int, extra: int) -> tuple[Cover, ...]:
    """What is gathered, and into how many classes; what the rest has no use for goes to the largest."""
    shares = [float((kinds == number).double().mean()) for number in range(len(_KINDS))]
    covers = [
        Cover(name, share, 1 + int(min(share, _MOST_EXTRA) * extra))
        for name, share in zip(_KINDS, shares, strict=True)
        if share
    ]
    if not covers:
        return ()
    rest = 1 - sum(cover.share for cover in covers)
    surplus = classes - sum(cover.classes for cover in covers) - math.ceil(_FINEST * rest * classes)
    largest = max(covers, key=lambda cover: cover.share)
    more = largest.classes + max(0, surplus)
    return tuple(replace(cover, classes=more) if cover is largest else cover for cover in covers)


def _split(rows: Tensor, classes: int, centroids: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit centroids (P, D) of so many classes, up to so many of each, and the class (P,) of each of them."""
    means, _ = spherical_kmeans(rows, classes, seed=seed)
    nearest = (rows @ means.T).argmax(1)
    parts, members = [], []
    for number in range(classes):
        own = rows[nearest == number]
        of_class = spherical_kmeans(own, min(centroids, len(own)), seed=seed)[0] if len(own) else means[[number]]
        parts.append(of_class)
        members += [number] * len(of_class)
    return torch.cat(parts), torch.tensor(members)


def _kept_from_water(
    rows: Tensor, kinds: Tensor, centroids: Tensor, numbers: Tensor, kind_of: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Centroids (P, D) and their classes (P,), and more of them where patches of water and of others are mixed up.

    Args:
        rows: (n, D) unit vectors.
        kinds: (n,) of each.
        centroids, numbers: what there is.
        kind_of: (K,) of the classes.
        seed: of k-means.
    """
    likeness, kinds_there = rows @ centroids.T, kind_of[numbers]
    found = kinds_there[likeness.argmax(1)]
    mixed_up = (found != kinds) & ((found == _NUMBER_OF_WATER) | (kinds == _NUMBER_OF_WATER))
    rows, likeness, kinds = rows[mixed_up], likeness[mixed_up], kinds[mixed_up]
    own = numbers[likeness.masked_fill(kinds[:, None] != kinds_there, -torch.inf).argmax(1)]
    for number in range(len(kind_of)):
        astray = rows[own == number]
        if len(astray) >= _ASTRAY:
            more = spherical_kmeans(astray, min(_MOST_ASTRAY, 2 * len(astray) // _ASTRAY), seed=seed)[0]
            centroids = torch.cat([centroids, more])
            numbers = torch.cat([numbers, torch.full((len(more),), number)])
    return centroids, numbers
