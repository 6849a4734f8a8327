"""Which positives a trained method discovers for some anchors: its own pools, heads and thresholds, nothing n x n."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.backbones.base import patch_rows
from geohp.methods.hp.method import HP
from geohp.methods.hp.positives import PositivePairs

_COUNTED = 128
"""Anchors drawn at random for figures about all of them."""


@dataclass(frozen=True)
class Anchor:
    """One patch and its positives in a batch of images.

    Attributes:
        image: its image's place in the batch.
        patch: its place in the image, raster order.
        agnostic: (B, h, w) bool, on the CPU, the task-agnostic positives A.
        specific: (B, h, w) bool, the task-specific positives E.
    """

    image: int
    patch: int
    agnostic: Tensor
    specific: Tensor

    @property
    def both(self) -> Tensor:
        """(B, h, w) bool."""
        return self.agnostic & self.specific


@dataclass(frozen=True)
class Agreement:
    """How often positives are of their anchor's kind, over anchors drawn at random; NaN where there was no pair.

    Attributes:
        agnostic, specific: share of A, and of E, in [0, 1].
        chance: share of all pairs.
    """

    agnostic: float
    specific: float
    chance: float


@dataclass(frozen=True)
class Findings:
    """What was discovered.

    Attributes:
        anchors: to be shown.
        counted: number of anchors, drawn at random, that the following figures are about.
        agnostic, specific: (counted,) how many positives each has.
        alone: share of them without a task-agnostic positive (a task-specific one, where there are no others): the loss
            leaves them out.
        within: share of task-agnostic positives that lie in their anchor's own image.
        clusters: how often positives share their anchor's cluster.
        labels: how often they share its label, where labels were given.
    """

    anchors: tuple[Anchor, ...]
    counted: int
    agnostic: Tensor
    specific: Tensor
    alone: float
    within: float
    clusters: Agreement
    labels: Agreement | None


@torch.no_grad()
def find_positives(
    method: HP, features: Tensor, clusters: Tensor, *, anchors: int, seed: int, labels: Tensor | None = None
) -> Findings:
    """Positives as a training step finds them: channel dropout included, drawn from the seed.

    ``A[i, j]``: the cosine of frozen features exceeds the largest one that row i, or row j, has with the task-agnostic
    pool; E likewise with the averaged head's codes and the task-specific pool. Where positives are not symmetric, row
    i's alone decides; kinds of positives that the method leaves out are none. Only the anchors' rows of A and E are
    computed.

    Args:
        method: trained; its random state and mode are left as they were.
        features: (B, C, h, w), on the method's device.
        clusters: (B, h, w) integer, the patches' clusters: shown anchors are of different ones.
        anchors: how many to show, at most.
        seed: of dropout and of the choice of anchors.
        labels: (B, h, w) integer, the patches' labels, negative where unknown.

    Returns:
        Everything on the CPU.
    """
    images, _, height, width = features.shape
    n = images * height * width
    generator = Generator().manual_seed(seed)
    chosen = _choose_anchors(clusters.cpu(), anchors, generator)
    drawn = torch.randperm(n, generator=generator)[:_COUNTED]
    with _as_in_training(method, features.device, seed):
        dropped, codes = method.drop(features), method.drop(method.averaged(features))
    rows = torch.cat([chosen, drawn]).to(features.device)
    settings = method.settings
    symmetric = settings.symmetric_positives
    agnostic = _positives_of(rows, _unit_rows(dropped), method.pool_agnostic.rows, symmetric)
    specific = _positives_of(rows, _unit_rows(codes), method.pool_specific.rows, symmetric)
    agnostic &= settings.task_agnostic_positives
    specific &= settings.task_specific_positives
    shown = tuple(
        Anchor(row // (height * width), row % (height * width), a.view_as(clusters), e.view_as(clusters))
        for row, a, e in zip(chosen.tolist(), agnostic, specific, strict=False)
    )
    agnostic, specific = agnostic[len(chosen) :], specific[len(chosen) :]
    image = torch.arange(images).repeat_interleave(height * width)
    return Findings(
        anchors=shown,
        counted=len(drawn),
        agnostic=agnostic.sum(1),
        specific=specific.sum(1),
        alone=float(((agnostic if settings.task_agnostic_positives else specific).sum(1) == 0).float().mean()),
        within=_agreement(drawn, agnostic, specific, image).agnostic,
        clusters=_agreement(drawn, agnostic, specific, clusters.flatten().cpu()),
        labels=None if labels is None else _agreement(drawn, agnostic, specific, labels.flatten().cpu()),
    )


def _positives_of(anchors: Tensor, rows: Tensor, pool: Tensor, symmetric: bool) -> Tensor:
    """Rows (m, n) bool of A or E, on the CPU, for anchors (m,) of rows (n, C): by the loss's own search."""
    is_anchor = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    is_anchor[anchors] = True
    first = is_anchor.nonzero().squeeze(1)
    order = torch.cat([first, (~is_anchor).nonzero().squeeze(1)])
    pairs = PositivePairs(rows[order], pool, remember=False, symmetric=symmetric)
    block = pairs.block(slice(0, len(first)), slice(0, len(rows))).of_rows.bool()
    block.fill_diagonal_(False)  # the loss does so where a block lies on the diagonal; this one is wider
    positives = torch.empty_like(block)
    positives[:, order] = block
    return positives[torch.searchsorted(first, anchors)].cpu()


def _choose_anchors(clusters: Tensor, most: int, generator: Generator) -> Tensor:
    """Rows (up to most,) of patches of the largest clusters in turn, in images as different as there are."""
    images, patches = len(clusters), clusters[0].numel()
    flat = clusters.reshape(images, patches)
    counts = torch.bincount(flat.flatten())
    largest = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())]
    unused = torch.randperm(images, generator=generator).tolist()
    chosen: list[int] = []
    for turn in range(min(most, flat.numel())):
        cluster = largest[turn % len(largest)]
        of_cluster = flat == cluster
        if chosen:
            of_cluster.view(-1)[chosen] = False
        # Among images not used yet, where it makes up most: there it is typical, and the picture tells what it is.
        shares = of_cluster.sum(1)
        candidates = [image for image in unused if shares[image]] or shares.nonzero().squeeze(1).tolist()
        if not candidates:
            continue
        image = max(candidates, key=lambda image: int(shares[image]))
        if image in unused:
            unused.remove(image)
        places = of_cluster[image].nonzero().squeeze(1)
        chosen.append(image * patches + int(places[torch.randint(len(places), (1,), generator=generator)]))
    return torch.tensor(chosen, dtype=torch.long)


def _agreement(anchors: Tensor, agnostic: Tensor, specific: Tensor, kinds: Tensor) -> Agreement:
    """Of anchors (m,) and their positives (m, n), by the kinds (n,) of rows; negative ones are left out."""
    known = (kinds >= 0) & (kinds[anchors] >= 0)[:, None]
    known[torch.arange(len(anchors)), anchors] = False
    same = kinds == kinds[anchors, None]

    def share(pairs: Tensor) -> float:
        return float((pairs & same).sum() / pairs.sum())

    return Agreement(share(agnostic & known), share(specific & known), share(known))


def _unit_rows(maps: Tensor) -> Tensor:
    return F.normalize(patch_rows(maps), dim=1)


@contextmanager
def _as_in_training(method: HP, device: torch.device, seed: int) -> Iterator[None]:
    """Dropout active and drawn from the seed, and everything as before afterwards."""
    was_training = method.training
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        method.train()
        try:
            yield
        finally:
            method.train(was_training)
