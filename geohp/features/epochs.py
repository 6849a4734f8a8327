"""In which order an epoch goes through the images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from geohp.data.augment import seeded


class EpochOrder(Sampler[int]):
    """Positions of an epoch in random order, each as ``epoch * length + position``: so that who reads knows the epoch.

    An order depends on the seed and the number of the epoch alone. Epochs count by themselves; :meth:`set_epoch`, which
    Lightning calls, says which is next.

    Args:
        length: how many positions there are.
        seed: of all orders.
        rank, replicas: of several processes, each goes through its own equal share; what is left over is left out.

    Attributes:
        epoch: which one comes next.
        start: positions of the next epoch to pass over: those that an interrupted training has seen.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, replicas: int = 1) -> None:
        self.length, self.seed = length, seed
        self.rank, self.replicas = rank, replicas
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.replicas

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        self.epoch += 1
        order = shuffled(self.length, self.seed, epoch)
        share = order[self.rank : len(self) * self.replicas : self.replicas][self.start :]
        self.start = 0
        return iter((share + epoch * self.length).tolist())


def shuffled(length: int, seed: int, number: int) -> Tensor:
    """Random order number ``number`` of 0 to ``length`` - 1 (int64)."""
    return torch.randperm(length, generator=seeded(seed, number))
