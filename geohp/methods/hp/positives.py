"""Global hidden positives: what counts as similar is read off a sample of the data, the reference pool."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from geohp.methods.hp.products import operand, product

_CPU_ROWS_AT_ONCE = 4096
_GPU_COSINES_AT_ONCE = 2**24
"""Few launches, of as much memory as the passes over pairs take later."""


class ReferencePool(nn.Module):
    """Unit rows of patches drawn at random, one an image; an anchor's positives are those closer than all of them.

    Args:
        size: number of rows R.
        channels: their width.

    Attributes:
        rows: (R, channels); rows beyond the images there were are 0, that is of cosine 0 with everything.
    """

    rows: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, channels))

    @torch.no_grad()
    def put(self, rows: Tensor) -> None:
        """Take these rows (n, channels), normalised; no more than fit, and zeros where they are too few."""
        rows = F.normalize(rows[: len(self.rows)].to(self.rows), dim=1)
        self.rows.zero_()
        self.rows[: len(rows)] = rows


class TwoWay(NamedTuple):
    """Values of a block of pairs, (rows, columns), where its rows are anchors and where its columns are.

    Both are the same tensor where it makes no difference.
    """

    of_rows: Tensor
    of_cols: Tensor

    @property
    def symmetric(self) -> bool:
        """Whether it makes none."""
        return self.of_rows is self.of_cols

    def add(self, other: TwoWay, factor: float) -> TwoWay:
        """``factor`` times the other added in place; both are symmetric, or neither is."""
        self.of_rows.add_(other.of_rows, alpha=factor)
        if not self.symmetric:
            self.of_cols.add_(other.of_cols, alpha=factor)
        return self


class PositivePairs:
    """Which rows are positives of which, told block by block.

    Row j is a positive of row i, where their cosine exceeds the largest cosine that i, or if ``symmetric`` either of
    them, has with the pool. Asked again for a block, the pairs are not searched again but put back in their places, as
    far as there was room to remember them: they are few, since a pool of R rows leaves about one pair in R, apart from
    neighbours within an image.

    Args:
        rows: (n, C) unit rows.
        pool: (R, C) unit rows, or zeros.
        remember: whether blocks will be asked for again. What is remembered is bounded by half the rows' own size
            for float32, so memory stays linear in n whatever the rows are; beyond it, blocks are searched again.
        symmetric: whether the positives of a row have it for a positive, too.

    Attributes:
        rows: the rows as they enter products.
        bound: (n,) the largest cosine of each with the pool.
        found: what :mod:`.kernels` remembers of a strip of rows, by its first one.
    """

    def __init__(self, rows: Tensor, pool: Tensor, *, remember: bool, symmetric: bool = True) -> None:
        self.rows, self.symmetric, self.remember = operand(rows), symmetric, remember
        pool = pool.to(self.rows)
        at_once = max(1, _GPU_COSINES_AT_ONCE // len(pool)) if rows.is_cuda else _CPU_ROWS_AT_ONCE
        self.bound = torch.cat([product(part, pool.T).amax(1) for part in torch.split(self.rows, at_once)])
        self.found: dict[int, Tensor] = {}
        self._positions: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        # Counting what was found would make a GPU wait for every block; it searches again sooner.
        self._room = rows.numel() // 2 if remember and not rows.is_cuda else 0

    def block(self, rows: slice, cols: slice) -> TwoWay:
        """1 for positives and 0 elsewhere, floating, of the shape of the block; no row is its own positive."""
        positions = self._positions.get((rows.start, cols.start))
        if positions is not None:
            blocks = [self.bound.new_zeros(rows.stop - rows.start, cols.stop - cols.start) for _ in positions]
            for block, places in zip(blocks, positions, strict=True):
                block.view(-1).index_fill_(0, places.long(), 1)
        else:
            blocks = self._searched(rows, cols)
            self._remember((rows.start, cols.start), blocks)
        return TwoWay(blocks[0], blocks[-1])

    def _searched(self, rows: slice, cols: slice) -> list[Tensor]:
        """The block, or where it is not symmetric that of its rows and that of its columns."""
        cosines = product(self.rows[rows], self.rows[cols].T)
        of_rows, of_cols = self.bound[rows, None], self.bound[cols]
        if self.symmetric:
            # Exceeding either bound is exceeding the lower of the two.
            blocks = [cosines.gt_(torch.minimum(of_rows, of_cols))]
        else:
            blocks = [(cosines > of_rows).to(cosines.dtype), cosines.gt_(of_cols)]
        if rows == cols:
            for block in blocks:
                block.fill_diagonal_(0)
        return blocks

    def _remember(self, place: tuple[int, int], blocks: list[Tensor]) -> None:
        if self._room and (count := sum(int(block.sum()) for block in blocks)) <= self._room:
            self._room -= count
            self._positions[place] = tuple(block.view(-1).nonzero().squeeze(1).int() for block in blocks)


class ViewPairs:
    """Every row's only positive is the same patch in the other of two views: row i and row i + n/2.

    Args:
        rows: (n, D) the patches of one view above those of the other, in the same order.
    """

    def __init__(self, rows: Tensor) -> None:
        self._numbers = torch.arange(len(rows), device=rows.device)
        self._dtype = torch.promote_types(rows.dtype, torch.float32)

    def block(self, rows: slice, cols: slice) -> TwoWay:
        """1 for positives and 0 elsewhere, floating, of the shape of the block."""
        apart = (self._numbers[rows, None] - self._numbers[cols]).abs()
        block = (apart == len(self._numbers) // 2).to(self._dtype)
        return TwoWay(block, block)


def draw_patches(maps: Tensor, generator: Generator | None = None) -> Tensor:
    """One patch of each map, drawn at random: (B, C, h, w) to (B, C).

    Args:
        maps: features or codes, on any device.
        generator: source of randomness, on the CPU.
    """
    return pick_patches(maps, torch.randint(maps.shape[2] * maps.shape[3], (len(maps),), generator=generator))


def pick_patches(maps: Tensor, patches: Tensor) -> Tensor:
    """One patch of each map: (B, C, h, w) and indices (B,) in raster order to (B, C)."""
    flat = maps.flatten(2)
    # A copy from memory that is not pinned is staged at once: the GPU is not waited for.
    return flat[torch.arange(len(flat), device=flat.device), :, patches.to(flat.device, non_blocking=True)]
