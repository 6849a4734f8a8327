"""Outlines across blocks: chains are joined where they leave one block and enter the next, until rings close."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geohp.vector.outlines import Chains, Outlines
from geohp.vector.rings import Rings


class Stitcher:
    """Collects the outlines of regions that are not complete yet."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Rings]] = {}
        self._by_first: dict[int, _OpenChain] = {}
        self._by_following: dict[int, _OpenChain] = {}

    def add(self, outlines: Outlines, complete: NDArray[np.int64]) -> Rings:
        """Add what one block holds.

        Args:
            outlines: the block's.
            complete: (k,) ascending regions whose outlines are all there with this block.

        Returns:
            all rings of the complete regions.
        """
        is_complete = np.isin(outlines.rings.regions, complete)
        rings = [outlines.rings.where(is_complete)]
        for region, own in outlines.rings.where(~is_complete).split():
            self._waiting.setdefault(region, []).append(own)
        self._join(outlines.chains)
        for region in complete.tolist():
            rings.extend(self._waiting.pop(region, ()))
        return Rings.joined(rings)

    def _join(self, chains: Chains) -> None:
        ends = np.cumsum(chains.lengths)
        for first, following, region, corners in zip(
            chains.first.tolist(), chains.following.tolist(), chains.regions.tolist(),
            np.split(chains.corners, ends[:-1]), strict=False,
        ):  # fmt: skip
            chain = _OpenChain(first, following, [corners])
            before = self._by_following.pop(chain.first, None)
            if before is not None:
                del self._by_first[before.first]
                chain = before.then(chain)
            after = None if chain.closed else self._by_first.pop(chain.following, None)
            if after is not None:
                del self._by_following[after.following]
                chain = chain.then(after)
            if chain.closed:
                ring = np.concatenate(chain.pieces)
                self._waiting.setdefault(region, []).append(Rings(np.array([region]), np.array([len(ring)]), ring))
            else:
                self._by_first[chain.first] = self._by_following[chain.following] = chain


class _OpenChain(NamedTuple):
    """A chain with loose ends: the step it begins with, the one that must follow, and its corners in pieces."""

    first: int
    following: int
    pieces: list[NDArray[np.int64]]

    @property
    def closed(self) -> bool:
        """Whether it is a ring."""
        return self.first == self.following

    def then(self, other: _OpenChain) -> _OpenChain:
        """Both as one; the longer list takes in the shorter."""
        if len(self.pieces) >= len(other.pieces):
            self.pieces.extend(other.pieces)
            return _OpenChain(self.first, other.following, self.pieces)
        other.pieces[:0] = self.pieces
        return _OpenChain(self.first, other.following, other.pieces)
