"""Probes: they read classes off the codes and never influence the head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClusterProbe(nn.Module):
    """Centroids over the codes, compared by cosine: K classes of one each, or of several.

    Args:
        code_channels: width D of the codes.
        clusters: number P of centroids.
        members: (P,) int64, the class of each, from 0 to K - 1, where classes have several; by default K is P.

    Attributes:
        clusters: (P, D), of any length.
        classes: number K of classes.

    Raises:
        ValueError: there are not as many members as centroids, or a class has none.
    """

    members: Tensor | None

    def __init__(self, code_channels: int, clusters: int, members: Tensor | None = None) -> None:
        super().__init__()
        self.clusters = nn.Parameter(torch.randn(clusters, code_channels))
        self.classes = clusters if members is None else _count_classes(members, clusters)
        self.register_buffer("members", members)

    def scores(self, codes: Tensor) -> Tensor:
        """Dot products with the unit centroids, of a class with several the largest: (B, D, h, w) to (B, K, h, w).

        Their order is that of the cosines. Linear in the codes where each class has one, so that they may be
        interpolated in the codes' place; else as good as that, for neighbours mostly share their nearest centroid.
        """
        scores = torch.einsum("bdhw,kd->bkhw", codes, F.normalize(self.clusters, dim=1))
        if self.members is None:
            return scores
        batch, _, height, width = scores.shape
        smallest = scores.new_full((batch, self.classes, height, width), -torch.inf)
        return smallest.scatter_reduce(1, self.members[:, None, None].expand_as(scores), scores, "amax")

    @classmethod
    def of(cls, centroids: Tensor, members: Tensor | None = None) -> ClusterProbe:
        """One with these centroids (P, D), the class of each being told by ``members``."""
        with torch.device("meta"):  # where nothing is drawn
            probe = cls(centroids.shape[1], len(centroids), members)
        probe.clusters = nn.Parameter(centroids.detach().clone())
        return probe

    @torch.no_grad()
    def row_scores(self, rows: Tensor) -> Tensor:
        """Scores (n, K) of codes (n, D), where the codes are."""
        maps = rows.to(self.clusters).T[None, :, :, None]
        return self.scores(maps)[0, :, :, 0].T.to(rows.device)

    def classes_of(self, rows: Tensor) -> Tensor:
        """Classes (n,) of codes (n, D), where the codes are."""
        return self.row_scores(rows).argmax(1)

    def directions(self) -> Tensor:
        """Unit vectors (K, D): each class's centroid, or the mean of its several."""
        centroids = F.normalize(self.clusters.detach().float(), dim=1)
        if self.members is None:
            return centroids
        sums = centroids.new_zeros(self.classes, centroids.shape[1]).index_add_(0, self.members, centroids)
        return F.normalize(sums, dim=1)

    def spread(self) -> Tensor:
        """How far apart the classes are: the mean of 1 - cosine over all pairs of directions, (); 1 where none is."""
        directions = self.directions()
        if self.classes < 2:
            return directions.new_ones(())
        mean = directions.mean(0)
        return (1 - mean @ mean) * self.classes / (self.classes - 1)

    def cosines(self, codes: Tensor) -> Tensor:
        """Cosines with the centroids, (B, K, h, w)."""
        return self.scores(F.normalize(codes, dim=1))

    def loss(self, codes: Tensor) -> Tensor:
        """Minus the mean of patches' largest cosine with a centroid."""
        largest = self.cosines(codes).max(1).values
        return -largest.mean(dtype=torch.promote_types(largest.dtype, torch.float32))

    def forward(self, codes: Tensor) -> Tensor:
        """The scores."""
        return self.scores(codes)


class LinearProbe(nn.Module):
    """A linear classifier over the codes, trained on labels: it tells how much of the classes the codes hold.

    Args:
        code_channels: width D of the codes.
        classes: number of labelled classes.
    """

    def __init__(self, code_channels: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(code_channels, classes, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (B, classes, h, w)."""
        logits: Tensor = self.classifier(codes)
        return logits

    def loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy at the labels' resolution.

        Args:
            codes: (B, D, h, w); the logits are upsampled bilinearly, which equals upsampling the codes.
            labels: (B, H, W) integer; whatever is no class, such as 255, is ignored.
        """
        logits = F.interpolate(self(codes), size=labels.shape[-2:], mode="bilinear", align_corners=False)
        known = (labels >= 0) & (labels < logits.shape[1])
        # A batch without any known label has no loss, rather than the mean of nothing.
        total = F.cross_entropy(logits, torch.where(known, labels, -1).long(), ignore_index=-1, reduction="sum")
        return total / known.sum().clamp_min(1)


def _count_classes(members: Tensor, clusters: int) -> int:
    numbers = sorted(set(members.flatten().tolist()))
    if members.shape != (clusters,) or members.is_floating_point() or numbers != list(range(len(numbers))):
        raise ValueError(f"{clusters} centroids cannot have the classes {numbers[:10]}")
    return len(numbers)
