"""The contrastive loss over discovered positives, streamed: nothing of size n x n ever exists.

Symbols as in the paper (arXiv 2303.15014): n = images * N rows, f^ frozen features, s^ codes of the averaged head,
z and z_mix projected codes, all of unit length; tau the temperature, lambda the weight of task-specific positives, rho
the share of non-positives kept in the denominator.

Two passes are made over blocks of pairs: one sums up every row's denominator and positives, one adds up the gradients
in closed form. :mod:`.streaming` makes them anywhere, :mod:`.fused` faster for half-precision rows on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from geohp.methods.hp import streaming
from geohp.methods.hp.fused import fused
from geohp.methods.hp.positives import PositivePairs
from geohp.methods.hp.products import operand
from geohp.methods.hp.streaming import Forces, Problem, Sums

BASE_TEMPERATURE = 0.07
"""The loss is scaled by tau / 0.07, as in supervised contrastive learning."""

_LOWEST_TEMPERATURE = 1 / 64
"""exp(1 / tau), summed over any number of rows, stays within float32: no maximum has to be subtracted."""


@dataclass(frozen=True)
class FoundPositives:
    """How many positives a batch found, as scalars on the rows' device: nothing waits for them until they are read.

    Attributes:
        anchors: share of rows that found a task-agnostic positive, and so take part in the loss.
        agnostic: mean number of task-agnostic positives of such a row; 0 without any.
        specific: mean number of its task-specific ones; ``None`` where lambda is 0 and they are not looked for.
    """

    anchors: Tensor
    agnostic: Tensor
    specific: Tensor | None


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
    on_positives: Callable[[FoundPositives], None] | None = None,
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
        on_positives: called with how many positives were found, which the loss knows without counting them.

    Returns:
        A scalar, float64 for float64 inputs and float32 otherwise; sums are never taken in less. Half-precision rows
        are exact up to that on a CPU; on a GPU the weights of pairs, too, enter the gradients' products as bfloat16.

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
        specific = (
            PositivePairs(codes.detach(), pool_specific.detach(), remember=again) if task_specific_weight else None
        )
        problem = Problem(
            agnostic=PositivePairs(features.detach(), pool_agnostic.detach(), remember=again),
            specific=specific,
            rows=n,
            images=images,
            temperature=temperature,
            weight=task_specific_weight,
            keep=_kept(keep, n // images, n, z.device),
            reweight=reweight,
        )
    with_gradient = [torch.is_grad_enabled() and view.requires_grad for view in (z, z_mix)]
    loss: Tensor
    loss, anchors, agnostic, task_specific = _Streamed.apply(z, z_mix, problem, with_gradient)
    if on_positives is not None:
        on_positives(FoundPositives(anchors, agnostic, task_specific if specific is not None else None))
    return loss


class _Streamed(torch.autograd.Function):
    """The loss; its gradients are computed along with it and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_mix: Tensor, problem: Problem, with_gradient: list[bool]) -> tuple[Tensor, ...]:
        with torch.autocast(z.device.type, enabled=False):
            views = [operand(view.detach()) for view in (z, z_mix)]
            passes = fused(views, problem) or streaming
            sums = passes.row_sums(views, problem)
            loss, share = _value(sums, problem)
            counted = _positives_per_anchor(sums, problem)
            gradients: list[Tensor | None] = [None, None]
            if any(with_gradient):
                gradients = passes.gradients(views, _forces(sums, share), problem, with_gradient)
            ctx.save_for_backward(
                *(None if g is None else g.to(view.dtype) for g, view in zip(gradients, (z, z_mix), strict=True))
            )
            ctx.mark_non_differentiable(*counted)
        return loss, *counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if g is None else g * upstream[0].to(g.dtype) for g in ctx.saved_tensors), None, None


def _value(sums: Sums, problem: Problem) -> tuple[Tensor, Tensor]:
    """The loss, and each anchor's share in it: -(tau / 0.07) r_i / (2 B n_i), 0 for rows left out."""
    is_anchor = (sums.positives > 0).view(problem.images, -1)
    mass = sums.mass.view(problem.images, -1)
    anchors = is_anchor.sum(1, keepdim=True).clamp_min(1)
    emphasis = torch.ones_like(mass)
    if problem.reweight:
        emphasis = mass / _guarded((mass * is_anchor).sum(1, keepdim=True) / anchors)
    share = (-(problem.temperature / BASE_TEMPERATURE) / (2 * problem.images)) * emphasis / anchors
    share = torch.where(is_anchor, share, 0).flatten()
    loss = share.new_zeros(())
    for similarity, partition in zip(sums.similarity, sums.partition, strict=True):
        loss = loss + (share * (similarity / _guarded(sums.mass) - _guarded(partition).log())).sum()
    return loss, share


def _positives_per_anchor(sums: Sums, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Share of anchors among the rows, and their mean numbers of positives in A and, from W = A + lambda E, in E."""
    is_anchor = sums.positives > 0
    anchors = is_anchor.sum().clamp_min(1)
    specific = (sums.mass - sums.positives) / (problem.weight or 1)
    return is_anchor.float().mean(), sums.positives.sum() / anchors, (specific * is_anchor).sum() / anchors


def _forces(sums: Sums, share: Tensor) -> Forces:
    """G_ij = share_i (w_ij / W_i - p_ij), p the softmax over the denominator, taken apart."""
    return Forces(share / _guarded(sums.mass), [-share / _guarded(partition) for partition in sums.partition])


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


def _guarded(values: Tensor) -> Tensor:
    """The values, 1 in place of 0: what is divided by it there carries no weight."""
    return torch.where(values > 0, values, 1)
