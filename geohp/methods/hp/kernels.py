"""Triton kernels of the two passes; :mod:`.fused` says when they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from geohp.methods.hp.positives import PositivePairs
from geohp.methods.hp.products import product_of_halves
from geohp.methods.hp.streaming import Forces, Problem, Sums

HEIGHT, WIDTH, DEPTH = 128, 128, 32  # of a tile: more, and its values no longer fit the registers of eight warps
STRIP = 4096  # rows taken at once: their operands stay in the second-level cache
BLOCK = 16384  # columns whose weights are weighted at once, times a strip of rows, times two views: 268 MB
_QUANTITIES = 2  # positives and mass; for each view there are similarity and partition besides
LAUNCH = {"num_warps": 8, "num_stages": 4}


def row_sums(views: list[Tensor], problem: Problem) -> Sums:
    """The first pass, for views (n, D) of z; see :func:`.streaming.row_sums`."""
    operands = _Operands.of(torch.stack(views), problem)
    n = problem.rows
    totals = torch.zeros(_QUANTITIES + 2 * len(views), n, dtype=torch.float32, device=views[0].device)
    for first in range(0, n, STRIP):
        rows, cols = min(STRIP, n - first), n - first
        grid = (triton.cdiv(rows, HEIGHT), triton.cdiv(cols, WIDTH))
        # Tiles below the diagonal leave their parts at zero.
        of_rows = totals.new_zeros(len(totals), grid[1], grid[0] * HEIGHT)
        of_cols = totals.new_zeros(len(totals), grid[0], grid[1] * WIDTH)
        sums_kernel[grid](*operands.pointers, of_rows, of_cols, first, *operands.sizes, **operands.constants, **LAUNCH)
        totals[:, first : first + rows] += of_rows.sum(1)[:, :rows]
        totals[:, first:] += of_cols.sum(1)[:, :cols]
    positives, mass, *rest = totals.unbind()
    return Sums(mass, positives, rest[: len(views)], rest[len(views) :])


def gradients(views: list[Tensor], forces: Forces, problem: Problem, with_gradient: list[bool]) -> list[Tensor | None]:
    """The second pass, for views (n, D) of z; see :func:`.streaming.gradients`."""
    stacked = torch.stack(views)
    operands = _Operands.of(stacked, problem)
    n = problem.rows
    # Weights of pairs span more orders of magnitude than float16 has.
    both = stacked.to(torch.bfloat16)
    totals = torch.zeros(both.shape, dtype=torch.float32, device=both.device)
    pull, pushes = forces.pull.float(), torch.stack(forces.push).float()
    for first in range(0, n, STRIP):
        rows = slice(first, min(first + STRIP, n))
        for start in range(first, n, BLOCK):
            cols = slice(start, min(start + BLOCK, n))
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            grid = (triton.cdiv(shape[0], HEIGHT), triton.cdiv(shape[1], WIDTH))
            whole = torch.empty(len(views), grid[0] * HEIGHT, grid[1] * WIDTH, dtype=torch.bfloat16, device=both.device)
            weights_kernel[grid](
                *operands.pointers, pull, pushes, whole, first, start, *operands.sizes, **operands.constants, **LAUNCH
            )
            weights = whole[:, : shape[0], : shape[1]]
            totals[:, rows] += product_of_halves(weights, both[:, cols])
            totals[:, cols] += product_of_halves(weights.transpose(1, 2), both[:, rows])
    totals *= 1 / problem.temperature
    return [total if needed else None for total, needed in zip(totals, with_gradient, strict=True)]


@dataclass(frozen=True)
class _Operands:
    """A problem as the kernels' arguments."""

    pointers: tuple[Tensor, ...]
    sizes: tuple[float, ...]
    constants: dict[str, Any]

    @classmethod
    def of(cls, views: Tensor, problem: Problem) -> _Operands:
        agnostic = problem.agnostic
        assert isinstance(agnostic, PositivePairs)
        specific = problem.specific or agnostic  # a pointer has to be given, though nothing is read from it
        keep = views if problem.keep is None else problem.keep.view(torch.uint8)
        widths = {"C": agnostic.rows.shape[1], "S": specific.rows.shape[1], "D": views.shape[2]}
        depth = min(DEPTH, *(width & -width for width in widths.values()))  # the largest power of two in all of them
        return cls(
            pointers=tuple(
                part.contiguous()
                for part in (views, agnostic.rows, specific.rows, agnostic.bound, specific.bound, keep)
            ),
            sizes=(problem.rows, problem.rows // problem.images, 1 / problem.temperature, problem.weight),
            constants={
                **widths, "DEPTH": depth, "HEIGHT": HEIGHT, "WIDTH": WIDTH,
                "SPECIFIC": problem.specific is not None, "KEEP": problem.keep is not None,
                "SYMMETRIC": agnostic.symmetric, "VIEWS": len(views),
            },
        )  # fmt: skip


@triton.jit
def sums_kernel(
    views, features, codes, agnostic_bound, specific_bound, keep, of_rows, of_cols,
    first, n, patches, sharpness, task_specific_weight,
    C: tl.constexpr, S: tl.constexpr, D: tl.constexpr, DEPTH: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SPECIFIC: tl.constexpr, KEEP: tl.constexpr,
    SYMMETRIC: tl.constexpr, VIEWS: tl.constexpr,
):  # fmt: skip
    """A tile's sums for its rows, of_rows (Q, column tiles, rows), and columns, of_cols (Q, row tiles, columns)."""
    tile_row, tile_col = tl.program_id(0), tl.program_id(1)
    if tile_row * HEIGHT >= (tile_col + 1) * WIDTH:
        return
    own_rows, own_cols = tl.arange(0, HEIGHT), tl.arange(0, WIDTH)
    rows, cols = first + tile_row * HEIGHT + own_rows, first + tile_col * WIDTH + own_cols
    pairs = (rows[:, None] < cols[None, :]) & (cols[None, :] < n)
    positive, of_others = _similar(features, agnostic_bound, rows, cols, n, C, DEPTH, HEIGHT, WIDTH, SYMMETRIC)
    positive, of_others = positive & pairs, of_others & pairs
    weights, weights_of_cols = positive.to(tl.float32), of_others.to(tl.float32)
    of_rows += (tile_col * tl.num_programs(0) + tile_row) * HEIGHT + own_rows
    of_cols += (tile_row * tl.num_programs(1) + tile_col) * WIDTH + own_cols
    next_rows = tl.num_programs(0) * tl.num_programs(1) * HEIGHT
    next_cols = tl.num_programs(0) * tl.num_programs(1) * WIDTH
    tl.store(of_rows, tl.sum(weights, 1))
    tl.store(of_cols, tl.sum(weights_of_cols, 0))
    if SPECIFIC:
        also, also_of_cols = _similar(codes, specific_bound, rows, cols, n, S, DEPTH, HEIGHT, WIDTH, SYMMETRIC)
        weights += (also & pairs).to(tl.float32) * task_specific_weight
        weights_of_cols += (also_of_cols & pairs).to(tl.float32) * task_specific_weight
    tl.store(of_rows + next_rows, tl.sum(weights, 1))
    tl.store(of_cols + next_cols, tl.sum(weights_of_cols, 0))
    if KEEP:
        by_rows = positive | _kept(keep, rows[:, None], cols[None, :], n, patches)
        by_cols = of_others | _kept(keep, cols[None, :], rows[:, None], n, patches)
    for view in range(VIEWS):
        logits = _products(views + view * n * D, rows, cols, n, D, DEPTH, HEIGHT, WIDTH) * sharpness
        tl.store(of_rows + (2 + view) * next_rows, tl.sum(weights * logits, 1))
        tl.store(of_cols + (2 + view) * next_cols, tl.sum(weights_of_cols * logits, 0))
        terms = tl.where(pairs, tl.exp(logits), 0.0)
        if KEEP:
            tl.store(of_rows + (2 + VIEWS + view) * next_rows, tl.sum(tl.where(by_rows, terms, 0.0), 1))
            tl.store(of_cols + (2 + VIEWS + view) * next_cols, tl.sum(tl.where(by_cols, terms, 0.0), 0))
        else:
            tl.store(of_rows + (2 + VIEWS + view) * next_rows, tl.sum(terms, 1))
            tl.store(of_cols + (2 + VIEWS + view) * next_cols, tl.sum(terms, 0))


@triton.jit
def weights_kernel(
    views, features, codes, agnostic_bound, specific_bound, keep, pull, pushes, weights_out,
    first_row, first_col, n, patches, sharpness, task_specific_weight,
    C: tl.constexpr, S: tl.constexpr, D: tl.constexpr, DEPTH: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SPECIFIC: tl.constexpr, KEEP: tl.constexpr,
    SYMMETRIC: tl.constexpr, VIEWS: tl.constexpr,
):  # fmt: skip
    """G_ij + G_ji of one tile for i < j, else 0: weights_out (views, rows, columns).

    Rows and columns are padded to whole tiles: what stands past the end is not to be read.
    """
    own_row, own_col = tl.program_id(0) * HEIGHT, tl.program_id(1) * WIDTH
    rows, cols = first_row + own_row + tl.arange(0, HEIGHT), first_col + own_col + tl.arange(0, WIDTH)
    width = tl.num_programs(1) * WIDTH
    next_view = tl.num_programs(0) * HEIGHT * width
    weights_out += (own_row + tl.arange(0, HEIGHT))[:, None] * width + (own_col + tl.arange(0, WIDTH))[None, :]
    if first_row + own_row >= first_col + own_col + WIDTH:
        zero = tl.zeros((HEIGHT, WIDTH), dtype=tl.bfloat16)
        for view in range(VIEWS):
            tl.store(weights_out + view * next_view, zero)
        return
    positive, of_others = _similar(features, agnostic_bound, rows, cols, n, C, DEPTH, HEIGHT, WIDTH, SYMMETRIC)
    weights, weights_of_cols = positive.to(tl.float32), of_others.to(tl.float32)
    if SPECIFIC:
        also, also_of_cols = _similar(codes, specific_bound, rows, cols, n, S, DEPTH, HEIGHT, WIDTH, SYMMETRIC)
        weights += also.to(tl.float32) * task_specific_weight
        weights_of_cols += also_of_cols.to(tl.float32) * task_specific_weight
    safe_rows, safe_cols = tl.minimum(rows, n - 1), tl.minimum(cols, n - 1)
    pull_of_rows, pull_of_cols = tl.load(pull + safe_rows)[:, None], tl.load(pull + safe_cols)[None, :]
    if SYMMETRIC:
        weights *= pull_of_rows + pull_of_cols
    else:
        weights = weights * pull_of_rows + weights_of_cols * pull_of_cols
    if KEEP:
        by_rows = (positive | _kept(keep, rows[:, None], cols[None, :], n, patches)).to(tl.float32)
        by_cols = (of_others | _kept(keep, cols[None, :], rows[:, None], n, patches)).to(tl.float32)
    for view in range(VIEWS):
        logits = _products(views + view * n * D, rows, cols, n, D, DEPTH, HEIGHT, WIDTH) * sharpness
        of_row = tl.load(pushes + view * n + safe_rows)[:, None]
        of_col = tl.load(pushes + view * n + safe_cols)[None, :]
        if KEEP:
            both = weights + tl.exp(logits) * (by_rows * of_row + by_cols * of_col)
        else:
            both = weights + tl.exp(logits) * (of_row + of_col)
        both = tl.where(rows[:, None] < cols[None, :], both, 0.0)
        tl.store(weights_out + view * next_view, both.to(tl.bfloat16))


@triton.jit
def _similar(
    x, bound, rows, cols, n,
    CHANNELS: tl.constexpr, DEPTH: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SYMMETRIC: tl.constexpr,
):  # fmt: skip
    """Which columns are positives of their row, and which rows of their column: of either, where it is symmetric."""
    of_rows = tl.load(bound + tl.minimum(rows, n - 1))
    of_cols = tl.load(bound + tl.minimum(cols, n - 1))
    cosines = _products(x, rows, cols, n, CHANNELS, DEPTH, HEIGHT, WIDTH)
    if SYMMETRIC:
        # Exceeding either bound is exceeding the lower of the two.
        by_rows = cosines > tl.minimum(of_rows[:, None], of_cols[None, :])
        by_cols = by_rows
    else:
        by_rows = cosines > of_rows[:, None]
        by_cols = cosines > of_cols[None, :]
    return by_rows, by_cols


@triton.jit
def _products(x, rows, cols, n, CHANNELS: tl.constexpr, DEPTH: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Dot products of rows of x (n, CHANNELS); rows past the end are taken for the last, and to be ignored."""
    depth = tl.arange(0, DEPTH)
    left = x + tl.minimum(rows, n - 1).to(tl.int64)[:, None] * CHANNELS + depth[None, :]
    right = x + tl.minimum(cols, n - 1).to(tl.int64)[None, :] * CHANNELS + depth[:, None]
    total = tl.zeros((HEIGHT, WIDTH), dtype=tl.float32)
    for start in range(0, CHANNELS, DEPTH):
        total = tl.dot(tl.load(left + start), tl.load(right + start), total)
    return total


@triton.jit
def _kept(keep, anchors, others, n, patches):
    """Whether the draw keeps a pair in the denominator of its anchor: keep (patches, n) bytes."""
    inside = (anchors < n) & (others < n)
    return tl.load(keep + (anchors % patches).to(tl.int64) * n + others, mask=inside, other=0) != 0
