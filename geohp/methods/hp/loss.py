"""The contrastive loss over discovered positives, streamed: nothing of size n x n ever exists.

Symbols as in the paper (arXiv 2303.15014): n = images * N rows, f^ frozen features, s^ codes of the averaged head,
z and z_mix projected codes, all of unit length; tau the temperature, lambda the weight of task-specific positives, rho
the share of non-positives kept in the denominator.

Positives, denominators and similarities are symmetric in (i, j) but for the kept non-positives, so only blocks on and
above the diagonal are computed, and each serves its rows and its columns. Two passes are made over them: one sums up
every row's denominator and positives, one adds up the gradients in closed form. Recomputing the products in the second
pass costs less than keeping them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BASE_TEMPERATURE = 0.07
"""The loss is scaled by tau / 0.07, as in supervised contrastive learning."""

_BLOCK_CPU = 512
_BLOCK_GPU = 4096


def contrastive_loss(
    z: Tensor,
    z_mix: Tensor,
    features: Tensor,
    codes: Tensor,
    pool_agnostic: Tensor,
    pool_specific: Tensor,
    *,
    images: int,
    temperature: float,
    task_specific_weight: float,
    keep: Tensor | float,
    reweight: bool = True,
) -> Tensor:
    """Mean over images of the loss of z and of z_mix, whose positives are discovered in features and codes.

    Row i finds j a task-agnostic positive where f^_i . f^_j exceeds the largest cosine of f^_i, or of f^_j, with the
    agnostic pool; task-specific positives likewise with s^ and the specific pool. With A and E for the two,
    ``w = A + lambda E`` and ``l = z z^T / tau``, an anchor's loss is ``-(tau / 0.07) sum_j w_ij (l_ij - log sum_k
    exp l_ik) / sum_j w_ij``, the inner sum over A and the kept non-positives. Anchors without a positive in A are left
    out; an image without any anchor contributes 0.

    Args:
        z: (n, D) unit rows, image-major; gradients flow into it.
        z_mix: (n, D) unit rows of the locally mixed codes; gradients flow into it.
        features: (n, C) unit rows f^.
        codes: (n, D') unit rows s^.
        pool_agnostic: (R, C) rows of length 1 (or 0: then a cosine of 0).
        pool_specific: (R', D') likewise.
        images: number of images B; n is a multiple of it.
        temperature: tau.
        task_specific_weight: lambda; at 0 the codes are not looked at.
        keep: rho, drawn once for all images' anchors, or the draw itself: bool (n / images, n).
        reweight: weigh an anchor by the mass of its positives relative to its image's mean.

    Returns:
        A scalar, float64 for float64 inputs and float32 otherwise; sums are never taken in less.

    Raises:
        ValueError: when n is not a multiple of ``images``, or ``keep`` is no rate in [0, 1] and of another shape.
    """
    problem = _Problem.of(
        features, codes, pool_agnostic, pool_specific, images, temperature, task_specific_weight, keep, reweight
    )
    loss: Tensor = _Streamed.apply(z, z_mix, problem)
    return loss


@dataclass(frozen=True)
class _Problem:
    """Everything that carries no gradient."""

    features: Tensor
    codes: Tensor
    bound_agnostic: Tensor
    bound_specific: Tensor
    images: int
    temperature: float
    weight: float
    keep: Tensor | None
    reweight: bool

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        features: Tensor,
        codes: Tensor,
        pool_agnostic: Tensor,
        pool_specific: Tensor,
        images: int,
        temperature: float,
        weight: float,
        keep: Tensor | float,
        reweight: bool,
    ) -> _Problem:
        n = len(features)
        if images < 1 or n % images:
            raise ValueError(f"{n} rows are no whole number of patches for each of {images} images")
        features, codes = _wide(features.detach()), _wide(codes.detach())
        return cls(
            features,
            codes,
            _largest_cosine(features, _wide(pool_agnostic.detach())),
            _largest_cosine(codes, _wide(pool_specific.detach())) if weight else features.new_empty(0),
            images,
            temperature,
            weight,
            _kept(keep, n // images, n, features.device),
            reweight,
        )

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the blocks on and above the diagonal."""
        n, size = len(self.features), _BLOCK_GPU if self.features.is_cuda else _BLOCK_CPU
        parts = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        for i, rows in enumerate(parts):
            for cols in parts[i:]:
                yield rows, cols

    def positives(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """A (bool) and w = A + lambda E (float) of one block; a row is no positive of itself."""
        agnostic = _above(self.features, self.bound_agnostic, rows, cols)
        weights = agnostic.to(self.features.dtype)
        if self.weight:
            weights.add_(_above(self.codes, self.bound_specific, rows, cols), alpha=self.weight)
        return agnostic, weights

    def denominators(self, agnostic: Tensor, rows: slice, cols: slice) -> tuple[Tensor, Tensor] | None:
        """Which terms of a block are in the denominators of its rows, and in those of its columns; None for all."""
        if self.keep is None:
            return None
        patches = len(self.keep)
        of_rows = self.keep[torch.arange(rows.start, rows.stop, device=self.keep.device) % patches, cols]
        of_cols = self.keep[torch.arange(cols.start, cols.stop, device=self.keep.device) % patches, rows]
        return agnostic | of_rows, agnostic | of_cols.T


class _Streamed(torch.autograd.Function):
    """The loss; its gradients are computed along with it and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_mix: Tensor, problem: _Problem) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            views = [_wide(view.detach()) for view in (z, z_mix)]
            sums = _row_sums(views, problem)
            loss, anchor = _value(sums, problem)
            ctx.gradients = None
            if any(ctx.needs_input_grad[:2]):
                found = _gradients(views, sums, anchor, problem)
                ctx.gradients = [g.to(v.dtype) for g, v in zip(found, (z, z_mix), strict=True)]
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        dz, dz_mix = (upstream[0].to(g.dtype) * g for g in ctx.gradients)
        return dz, dz_mix, None


@dataclass(frozen=True)
class _Sums:
    """What each row sums up over its columns.

    Attributes:
        mass: W_i, the weight of its positives.
        has_positive: whether it found any in A.
        similarity: for each view, sum_j w_ij z_i . z_j.
        partition: for each view, sum over the denominator of exp((z_i . z_j - 1) / tau); never overflows.
    """

    mass: Tensor
    has_positive: Tensor
    similarity: list[Tensor]
    partition: list[Tensor]


def _row_sums(views: list[Tensor], problem: _Problem) -> _Sums:
    n, like = len(problem.features), problem.features
    mass, found = like.new_zeros(n), torch.zeros(n, dtype=torch.bool, device=like.device)
    similarity, partition = ([like.new_zeros(n) for _ in views] for _ in range(2))
    for rows, cols in problem.blocks():
        square = rows == cols
        agnostic, weights = problem.positives(rows, cols)
        inside = problem.denominators(agnostic, rows, cols)
        mass[rows] += weights.sum(1)
        found[rows] |= agnostic.any(1)
        if not square:
            mass[cols] += weights.sum(0)
            found[cols] |= agnostic.any(0)
        for view, similar, part in zip(views, similarity, partition, strict=True):
            cosine = view[rows] @ view[cols].T
            terms = _exponentials(cosine, problem.temperature, square)
            of_rows, of_cols = (terms, terms) if inside is None else (terms * inside[0], terms * inside[1])
            cosine *= weights
            similar[rows] += cosine.sum(1)
            part[rows] += of_rows.sum(1)
            if not square:
                similar[cols] += cosine.sum(0)
                part[cols] += of_cols.sum(0)
    return _Sums(mass, found, similarity, partition)


def _value(sums: _Sums, problem: _Problem) -> tuple[Tensor, Tensor]:
    """The loss, and each anchor's share in it: -(tau / 0.07) r_i / (2 B n_i), 0 for rows left out."""
    tau, images = problem.temperature, problem.images
    kept = sums.has_positive.view(images, -1)
    mass = sums.mass.view(images, -1)
    anchors = kept.sum(1, keepdim=True).clamp_min(1)
    emphasis = torch.ones_like(mass)
    if problem.reweight:
        mean = (mass * kept).sum(1, keepdim=True) / anchors
        emphasis = mass / torch.where(mean > 0, mean, 1)
    share = (-(tau / BASE_TEMPERATURE) / (2 * images)) * emphasis / anchors
    share = torch.where(kept, share, 0).flatten()
    loss = share.new_zeros(())
    for similar, part in zip(sums.similarity, sums.partition, strict=True):
        log_partition = _guarded(part).log() + 1 / tau
        loss = loss + (share * (similar / (_guarded(sums.mass) * tau) - log_partition)).sum()
    return loss, share


def _gradients(views: list[Tensor], sums: _Sums, share: Tensor, problem: _Problem) -> list[Tensor]:
    """dL/dz = (G + G^T) z with G_ij = share_i / tau (w_ij / W_i - p_ij), p the softmax over the denominator."""
    pull = share / (problem.temperature * _guarded(sums.mass))
    pushes = [share / (problem.temperature * _guarded(part)) for part in sums.partition]
    gradients = [torch.zeros_like(view) for view in views]
    for rows, cols in problem.blocks():
        square = rows == cols
        agnostic, weights = problem.positives(rows, cols)
        inside = problem.denominators(agnostic, rows, cols)
        weights *= pull[rows, None] + pull[cols]
        for view, push, gradient in zip(views, pushes, gradients, strict=True):
            terms = _exponentials(view[rows] @ view[cols].T, problem.temperature, square)
            if inside is None:
                terms *= push[rows, None] + push[cols]
            else:
                terms *= inside[0] * push[rows, None] + inside[1] * push[cols]
            both = torch.sub(weights, terms, out=terms)
            gradient[rows] += both @ view[cols]
            if not square:
                gradient[cols] += both.T @ view[rows]
    return gradients


def _exponentials(cosine: Tensor, temperature: float, square: bool) -> Tensor:
    """exp((cosine - 1) / tau); a row has no term with itself."""
    terms = ((cosine - 1) / temperature).exp_()
    if square:
        terms.fill_diagonal_(0)
    return terms


def _above(rows_of: Tensor, bound: Tensor, rows: slice, cols: slice) -> Tensor:
    """Whether the cosine of a pair exceeds the bound of either: the same as exceeding the lower of the two."""
    found = rows_of[rows] @ rows_of[cols].T > torch.minimum(bound[rows, None], bound[cols])
    return found.fill_diagonal_(False) if rows == cols else found


def _largest_cosine(rows: Tensor, pool: Tensor) -> Tensor:
    """max_k row . pool_k for every row, in blocks."""
    return torch.cat([(part @ pool.T).amax(1) for part in torch.split(rows, _BLOCK_GPU)])


def _kept(keep: Tensor | float, patches: int, n: int, device: torch.device) -> Tensor | None:
    """The kept non-positives as bool (N, n), or None where all are kept."""
    if isinstance(keep, Tensor):
        if keep.shape != (patches, n):
            raise ValueError(f"keep must have the shape {(patches, n)}, not {tuple(keep.shape)}")
        return keep.to(device, torch.bool)
    if not 0 <= keep <= 1:
        raise ValueError(f"keep must be a rate in [0, 1], not {keep}")
    if keep == 1:
        return None
    kept = torch.empty(patches, n, dtype=torch.bool, device=device)
    for row in kept:  # row by row: the draws themselves take eight times the room of their outcome
        torch.lt(torch.rand(n, device=device), keep, out=row)
    return kept


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _guarded(values: Tensor) -> Tensor:
    """The values, 1 in place of 0: what is divided by it there carries no weight."""
    return torch.where(values > 0, values, 1)
