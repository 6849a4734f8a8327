"""The contrastive loss over discovered positives, streamed: nothing of size n x n ever exists.

Symbols as in the paper (arXiv 2303.15014): n = images * N rows, f^ frozen features, s^ codes of the averaged head,
z and z_mix projected codes, all of unit length; tau the temperature, lambda the weight of task-specific positives, rho
the share of non-positives kept in the denominator.

Positives and similarities are symmetric in (i, j), only the draw of kept non-positives is not, so no block below the
diagonal is computed: each serves its rows and its columns. Two passes are made over the blocks: one sums up every
row's denominator and positives, one adds up the gradients in closed form. Similarities are recomputed in the second
pass, which costs less than holding them would; the few positives are remembered as far as linear memory goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from geohp.methods.hp.positives import PositivePairs

BASE_TEMPERATURE = 0.07
"""The loss is scaled by tau / 0.07, as in supervised contrastive learning."""

_LOWEST_TEMPERATURE = 1 / 64
"""exp(1 / tau), summed over any number of rows, stays within float32: no maximum has to be subtracted."""

_BLOCK_CPU = 512  # a few of these stay in a core's cache
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
        temperature: tau, at least 1/64.
        task_specific_weight: lambda; at 0 the codes are not looked at.
        keep: rho, drawn once for all images' anchors, or the draw itself: bool (n / images, n).
        reweight: weigh an anchor by the mass of its positives relative to its image's mean.

    Returns:
        A scalar, float64 for float64 inputs and float32 otherwise; sums are never taken in less.

    Raises:
        ValueError: when the rows do not belong together, n is not a multiple of ``images``, the temperature is too
            low, or ``keep`` is no rate in [0, 1] and of another shape.
    """
    n = len(features)
    if not len(z) == len(z_mix) == len(codes) == n:
        raise ValueError(f"z, z_mix, features and codes differ in rows: {len(z)}, {len(z_mix)}, {n}, {len(codes)}")
    if images < 1 or n % images:
        raise ValueError(f"{n} rows are no whole number of patches for each of {images} images")
    if not temperature >= _LOWEST_TEMPERATURE:
        raise ValueError(f"the temperature must be at least 1/64, not {temperature}")
    # Autocasting would decide in half precision what is similar enough, and sum in it.
    with torch.autocast(z.device.type, enabled=False), torch.no_grad():
        again = z.requires_grad or z_mix.requires_grad
        specific = _pairs(codes, pool_specific, again) if task_specific_weight else None
        problem = _Problem(
            agnostic=_pairs(features, pool_agnostic, again),
            specific=specific,
            rows=n,
            images=images,
            temperature=temperature,
            weight=task_specific_weight,
            keep=_kept(keep, n // images, n, z.device),
            reweight=reweight,
        )
    wanted = [torch.is_grad_enabled() and view.requires_grad for view in (z, z_mix)]
    loss: Tensor = _Streamed.apply(z, z_mix, problem, wanted)
    return loss


@dataclass(frozen=True)
class _Problem:
    """Everything that carries no gradient."""

    agnostic: PositivePairs
    specific: PositivePairs | None
    rows: int
    images: int
    temperature: float
    weight: float
    keep: Tensor | None
    reweight: bool

    def blocks(self, size: int) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the blocks on and above the diagonal."""
        parts = [slice(start, min(start + size, self.rows)) for start in range(0, self.rows, size)]
        for i, rows in enumerate(parts):
            for cols in parts[i:]:
                yield rows, cols

    def kept(self, agnostic: Tensor, rows: slice, cols: slice) -> tuple[Tensor, Tensor] | None:
        """Whether a block's terms are in the denominators of its rows, and in those of its columns; None for all."""
        if self.keep is None:
            return None
        positive = agnostic.bool()
        of_rows, of_cols = (
            self.keep[torch.arange(anchors.start, anchors.stop, device=positive.device) % len(self.keep), others]
            for anchors, others in ((rows, cols), (cols, rows))
        )
        return positive | of_rows, positive | of_cols.T


class _Streamed(torch.autograd.Function):
    """The loss; its gradients are computed along with it and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_mix: Tensor, problem: _Problem, wanted: list[bool]) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            # Scaled like this, products are logits.
            views = [_wide(view.detach()) * problem.temperature**-0.5 for view in (z, z_mix)]
            sums = _row_sums(views, problem)
            loss, share = _value(sums, problem)
            gradients = _gradients(views, sums, share, problem, wanted) if any(wanted) else [None, None]
            ctx.save_for_backward(
                *(None if g is None else g.to(view.dtype) for g, view in zip(gradients, (z, z_mix), strict=True))
            )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if g is None else g * upstream[0].to(g.dtype) for g in ctx.saved_tensors), None, None


@dataclass(frozen=True)
class _Sums:
    """What each row sums up over its columns.

    Attributes:
        mass: W_i, the weight of its positives.
        positives: how many it found in A.
        similarity: for each view, sum_j w_ij l_ij.
        partition: for each view, sum over the denominator of exp l_ij.
    """

    mass: Tensor
    positives: Tensor
    similarity: list[Tensor]
    partition: list[Tensor]

    @classmethod
    def zeros(cls, views: list[Tensor]) -> _Sums:
        def zero() -> Tensor:
            return views[0].new_zeros(len(views[0]))

        return cls(zero(), zero(), [zero() for _ in views], [zero() for _ in views])


def _row_sums(views: list[Tensor], problem: _Problem) -> _Sums:
    sums = _Sums.zeros(views)
    for rows, cols in problem.blocks(_block_size(views[0])):
        weights = problem.agnostic.block(rows, cols)
        kept = problem.kept(weights, rows, cols)
        _tally(sums.positives, rows, cols, weights)
        if problem.specific is not None:
            weights.add_(problem.specific.block(rows, cols), alpha=problem.weight)
        _tally(sums.mass, rows, cols, weights)
        for view, similarity, partition in zip(views, sums.similarity, sums.partition, strict=True):
            logits = view[rows] @ view[cols].T
            _tally(similarity, rows, cols, logits * weights)
            terms = _exponentials(logits, rows == cols)
            _tally(partition, rows, cols, *((terms,) if kept is None else (terms * kept[0], terms * kept[1])))
    return sums


def _tally(total: Tensor, rows: slice, cols: slice, of_rows: Tensor, of_cols: Tensor | None = None) -> None:
    """Add a block's sums to the totals of its rows and, off the diagonal, of its columns."""
    total[rows].add_(of_rows.sum(1))
    if rows != cols:
        total[cols].add_((of_rows if of_cols is None else of_cols).sum(0))


def _value(sums: _Sums, problem: _Problem) -> tuple[Tensor, Tensor]:
    """The loss, and each anchor's share in it: -(tau / 0.07) r_i / (2 B n_i), 0 for rows left out."""
    kept = (sums.positives > 0).view(problem.images, -1)
    mass = sums.mass.view(problem.images, -1)
    anchors = kept.sum(1, keepdim=True).clamp_min(1)
    emphasis = torch.ones_like(mass)
    if problem.reweight:
        emphasis = mass / _guarded((mass * kept).sum(1, keepdim=True) / anchors)
    share = (-(problem.temperature / BASE_TEMPERATURE) / (2 * problem.images)) * emphasis / anchors
    share = torch.where(kept, share, 0).flatten()
    loss = share.new_zeros(())
    for similarity, partition in zip(sums.similarity, sums.partition, strict=True):
        loss = loss + (share * (similarity / _guarded(sums.mass) - _guarded(partition).log())).sum()
    return loss, share


def _gradients(
    views: list[Tensor], sums: _Sums, share: Tensor, problem: _Problem, wanted: list[bool]
) -> list[Tensor | None]:
    """dL/dz = (G + G^T) z / tau with G_ij = share_i (w_ij / W_i - p_ij), p the softmax over the denominator.

    Of z / tau, one square root of tau is in the views already.
    """
    pull = share / _guarded(sums.mass)
    pushes = [-share / _guarded(partition) for partition in sums.partition]
    gradients = [torch.zeros_like(view) if want else None for view, want in zip(views, wanted, strict=True)]
    for rows, cols in problem.blocks(_block_size(views[0])):
        weights = problem.agnostic.block(rows, cols)
        kept = problem.kept(weights, rows, cols)
        if problem.specific is not None:
            weights.add_(problem.specific.block(rows, cols), alpha=problem.weight)
        weights *= pull[rows, None] + pull[cols]
        for view, push, gradient in zip(views, pushes, gradients, strict=True):
            if gradient is None:
                continue
            both = _exponentials(view[rows] @ view[cols].T, rows == cols)
            if kept is None:
                both *= push[rows, None] + push[cols]
            else:
                both *= kept[0] * push[rows, None] + kept[1] * push[cols]
            both += weights
            gradient[rows].addmm_(both, view[cols])
            if rows != cols:
                gradient[cols].addmm_(both.T, view[rows])
    return [None if gradient is None else gradient.mul_(problem.temperature**-0.5) for gradient in gradients]


def _exponentials(logits: Tensor, diagonal: bool) -> Tensor:
    """Exponentials of the logits, in their place; a row has no term with itself."""
    logits.exp_()
    return logits.fill_diagonal_(0) if diagonal else logits


def _pairs(rows: Tensor, pool: Tensor, remember: bool) -> PositivePairs:
    return PositivePairs(_wide(rows.detach()), _wide(pool.detach()), remember=remember)


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
    for row in kept:  # row by row: the draws themselves take four times the room of their outcome
        torch.lt(torch.rand(n, device=device), keep, out=row)
    return kept


def _block_size(like: Tensor) -> int:
    return _BLOCK_GPU if like.is_cuda else _BLOCK_CPU


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _guarded(values: Tensor) -> Tensor:
    """The values, 1 in place of 0: what is divided by it there carries no weight."""
    return torch.where(values > 0, values, 1)
