"""Global hidden positives: what counts as similar is read off a sample of the data, the reference pool."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from geohp.methods.hp.products import operand, product

_POOL_ROWS_AT_ONCE = 4096


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


class PositivePairs:
    """Which pairs of rows are positives of each other, told block by block.

    Rows i and j are, where their cosine exceeds the largest cosine that either has with the pool. Asked again for a
    block, the pairs are not searched again but put back in their places, as far as there was room to remember them:
    they are few, since a pool of R rows leaves about one pair in R, apart from neighbours within an image.

    Args:
        rows: (n, C) unit rows.
        pool: (R, C) unit rows, or zeros.
        remember: whether blocks will be asked for again. What is remembered is bounded by half the rows' own size
            for float32, so memory stays linear in n whatever the rows are; beyond it, blocks are searched again.

    Attributes:
        rows: the rows as they enter products.
        bound: (n,) the largest cosine of each with the pool.
    """

    def __init__(self, rows: Tensor, pool: Tensor, *, remember: bool) -> None:
        self.rows = operand(rows)
        pool = pool.to(self.rows)
        self.bound = torch.cat([product(part, pool.T).amax(1) for part in torch.split(self.rows, _POOL_ROWS_AT_ONCE)])
        self._positions: dict[tuple[int, int], Tensor] = {}
        # Counting what was found would make a GPU wait for every block; it searches again sooner.
        self._room = rows.numel() // 2 if remember and not rows.is_cuda else 0

    def block(self, rows: slice, cols: slice) -> Tensor:
        """1 for positives and 0 elsewhere, floating, of the shape of the block; no row is its own positive."""
        positions = self._positions.get((rows.start, cols.start))
        if positions is not None:
            block = self.bound.new_zeros(rows.stop - rows.start, cols.stop - cols.start)
            block.view(-1).index_fill_(0, positions.long(), 1)
            return block
        block = product(self.rows[rows], self.rows[cols].T)
        # Exceeding either bound is exceeding the lower of the two.
        block.gt_(torch.minimum(self.bound[rows, None], self.bound[cols]))
        if rows == cols:
            block.fill_diagonal_(0)
        self._remember((rows.start, cols.start), block)
        return block

    def _remember(self, place: tuple[int, int], block: Tensor) -> None:
        if self._room and (count := int(block.sum())) <= self._room:
            self._room -= count
            self._positions[place] = block.view(-1).nonzero().squeeze(1).int()


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
    return flat[torch.arange(len(flat), device=flat.device), :, patches.to(flat.device)]
