"""Two passes over the blocks of all pairs of rows: sums of each row, then gradients. Plain torch, on any device.

No block below the diagonal is computed: similarities are symmetric in (i, j), and positives where they are asked to be,
only the draw of kept non-positives is not, so a block serves its rows and its columns. Similarities are recomputed in
the second pass, which costs less than holding them would.

Half-precision rows are multiplied as they are on a GPU, everything else is widened before; what comes out of a product
is float32 (float64 for float64), and so is every sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geohp.methods.hp.positives import PositivePairs, TwoWay, ViewPairs
from geohp.methods.hp.products import product

_BLOCK_CPU = 512  # a few of these stay in a core's cache
_BLOCK_GPU = 4096


@dataclass(frozen=True)
class Problem:
    """Everything that carries no gradient.

    Attributes:
        agnostic, specific: the pairs A and E, both symmetric or neither; no E where lambda is 0.
        rows: n; images: B.
        temperature: tau; weight: lambda.
        keep: (N, n) bool, the non-positives kept in the denominators of each image's anchors; ``None`` for all.
        reweight: weigh anchors by the mass of their positives.
    """

    agnostic: PositivePairs | ViewPairs
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

    def denominator_masks(self, agnostic: TwoWay, rows: slice, cols: slice) -> TwoWay | None:
        """Whether a block's terms are in the denominators of its rows, and in those of its columns; None for all."""
        if self.keep is None:
            return None
        device = agnostic.of_rows.device
        of_rows, of_cols = (
            self.keep[torch.arange(anchors.start, anchors.stop, device=device) % len(self.keep), others]
            for anchors, others in ((rows, cols), (cols, rows))
        )
        return TwoWay(agnostic.of_rows.bool() | of_rows, agnostic.of_cols.bool() | of_cols.T)

    def weights(self, agnostic: TwoWay, rows: slice, cols: slice) -> TwoWay:
        """Of a block, w = A + lambda E in the place of A."""
        if self.specific is None:
            return agnostic
        return agnostic.add(self.specific.block(rows, cols), self.weight)


@dataclass(frozen=True)
class Sums:
    """What each row sums up over its columns.

    Attributes:
        mass: (n,) W_i, the weight of its positives.
        positives: (n,) how many it found in A.
        similarity: (n,) for each view, sum_j w_ij l_ij.
        partition: (n,) for each view, sum over the denominator of exp l_ij.
    """

    mass: Tensor
    positives: Tensor
    similarity: list[Tensor]
    partition: list[Tensor]


@dataclass(frozen=True)
class Forces:
    """What a pair contributes to the gradients: ``G_ij = pull_i w_ij + push_i [in denominator] exp l_ij``.

    Attributes:
        pull: (n,) share_i / W_i.
        push: (n,) for each view, -share_i / partition_i.
    """

    pull: Tensor
    push: list[Tensor]


def row_sums(views: list[Tensor], problem: Problem) -> Sums:
    """The first pass, for views (n, D) of z."""

    def zeros() -> Tensor:
        return torch.zeros(problem.rows, dtype=wide_dtype(views[0]), device=views[0].device)

    sums = Sums(zeros(), zeros(), [zeros() for _ in views], [zeros() for _ in views])
    for rows, cols in problem.blocks(_block_size(views[0])):
        positive = problem.agnostic.block(rows, cols)
        masks = problem.denominator_masks(positive, rows, cols)
        _tally(sums.positives, rows, cols, positive)
        weights = problem.weights(positive, rows, cols)
        _tally(sums.mass, rows, cols, weights)
        for view, similarity, partition in zip(views, sums.similarity, sums.partition, strict=True):
            logits = _logits(view, rows, cols, problem)
            _tally(similarity, rows, cols, _times(weights, logits))
            terms = _exponentials(logits, rows == cols)
            _tally(partition, rows, cols, TwoWay(terms, terms) if masks is None else _times(masks, terms))
    return sums


def gradients(views: list[Tensor], forces: Forces, problem: Problem, with_gradient: list[bool]) -> list[Tensor | None]:
    """The second pass: dL/dz = (G + G^T) z / tau of the views that need one."""
    totals = [
        torch.zeros_like(view, dtype=wide_dtype(view)) if needed else None
        for view, needed in zip(views, with_gradient, strict=True)
    ]
    for rows, cols in problem.blocks(_block_size(views[0])):
        positive = problem.agnostic.block(rows, cols)
        masks = problem.denominator_masks(positive, rows, cols)
        pulled = _pulled(problem.weights(positive, rows, cols), forces.pull[rows, None], forces.pull[cols])
        for view, push, total in zip(views, forces.push, totals, strict=True):
            if total is None:
                continue
            both = _exponentials(_logits(view, rows, cols, problem), rows == cols)
            if masks is None:
                both *= push[rows, None] + push[cols]
            else:
                both *= masks.of_rows * push[rows, None] + masks.of_cols * push[cols]
            both += pulled
            product(both, view[cols], add_to=total[rows])
            if rows != cols:
                product(both.T, view[rows], add_to=total[cols])
    return [None if total is None else total.mul_(1 / problem.temperature) for total in totals]


def wide_dtype(values: Tensor) -> torch.dtype:
    """What sums over these values are taken in."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _tally(total: Tensor, rows: slice, cols: slice, block: TwoWay) -> None:
    """Add a block's sums to the totals of its rows and, off the diagonal, of its columns."""
    total[rows].add_(block.of_rows.sum(1))
    if rows != cols:
        total[cols].add_(block.of_cols.sum(0))


def _times(block: TwoWay, values: Tensor) -> TwoWay:
    """The block times values that are the same in both directions."""
    of_rows = values * block.of_rows
    return TwoWay(of_rows, of_rows if block.symmetric else values * block.of_cols)


def _pulled(weights: TwoWay, of_rows: Tensor, of_cols: Tensor) -> Tensor:
    """Weights times what their anchors pull with, both directions added up, in the place of the weights."""
    if weights.symmetric:
        return weights.of_rows.mul_(of_rows + of_cols)
    return weights.of_rows.mul_(of_rows).add_(weights.of_cols.mul_(of_cols))


def _logits(view: Tensor, rows: slice, cols: slice, problem: Problem) -> Tensor:
    return product(view[rows], view[cols].T, scale=1 / problem.temperature)


def _exponentials(logits: Tensor, diagonal: bool) -> Tensor:
    """Exponentials of the logits, in their place; a row has no term with itself."""
    logits.exp_()
    return logits.fill_diagonal_(0) if diagonal else logits


def _block_size(like: Tensor) -> int:
    return _BLOCK_GPU if like.is_cuda else _BLOCK_CPU
