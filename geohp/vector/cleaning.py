"""Cleaning: regions below a minimum area go to the neighbour with which they share the longest border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geohp.vector.regions import rank_by_first


class Borders(NamedTuple):
    """Pairs of regions, counted from 0, that touch along pixel sides, and how many sides they share.

    Attributes:
        low, high: (n,) the smaller and the larger number of each pair.
        length: (n,) shared sides.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def joined(cls, several: Sequence[Borders]) -> Borders:
        """Each pair once, with the sum of its lengths; pairs may be in either order."""
        one, other, length = (np.concatenate(column) for column in zip(*several, strict=True))
        if not len(one):
            return cls(one, other, length)
        low, high = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((high, low))
        low, high, length = low[order], high[order], length[order]
        new = np.ones(len(low), bool)
        new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        return cls(low[new], high[new], np.add.reduceat(length, np.flatnonzero(new)))


def merge_small(
    values: NDArray[Any], areas: NDArray[Any], borders: Borders, minimum: float
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Give every region smaller than a minimum area to a neighbour, smallest first, until none is left.

    The neighbour is the one with the longest shared border, counted in pixel sides; where several share as much,
    the largest of them. What becomes one piece of one class by that is one region from then on. A region
    surrounded by nodata alone stays. Neither a hole nor an overlap can arise, for only labels change.

    Regions are merged in rounds: each round takes every small region that is smaller than all its small
    neighbours. These cannot disturb one another, so a round is a handful of array operations, whatever their
    number. Among regions of the same area a fixed scramble of their numbers decides which is the smaller: the order
    of rows would have long chains of equal regions wait for each other.

    Args:
        values: (n,) labels of the regions.
        areas: (n,) their areas, in any unit.
        borders: which regions touch.
        minimum: regions of at least this area stay.

    Returns:
        (n,) the region, counted from 0, that each belongs to now, numbered in the order of their first members; and
        the labels of these.
    """
    # Areas are rounded to their unit; a region of exactly the minimum must not fall below it.
    minimum *= 1 - 1e-7
    current = np.arange(len(values))
    while True:
        chosen, target = _smallest_and_heirs(areas, borders, minimum)
        if len(chosen) == 0:
            break
        values = values.copy()
        values[chosen] = values[target]
        component, first = _fuse(values, borders)
        current = component[current]
        sums = np.zeros(len(first), areas.dtype)
        np.add.at(sums, component, areas)
        areas = sums
        values = values[first]
        borders = contract(borders, component)
    # Numbered anew, again by first pixel: original regions are, so merged ones are by their first member.
    renumbered, first = rank_by_first(current)
    return renumbered.astype(np.int64) - 1, values[current[first]]


def shared_borders(ids: NDArray[np.int32]) -> Borders:
    """The borders in an array of regions.

    Args:
        ids: (rows, cols) regions from 1, 0 for none.
    """
    borders = []
    for one, other in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        border = (one != other) & (one > 0) & (other > 0)
        pairs = one[border].astype(np.int64) - 1, other[border].astype(np.int64) - 1
        borders.append(Borders(*pairs, np.ones(len(pairs[0]), np.int64)))
    return Borders.joined(borders)


def _smallest_and_heirs(
    areas: NDArray[np.float64], borders: Borders, minimum: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The small regions that are smaller than all their small neighbours, and who takes over each of them."""
    low, high, length = borders
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    length = np.concatenate([length, length])
    concerned = areas[one] < minimum
    one, other, length = one[concerned], other[concerned], length[concerned]

    scramble = _scramble(np.arange(len(areas)))
    rank = np.empty(len(areas), np.int64)
    rank[np.lexsort((scramble, areas))] = np.arange(len(areas))
    beaten = np.zeros(len(areas), bool)
    beaten[one[(areas[other] < minimum) & (rank[other] < rank[one])]] = True

    keep = ~beaten[one]
    one, other, length = one[keep], other[keep], length[keep]
    order = np.lexsort((-rank[other], -length, one))
    one, other = one[order], other[order]
    best = np.ones(len(one), bool)
    best[1:] = one[1:] != one[:-1]
    return one[best], other[best]


def _fuse(values: NDArray[Any], borders: Borders) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join neighbours of equal value: the new number of every region, and the first member of every new one."""
    low, high = borders.low, borders.high
    same = values[low] == values[high]
    graph = coo_array((np.ones(int(same.sum()), np.int8), (low[same], high[same])), shape=(len(values),) * 2)
    _, component = connected_components(graph, directed=False)
    numbers, first = rank_by_first(component)
    return numbers.astype(np.int64) - 1, first


def contract(borders: Borders, component: NDArray[np.int64]) -> Borders:
    """The pairs after regions were joined; those of one and the same are dropped."""
    one, other = component[borders.low], component[borders.high]
    apart = one != other
    return Borders.joined([Borders(one[apart], other[apart], borders.length[apart])])


def _scramble(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """Spread consecutive numbers over 64 bits (the finaliser of the SplitMix64 generator): distinct stay distinct."""
    x = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
