"""Reference pools: how similar two patches must be to count as positives is read off a sample of the data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn


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
    def fill(self, maps: Iterable[Tensor], generator: Generator | None = None) -> None:
        """Draw anew: one random patch of every image until the pool is full.

        Args:
            maps: batches (B, channels, h, w) of features or codes.
            generator: source of randomness, on the CPU.
        """
        drawn: list[Tensor] = []
        for batch in maps:
            flat = batch.flatten(2)
            patches = torch.randint(flat.shape[2], (len(flat),), generator=generator)
            drawn.append(pick_patches(batch, patches))
            if sum(map(len, drawn)) >= len(self.rows):
                break
        self.put(torch.cat(drawn) if drawn else self.rows[:0])

    @torch.no_grad()
    def put(self, rows: Tensor) -> None:
        """Take these rows (n, channels), normalised; no more than fit, and zeros where they are too few."""
        rows = F.normalize(rows[: len(self.rows)].to(self.rows), dim=1)
        self.rows.zero_()
        self.rows[: len(rows)] = rows


def pick_patches(maps: Tensor, patches: Tensor) -> Tensor:
    """One patch of each map: (B, C, h, w) and indices (B,) in raster order to (B, C)."""
    flat = maps.flatten(2)
    return flat[torch.arange(len(flat), device=flat.device), :, patches.to(flat.device)]
