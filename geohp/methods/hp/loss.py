"""The contrastive loss over discovered positives, streamed: nothing of size n x n ever exists.

Symbols as in the paper (arXiv 2303.15014): n = images * N rows, f^ frozen features, s^ codes of the averaged head,
z and z_mix projected codes, all of unit length; A and E the positives found in f^ and in s^; tau the temperature,
lambda the weight of task-specific positives, rho the share of non-positives kept in the denominator.

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
from geohp.methods.hp.positives import PositivePairs, ViewPairs
from geohp.methods.hp.products import operand
from geohp.methods.hp.settings import LOWEST_TEMPERATURE
from geohp.methods.hp.streaming import Forces, Problem, Sums

BASE_TEMPERATURE = 0.07
"""The loss is scaled by tau / 0.07, as in supervised contrastive learning."""


@dataclass(frozen=True)
class FoundPositives:
    """How many positives a batch found, as scalars on the rows' device: nothing waits for them until they are read.

    Attributes:
        anchors: share of rows that found a task-agnostic positive, and so take part in the loss.
        agnostic: mean number of positives in A of such a row; 0 without any.
        specific: mean number of those in E; ``None`` where lambda is 0 and they are not looked for.
    """

    anchors: Tensor
    agnostic: Tensor
    specific: Tensor | None


def contrastive_loss(
    z: Tensor,
    z_mix: Tensor | None,
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
    symmetric: bool = True,
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
        z_mix: (n, D) unit rows of the locally mixed codes; gradients flow into it. ``None`` leaves the loss of z alone.
        features: (n, C) unit rows f^.
        codes: (n, D') unit rows s^.
        pool_agnostic: (R, C) rows of length 1 (or 0: then a cosine of 0).
        pool_specific: (R', D') likewise.
        images: number of images B; n is a multiple of it.
        temperature: tau, at least 1/64.
        task_specific_weight: lambda; at 0 the codes are not looked at.
        keep: rho, drawn once for all images' anchors, or the draw itself: bool (n / images, n).
        reweight: weigh an anchor by the mass of its positives relative to its image's mean.
        symmetric: two rows are positives of each other where either finds the other, as above; otherwise row i's are
            those alone that it finds itself.
        on_positives: called with how many positives were found, which the loss knows without counting them.

    Returns:
        A scalar, float64 for float64 inputs and float32 otherwise; sums are never taken in less. Half-precision rows
        are exact up to that on a CPU; on a GPU the weights of pairs, too, enter the gradients' products as bfloat16.

    Raises:
        ValueError: when the rows do not belong together, n is not a multiple of ``images``, the temperature is too
            low, or ``keep`` is no rate in [0, 1] and of another shape.
    """
    views = [z] if z_mix is None else [z, z_mix]
    _check(views, images, temperature)
    n = len(z)
    if not len(features) == len(codes) == n:
        raise ValueError(f"z, features and codes differ in rows: {n}, {len(features)}, {len(codes)}")
    # Autocasting would decide in half precision what is similar enough, and sum in it.
    with torch.autocast(z.device.type, enabled=False), torch.no_grad():
        search = {"remember": any(view.requires_grad for view in views), "symmetric": symmetric}
        specific = PositivePairs(codes.detach(), pool_specific.detach(), **search) if task_specific_weight else None
        problem = Problem(
            agnostic=PositivePairs(features.detach(), pool_agnostic.detach(), **search),
            specific=specific,
            rows=n,
            images=images,
            temperature=temperature,
            weight=task_specific_weight,
            keep=_kept(keep, n // images, n, z.device),
            reweight=reweight,
        )
    loss, anchors, agnostic, task_specific = _streamed(views, problem)
    if on_positives is not None:
        on_positives(FoundPositives(anchors, agnostic, task_specific if specific is not None else None))
    return loss


def view_loss(z: Tensor, z_mix: Tensor | None, *, images: int, temperature: float, keep: Tensor | float) -> Tensor:
    """Naive contrast: the only positive of a patch is itself in another view of its image, all others are negatives.

    The loss of :func:`contrastive_loss` with an A that holds these pairs and nothing else: an anchor's loss is
    ``-(tau / 0.07) (l_ij - log sum_k exp l_ik)``, j the same patch in the other view, the sum over all others of both
    views (NT-Xent of SimCLR, arXiv 2002.05709), or over j and the kept ones. Nothing is discovered.

    Args:
        z: (n, D) unit rows, image-major: all images, and below them their other views in the same order.
        z_mix: (n, D) unit rows of the locally mixed codes, likewise; ``None`` leaves the loss of z alone.
        images: number of images and other views together: 2 B.
        temperature, keep: as in :func:`contrastive_loss`.

    Returns, Raises:
        As :func:`contrastive_loss`.
    """
    views = [z] if z_mix is None else [z, z_mix]
    _check(views, images, temperature)
    if images % 2:
        raise ValueError(f"{images} images are no two views of each")
    problem = Problem(
        agnostic=ViewPairs(z.detach()),
        specific=None,
        rows=len(z),
        images=images,
        temperature=temperature,
        weight=0.0,
        keep=_kept(keep, len(z) // images, len(z), z.device),
        reweight=False,  # all anchors have as many positives
    )
    return _streamed(views, problem)[0]


def _check(views: list[Tensor], images: int, temperature: float) -> None:
    n = len(views[0])
    if any(len(view) != n for view in views):
        raise ValueError(f"z and z_mix differ in rows: {', '.join(str(len(view)) for view in views)}")
    if images < 1 or n % images:
        raise ValueError(f"{n} rows are no whole number of patches for each of {images} images")
    if not temperature >= LOWEST_TEMPERATURE:
        raise ValueError(f"the temperature must be at least 1/64, not {temperature}")


def _streamed(views: list[Tensor], problem: Problem) -> tuple[Tensor, ...]:
    """The loss, and what :func:`_positives_per_anchor` tells."""
    with_gradient = [torch.is_grad_enabled() and view.requires_grad for view in views]
    results: tuple[Tensor, ...] = _Streamed.apply(problem, with_gradient, *views)
    return results


class _Streamed(torch.autograd.Function):
    """The loss; its gradients are computed along with it and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, with_gradient: list[bool], *rows: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(rows[0].device.type, enabled=False):
            views = [operand(view.detach()) for view in rows]
            passes = fused(views, problem) or streaming
            sums = passes.row_sums(views, problem)
            loss, share = _value(sums, problem)
            counted = _positives_per_anchor(sums, problem)
            gradients: list[Tensor | None] = [None for _ in views]
            if any(with_gradient):
                gradients = passes.gradients(views, _forces(sums, share), problem, with_gradient)
            ctx.dtypes = [view.dtype for view in rows]
            ctx.save_for_backward(*gradients)
            ctx.mark_non_differentiable(*counted)
        return loss, *counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        # Float16 has not the range for a single pair's gradient before the loss's scale has been applied.
        scaled = (None if g is None else (g * upstream[0].to(g.dtype)) for g in ctx.saved_tensors)
        return None, None, *(None if g is None else g.to(dtype) for g, dtype in zip(scaled, ctx.dtypes, strict=True))


def _value(sums: Sums, problem: Problem) -> tuple[Tensor, Tensor]:
    """The loss, and each anchor's share in it: -(tau / 0.07) r_i / (V B n_i) of V views, 0 for rows left out."""
    is_anchor = (sums.positives > 0).view(problem.images, -1)
    mass = sums.mass.view(problem.images, -1)
    anchors = is_anchor.sum(1, keepdim=True).clamp_min(1)
    emphasis = torch.ones_like(mass)
    if problem.reweight:
        emphasis = mass / _guarded((mass * is_anchor).sum(1, keepdim=True) / anchors)
    views = len(sums.similarity)
    share = (-(problem.temperature / BASE_TEMPERATURE) / (views * problem.images)) * emphasis / anchors
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
