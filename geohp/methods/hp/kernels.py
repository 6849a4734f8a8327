"""Triton kernels of the two passes; :mod:`.fused` says when they are used.

The first pass searches the positives of a tile of pairs, packs them into bits, and sums them up; of as many rows as
there is room for, the second pass reads those found in features instead of searching again, which is half of its
products. Tiles of rows are fetched by descriptors, which on Hopper is the copy engine's work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from geohp.methods.hp.positives import PositivePairs
from geohp.methods.hp.products import product_of_halves
from geohp.methods.hp.streaming import Forces, Problem, Sums

_COUNTS = 2  # sums over A and over E; for each view there are similarity and partition besides
_NATURAL = math.log(2)
_DESCRIPTOR_BYTES = 16  # what a descriptor's rows are aligned to


@dataclass(frozen=True)
class Tuning:
    """How the work is cut; results differ by rounding alone.

    Attributes:
        height, width: of a tile of pairs, at most 128 each: its bits fit a word, and its counts a byte.
        depth: channels multiplied at once.
        warps, stages: of a program, and of its pipeline of loads.
        strip: rows taken at once, a multiple of the height: their operands stay in the second-level cache.
        block: columns whose weights are weighted at once, a multiple of the width; times a strip of rows, times two
            views, two bytes each.
        found_bytes: what positives found in features may take between the passes, a bit a pair.
        registers: of a thread at most; ``None`` leaves it to the compiler.
        descriptors: tiles of rows are fetched by them, else by every thread's own pointers.
    """

    height: int = 64
    width: int = 128
    depth: int = 64
    warps: int = 4
    stages: int = 3
    strip: int = 4096
    block: int = 8192
    found_bytes: int = 160 * 2**20
    registers: int | None = 168
    descriptors: bool = True

    def tiles(self, rows: Tensor, side: int) -> Tensor | TensorDescriptor:
        """What so many rows at once are fetched by."""
        if not self.descriptors:
            return rows
        aligned = rows.clone() if rows.data_ptr() % _DESCRIPTOR_BYTES else rows
        return TensorDescriptor.from_tensor(aligned, [side, self.depth])

    def padded(self, size: int) -> int:
        """Rows or columns as whole tiles have them."""
        side = max(self.height, self.width)
        return -(-size // side) * side

    @property
    def launch(self) -> dict[str, int]:
        """Triton's options."""
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps, "num_stages": self.stages, **limit}


TUNING = Tuning()
"""Of Hopper: three programs at once fill a multiprocessor, and one multiplies while another adds up."""

OTHERS = Tuning(height=128, depth=32, warps=8, stages=4, registers=None, descriptors=False)
"""Of all other cards, measured on none of them: descriptors become unhurried copies before compute capability 9.0."""

_HOPPER = 9


def tuning_of(device: torch.device) -> Tuning:
    """The tuning for a device; the interpreter, on a CPU, runs what Hopper does."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] != _HOPPER:
        return OTHERS
    return TUNING


def row_sums(views: list[Tensor], problem: Problem) -> Sums:
    """The first pass, for views (n, D) of z; see :func:`.streaming.row_sums`."""
    operands, pairs = _Operands.of(torch.stack(views), problem), problem.agnostic
    assert isinstance(pairs, PositivePairs)
    n, tuning = problem.rows, operands.tuning
    totals = torch.zeros(_COUNTS + 2 * len(views), n, dtype=torch.float32, device=views[0].device)
    for first in range(0, n, tuning.strip):
        rows, cols = min(tuning.strip, n - first), n - first
        grid = (triton.cdiv(rows, tuning.height), triton.cdiv(cols, tuning.width))
        # Tiles below the diagonal leave their parts at zero.
        of_rows = totals.new_zeros(len(totals), grid[1], grid[0] * tuning.height)
        of_cols = totals.new_zeros(len(totals), grid[0], grid[1] * tuning.width)
        found = operands.room(pairs, first, grid)
        sums_kernel[grid](
            *operands.pointers, of_rows, of_cols, views[0] if found is None else found, first, *operands.sizes,
            **operands.constants, STORED=found is not None, **tuning.launch,
        )  # fmt: skip
        totals[:, first : first + rows] += of_rows.sum(1)[:, :rows]
        totals[:, first:] += of_cols.sum(1)[:, :cols]
    positives, specific, *rest = totals.unbind()
    totals[_COUNTS : _COUNTS + len(views)] *= _NATURAL  # logits were of base 2
    mass = positives + problem.weight * specific
    return Sums(mass, positives, rest[: len(views)], rest[len(views) :])


def gradients(views: list[Tensor], forces: Forces, problem: Problem, with_gradient: list[bool]) -> list[Tensor | None]:
    """The second pass, for views (n, D) of z; see :func:`.streaming.gradients`."""
    stacked = torch.stack(views)
    operands, pairs = _Operands.of(stacked, problem), problem.agnostic
    assert isinstance(pairs, PositivePairs)
    n, tuning = problem.rows, operands.tuning
    totals = torch.zeros(stacked.shape, dtype=torch.float32, device=stacked.device)
    pull, pushes = forces.pull.float(), torch.stack(forces.push).float()
    tall, wide = (tuning.padded(min(size, n)) for size in (tuning.strip, tuning.block))
    # Weights of pairs span more orders of magnitude than float16 has.
    room = stacked.new_empty(len(views) * tall * wide, dtype=torch.bfloat16)
    for first in range(0, n, tuning.strip):
        rows = slice(first, min(first + tuning.strip, n))
        found = pairs.found.get(first)
        across = triton.cdiv(n - first, tuning.width)
        own = stacked[:, rows].to(room.dtype)
        for start in range(first, n, tuning.block):
            cols = slice(start, min(start + tuning.block, n))
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            grid = (triton.cdiv(shape[0], tuning.height), triton.cdiv(shape[1], tuning.width))
            padded = (len(views), grid[0] * tuning.height, grid[1] * tuning.width)
            whole = room[: math.prod(padded)].view(padded)
            weights_kernel[grid](
                *operands.pointers, pull, pushes, whole, room if found is None else found, first, start, across,
                *operands.sizes, **operands.constants, STORED=found is not None, **tuning.launch,
            )  # fmt: skip
            weights = whole[:, : shape[0], : shape[1]]
            product_of_halves(weights, stacked[:, cols].to(room.dtype), add_to=totals[:, rows])
            product_of_halves(weights.transpose(1, 2), own, add_to=totals[:, cols])
    totals *= 1 / problem.temperature
    return [total if needed else None for total, needed in zip(totals, with_gradient, strict=True)]


@dataclass(frozen=True)
class _Operands:
    """A problem as the kernels' arguments."""

    tuning: Tuning
    pointers: tuple[Tensor | TensorDescriptor, ...]
    sizes: tuple[float, ...]
    constants: dict[str, Any]

    @classmethod
    def of(cls, views: Tensor, problem: Problem) -> _Operands:
        agnostic = problem.agnostic
        assert isinstance(agnostic, PositivePairs)
        specific = problem.specific or agnostic  # a pointer has to be given, though nothing is read from it
        keep = views if problem.keep is None else problem.keep.view(torch.uint8)
        widths = {"C": agnostic.rows.shape[1], "S": specific.rows.shape[1], "D": views.shape[2]}
        tuning = tuning_of(views.device)
        # The largest power of two in all of them.
        tuning = replace(tuning, depth=min(tuning.depth, *(width & -width for width in widths.values())))
        if problem.keep is not None:
            tuning = replace(tuning, registers=None)  # every thread looks up its pairs' draws
        rows = [part.contiguous() for part in (views.flatten(0, 1), agnostic.rows, specific.rows)]
        tiles = [tuning.tiles(part, side) for side in (tuning.height, tuning.width) for part in rows]
        return cls(
            tuning=tuning,
            pointers=(*tiles, *(part.contiguous() for part in (agnostic.bound, specific.bound, keep))),
            sizes=(problem.rows, problem.rows // problem.images, 1 / (_NATURAL * problem.temperature), problem.weight),
            constants={
                **widths, "DEPTH": tuning.depth, "HEIGHT": tuning.height, "WIDTH": tuning.width,
                "SPECIFIC": problem.specific is not None, "KEEP": problem.keep is not None,
                "SYMMETRIC": agnostic.symmetric, "VIEWS": len(views), "DESCRIPTORS": tuning.descriptors,
            },
        )  # fmt: skip

    def room(self, pairs: PositivePairs, first: int, grid: tuple[int, int]) -> Tensor | None:
        """Where the positives of a strip of rows are to be kept for the second pass; ``None`` beyond what is meant."""
        directions = 1 if pairs.symmetric else 2
        shape = (*grid, directions, self.tuning.height, 8)
        taken = sum(strip.nbytes for strip in pairs.found.values())
        if not pairs.remember or taken + 2 * math.prod(shape) > self.tuning.found_bytes:
            return None
        pairs.found[first] = torch.empty(shape, dtype=torch.int16, device=pairs.rows.device)
        return pairs.found[first]


@triton.jit
def sums_kernel(
    views, features, codes, views_across, features_across, codes_across,
    agnostic_bound, specific_bound, keep, of_rows, of_cols, found, first, n, patches, sharpness, task_specific_weight,
    C: tl.constexpr, S: tl.constexpr, D: tl.constexpr, DEPTH: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SPECIFIC: tl.constexpr, KEEP: tl.constexpr,
    SYMMETRIC: tl.constexpr, VIEWS: tl.constexpr, DESCRIPTORS: tl.constexpr, STORED: tl.constexpr,
):  # fmt: skip
    """A tile's sums for its rows, of_rows (Q, column tiles, rows), and columns, of_cols (Q, row tiles, columns).

    Rows come by tiles of HEIGHT, or WIDTH ``across``, and DEPTH; ``sharpness`` is for logits of base 2. Positives wait
    in packed bits, in registers, while the views are multiplied; where ``STORED``, those found in features go into
    ``found`` (row tiles, column tiles, directions, HEIGHT, 8) as well.
    """
    tile_row, tile_col = tl.program_id(0), tl.program_id(1)
    if tile_row * HEIGHT >= (tile_col + 1) * WIDTH:
        return
    own_rows, own_cols = tl.arange(0, HEIGHT), tl.arange(0, WIDTH)
    row, col = first + tile_row * HEIGHT, first + tile_col * WIDTH
    rows, cols = row + own_rows, col + own_cols
    of_rows += (tile_col * tl.num_programs(0) + tile_row) * HEIGHT + own_rows
    of_cols += (tile_row * tl.num_programs(1) + tile_col) * WIDTH + own_cols
    next_rows = tl.num_programs(0) * tl.num_programs(1) * HEIGHT
    next_cols = tl.num_programs(0) * tl.num_programs(1) * WIDTH
    whole = _is_whole(row, col, n, HEIGHT, WIDTH)
    of_row, of_col = _similar(
        features, features_across, agnostic_bound, row, col, n, whole, of_rows, of_cols,
        C, DEPTH, HEIGHT, WIDTH, SYMMETRIC, DESCRIPTORS,
    )  # fmt: skip
    if STORED:
        found += (tile_row * tl.num_programs(1) + tile_col).to(tl.int64) * (HEIGHT * 8 * (1 if SYMMETRIC else 2))
        words = own_rows[:, None] * 8 + tl.arange(0, 8)[None, :]
        tl.store(found + words, of_row.to(tl.int16))
        if not SYMMETRIC:
            tl.store(found + HEIGHT * 8 + words, of_col.to(tl.int16))
    if SPECIFIC:
        also_of_row, also_of_col = _similar(
            codes, codes_across, specific_bound, row, col, n, whole, of_rows + next_rows, of_cols + next_cols,
            S, DEPTH, HEIGHT, WIDTH, SYMMETRIC, DESCRIPTORS,
        )  # fmt: skip
        of_row, of_col = of_row | (also_of_row << 16), of_col | (also_of_col << 16)
    for view in range(VIEWS):
        nothing = view * (patches >> 30)  # the compiler does not know: see _unpacked
        row_marks, col_marks = of_row + nothing, of_col + nothing
        logits = sharpness * _products(views, views_across, view * n, row, col, n, D, DEPTH, HEIGHT, WIDTH, DESCRIPTORS)
        pulled = logits * _weights(row_marks, task_specific_weight, HEIGHT, WIDTH, SPECIFIC)
        tl.store(of_rows + (2 + view) * next_rows, tl.sum(pulled, 1))
        if not SYMMETRIC:
            pulled = logits * _weights(col_marks, task_specific_weight, HEIGHT, WIDTH, SPECIFIC)
        tl.store(of_cols + (2 + view) * next_cols, tl.sum(pulled, 0))
        terms = tl.exp2(logits)
        if not whole:
            before, after = (rows + nothing)[:, None], (cols + nothing)[None, :]
            terms = tl.where((before < after) & (after < n), terms, 0.0)
        if KEEP:
            by_rows, by_cols = _denominators(keep, row_marks, col_marks, rows, cols, n, patches, HEIGHT, WIDTH)
            tl.store(of_rows + (2 + VIEWS + view) * next_rows, tl.sum(tl.where(by_rows, terms, 0.0), 1))
            tl.store(of_cols + (2 + VIEWS + view) * next_cols, tl.sum(tl.where(by_cols, terms, 0.0), 0))
        else:
            tl.store(of_rows + (2 + VIEWS + view) * next_rows, tl.sum(terms, 1))
            tl.store(of_cols + (2 + VIEWS + view) * next_cols, tl.sum(terms, 0))


@triton.jit(do_not_specialize=["across"])
def weights_kernel(
    views, features, codes, views_across, features_across, codes_across,
    agnostic_bound, specific_bound, keep, pull, pushes, weights_out, found,
    first_row, first_col, across, n, patches, sharpness, task_specific_weight,
    C: tl.constexpr, S: tl.constexpr, D: tl.constexpr, DEPTH: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SPECIFIC: tl.constexpr, KEEP: tl.constexpr,
    SYMMETRIC: tl.constexpr, VIEWS: tl.constexpr, DESCRIPTORS: tl.constexpr, STORED: tl.constexpr,
):  # fmt: skip
    """G_ij + G_ji of one tile for i < j, else 0: weights_out (views, rows, columns).

    Rows and columns are padded to whole tiles: what stands past the end is not to be read. Where ``STORED``, positives
    of features are read from what the sums' kernel found, ``across`` column tiles wide, else searched again.
    """
    tile_row, tile_col = tl.program_id(0), tl.program_id(1)
    own_row, own_col = tile_row * HEIGHT, tile_col * WIDTH
    row, col = first_row + own_row, first_col + own_col
    rows, cols = row + tl.arange(0, HEIGHT), col + tl.arange(0, WIDTH)
    width = tl.num_programs(1) * WIDTH
    next_view = tl.num_programs(0) * HEIGHT * width
    weights_out += (own_row + tl.arange(0, HEIGHT))[:, None] * width + (own_col + tl.arange(0, WIDTH))[None, :]
    if row >= col + WIDTH:
        zero = tl.zeros((HEIGHT, WIDTH), dtype=tl.bfloat16)
        for view in range(VIEWS):
            tl.store(weights_out + view * next_view, zero)
        return
    whole = _is_whole(row, col, n, HEIGHT, WIDTH)
    if STORED:
        tile = tile_row * across + (first_col - first_row) // WIDTH + tile_col
        found += tile.to(tl.int64) * (HEIGHT * 8 * (1 if SYMMETRIC else 2))
        words = tl.arange(0, HEIGHT)[:, None] * 8 + tl.arange(0, 8)[None, :]
        of_row = tl.load(found + words).to(tl.int32) & 0xFFFF
        of_col = of_row
        if not SYMMETRIC:
            of_col = tl.load(found + HEIGHT * 8 + words).to(tl.int32) & 0xFFFF
    else:
        of_row, of_col = _similar(
            features, features_across, agnostic_bound, row, col, n, whole, None, None,
            C, DEPTH, HEIGHT, WIDTH, SYMMETRIC, DESCRIPTORS,
        )  # fmt: skip
    if SPECIFIC:
        also_of_row, also_of_col = _similar(
            codes, codes_across, specific_bound, row, col, n, whole, None, None,
            S, DEPTH, HEIGHT, WIDTH, SYMMETRIC, DESCRIPTORS,
        )  # fmt: skip
        of_row, of_col = of_row | (also_of_row << 16), of_col | (also_of_col << 16)
    for view in range(VIEWS):
        nothing = view * (patches >> 30)  # the compiler does not know: see _unpacked
        row_marks, col_marks = of_row + nothing, of_col + nothing
        logits = sharpness * _products(views, views_across, view * n, row, col, n, D, DEPTH, HEIGHT, WIDTH, DESCRIPTORS)
        safe_rows, safe_cols = tl.minimum(rows + nothing, n - 1), tl.minimum(cols + nothing, n - 1)
        push_of_rows = tl.load(pushes + view * n + safe_rows)[:, None]
        push_of_cols = tl.load(pushes + view * n + safe_cols)[None, :]
        if KEEP:
            by_rows, by_cols = _denominators(keep, row_marks, col_marks, rows, cols, n, patches, HEIGHT, WIDTH)
            both = tl.exp2(logits) * (tl.where(by_rows, push_of_rows, 0.0) + tl.where(by_cols, push_of_cols, 0.0))
        else:
            both = tl.exp2(logits) * (push_of_rows + push_of_cols)
        pull_of_rows, pull_of_cols = tl.load(pull + safe_rows)[:, None], tl.load(pull + safe_cols)[None, :]
        weights = _weights(row_marks, task_specific_weight, HEIGHT, WIDTH, SPECIFIC)
        if SYMMETRIC:
            both += weights * (pull_of_rows + pull_of_cols)
        else:
            both += weights * pull_of_rows
            both += _weights(col_marks, task_specific_weight, HEIGHT, WIDTH, SPECIFIC) * pull_of_cols
        if not whole:
            both = tl.where((rows + nothing)[:, None] < (cols + nothing)[None, :], both, 0.0)
        tl.store(weights_out + view * next_view, both.to(tl.bfloat16))


@triton.jit
def _is_whole(row, col, n, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Whether every pair of the tile that begins there counts: above the diagonal, and not past the end."""
    return (row + HEIGHT <= col) & (col + WIDTH <= n)


@triton.jit
def _similar(
    left, right, bound, row, col, n, whole, of_rows, of_cols,
    CHANNELS: tl.constexpr, DEPTH: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SYMMETRIC: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """Which columns are positives of their row, and which rows of their column: of either, where it is symmetric.

    Packed, see :func:`_packed`; how many there are of each row and column goes to ``of_rows`` and ``of_cols``, unless
    nobody asks.
    """
    cosines = _products(left, right, 0, row, col, n, CHANNELS, DEPTH, HEIGHT, WIDTH, DESCRIPTORS)
    rows, cols = row + tl.arange(0, HEIGHT), col + tl.arange(0, WIDTH)
    bound_of_rows = tl.load(bound + tl.minimum(rows, n - 1))[:, None]
    bound_of_cols = tl.load(bound + tl.minimum(cols, n - 1))[None, :]
    if not whole:
        # Nothing exceeds what is no number.
        pairs = (rows[:, None] < cols[None, :]) & (cols[None, :] < n)
        cosines = tl.where(pairs, cosines, float("nan"))
    if SYMMETRIC:
        # Exceeding either bound is exceeding the lower of the two.
        by_rows = cosines > tl.minimum(bound_of_rows, bound_of_cols)
        by_cols = by_rows
    else:
        by_rows = cosines > bound_of_rows
        by_cols = cosines > bound_of_cols
    if of_rows is not None:
        tl.store(of_rows, tl.sum(by_rows.to(tl.float32), 1))
        tl.store(of_cols, _column_counts(by_cols, HEIGHT, WIDTH))
    packed = _packed(by_rows, HEIGHT, WIDTH)
    if SYMMETRIC:
        return packed, packed
    return packed, _packed(by_cols, HEIGHT, WIDTH)


@triton.jit
def _packed(marks, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Marks (HEIGHT, WIDTH) as words (HEIGHT, 8): bit k of word c is column 8 k + c.

    A thread that holds a product of the tensor cores holds every eighth column of a row: it packs its own alone.
    """
    grouped = tl.reshape(marks.to(tl.int32), (HEIGHT, WIDTH // 8, 8))
    return tl.sum(grouped << tl.arange(0, WIDTH // 8)[None, :, None], 1)


@triton.jit
def _column_counts(marks, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """How many there are in each column, float32: four columns a word go from thread to thread, a byte each."""
    bytes_of = 8 * tl.arange(0, 4)
    grouped = tl.reshape(marks.to(tl.int32), (HEIGHT, WIDTH // 32, 4, 8)) << bytes_of[None, None, :, None]
    counts = tl.sum(tl.sum(grouped, 2), 0)  # HEIGHT of 128 at most, or a byte would not do
    return tl.reshape((counts[:, None, :] >> bytes_of[None, :, None]) & 255, (WIDTH,)).to(tl.float32)


@triton.jit
def _unpacked(words, SHIFT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """The marks (HEIGHT, WIDTH), of bits from ``SHIFT`` on."""
    places = tl.arange(0, WIDTH // 8) + SHIFT
    return tl.reshape((words[:, None, :] & (1 << places)[None, :, None]) != 0, (HEIGHT, WIDTH))


@triton.jit
def _weights(words, task_specific_weight, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SPECIFIC: tl.constexpr):
    """W = A + lambda E of packed positives, (HEIGHT, WIDTH) float32."""
    weights = tl.where(_unpacked(words, 0, HEIGHT, WIDTH), 1.0, 0.0)
    if SPECIFIC:
        weights += tl.where(_unpacked(words, 16, HEIGHT, WIDTH), task_specific_weight, 0.0)
    return weights


@triton.jit
def _products(
    left, right, first, row, col, n,
    CHANNELS: tl.constexpr, DEPTH: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """Dot products of a tile's rows with those of its columns, out of n rows from ``first`` on.

    What comes of rows past the end is to be ignored.
    """
    total = tl.zeros((HEIGHT, WIDTH), dtype=tl.float32)
    if DESCRIPTORS:
        for start in range(0, CHANNELS, DEPTH):
            total = tl.dot(left.load([first + row, start]), right.load([first + col, start]).T, total)
    else:
        depth = tl.arange(0, DEPTH)
        rows = first + tl.minimum(row + tl.arange(0, HEIGHT), n - 1)
        cols = first + tl.minimum(col + tl.arange(0, WIDTH), n - 1)
        left += rows.to(tl.int64)[:, None] * CHANNELS + depth[None, :]
        right += cols.to(tl.int64)[None, :] * CHANNELS + depth[:, None]
        for start in range(0, CHANNELS, DEPTH):
            total = tl.dot(tl.load(left + start), tl.load(right + start), total)
    return total


@triton.jit
def _denominators(keep, of_row, of_col, rows, cols, n, patches, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Whether a pair is in the denominator of its row, and in that of its column."""
    by_rows = _unpacked(of_row, 0, HEIGHT, WIDTH) | _kept(keep, rows[:, None], cols[None, :], n, patches)
    by_cols = _unpacked(of_col, 0, HEIGHT, WIDTH) | _kept(keep, cols[None, :], rows[:, None], n, patches)
    return by_rows, by_cols


@triton.jit
def _kept(keep, anchors, others, n, patches):
    """Whether the draw keeps a pair in the denominator of its anchor: keep (patches, n) bytes."""
    inside = (anchors < n) & (others < n)
    return tl.load(keep + (anchors % patches).to(tl.int64) * n + others, mask=inside, other=0) != 0
