"""Percentiles of regions: how often each value occurs, gathered block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geohp.vector.regions import Regions

# Bits of a 64-bit float that percentiles are told apart by: sign, exponent and 15 of the fraction. What a region's
# values amount to then stays small however many pixels it has.
_DROPPED_BITS = np.uint64(52 - 15)
_KEY_BITS = np.uint64(64 - 52 + 15 + 1)
_KEY_MASK = (np.uint64(1) << _KEY_BITS) - np.uint64(1)
_MIDDLE = np.uint64(1) << (_KEY_BITS - np.uint64(1))

_MOST_TABLES = 8  # of one region before they are joined


class ValueCounts:
    """The different values of regions that are not complete yet."""

    def __init__(self) -> None:
        self._tables: dict[int, list[_Table]] = {}

    def add(
        self, parts: Regions, regions: NDArray[np.int64], values: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> None:
        """Take in a block.

        Args:
            parts: the parts of regions in it.
            regions: (parts.count,) which regions they are.
            values, valid: (rows, cols)
        """
        ids = parts.ids
        counted = valid & (ids > 0)
        # Part and value in one number: sorting plain numbers is many times faster than sorting by two.
        both = (ids[counted].astype(np.uint64) << _KEY_BITS) | to_keys(values[counted])
        distinct, counts = np.unique(both, return_counts=True)
        owner = (distinct >> _KEY_BITS).astype(np.int64)
        starts = np.flatnonzero(np.diff(owner, prepend=0))  # parts count from 1
        columns = (np.split(column, starts[1:]) for column in (distinct & _KEY_MASK, counts))
        for part, keys, frequencies in zip(owner[starts].tolist(), *columns, strict=False):
            tables = self._tables.setdefault(int(regions[part - 1]), [])
            tables.append(_Table(keys, frequencies))
            if len(tables) > _MOST_TABLES:
                tables[:] = [_joined(tables)]

    def take(self, regions: NDArray[np.int64], ranks: Sequence[float]) -> NDArray[np.float64]:
        """Percentiles of complete regions, which are forgotten.

        Args:
            regions: (n,)
            ranks: in per cent.

        Returns:
            (ranks, n); NaN where a region has no value.
        """
        percentiles = np.full((len(ranks), len(regions)), np.nan)
        for index, region in enumerate(regions.tolist()):
            tables = self._tables.pop(region, None)
            if tables:
                keys, counts = _joined(tables)
                last = np.cumsum(counts) - 1  # place of the last pixel of each value
                place = np.array(ranks) / 100 * last[-1]
                low, high = (from_keys(keys[np.searchsorted(last, at)]) for at in (np.floor(place), np.ceil(place)))
                percentiles[:, index] = low + (high - low) * (place - np.floor(place))
        return percentiles


class _Table(NamedTuple):
    """Different values, ascending, as keys, and how often each occurs."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.int64]


def _joined(tables: Sequence[_Table]) -> _Table:
    if len(tables) == 1:
        return tables[0]
    keys, inverse = np.unique(np.concatenate([table.keys for table in tables]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, inverse, np.concatenate([table.counts for table in tables]))
    return _Table(keys, counts)


def to_keys(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Floats as integers in the same order, rounded to the bits that count."""
    bits = (values + 0.0).view(np.uint64)  # adding makes -0 a 0
    half = np.uint64(1) << (_DROPPED_BITS - np.uint64(1))
    magnitude = ((bits & np.uint64(2**63 - 1)) + half) >> _DROPPED_BITS
    return np.where(bits >> np.uint64(63), _MIDDLE - magnitude, _MIDDLE + magnitude)


def from_keys(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """What :func:`to_keys` made of floats, back."""
    negative = keys < _MIDDLE
    magnitude = np.where(negative, _MIDDLE - keys, keys - _MIDDLE) << _DROPPED_BITS
    return np.where(negative, -magnitude.view(np.float64), magnitude.view(np.float64))
