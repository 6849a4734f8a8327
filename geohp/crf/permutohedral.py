"""Gaussian filtering of scattered points, in time linear in their number: the permutohedral lattice.

    values of the points ─▶ splat onto the corners of their simplices ─▶ blur along the axes ─▶ slice at the points

After Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice" (2010). All three steps
are products with sparse matrices that depend on the points alone; they are built once and used for every filtering.

The lattice of d dimensions lies in the plane of R^(d+1) whose coordinates sum to 0. Its vertices have integer
coordinates that are congruent modulo d + 1, the remainder common to all of them. A simplex has one corner of each
remainder, and the way from one corner to the next is a step along one axis. With a vertex's coordinates packed
linearly into one integer, its key, each of the d + 1 steps is a constant to be added: the corners around a point are
one key and running sums of steps, and a vertex's neighbours its own key plus and minus each step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.errors import DataError

_TINY = 1e-20
"""Keeps inverse roots finite; far below what any point weighs on itself."""

_BYTES = {"cpu": 16 * 2**20, "cuda": 2**30}
"""What the vertices' values may take: beyond it columns are filtered in parts, which on a CPU also stay in caches."""


class Lattice:
    """A Gaussian filter of unit deviation over points, normalised symmetrically.

    With K the Gaussian weights between the points, each one's weight on itself among them, and D the sums of its rows,
    it is D^-1/2 K D^-1/2. K is as the lattice interpolates it.

    Args:
        points: (N, d) float32, coordinates in units of the filter's deviation, finite; N at least 1.
        groups: (N,) int64 from 0, points of different groups having nothing to do with one another; ``None`` for one.
        count: how many groups.

    Raises:
        DataError: when the points spread over more deviations than keys can tell apart.
    """

    def __init__(self, points: Tensor, groups: Tensor | None = None, count: int = 1) -> None:
        keys, weights, steps = _corners(points.T, groups, count)
        corners = keys.shape[1]
        # Stable: what a vertex sums up stays in the order of the points.
        ordered, order = torch.sort(keys.flatten(), stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=first[1:])
        number = torch.empty_like(ordered, dtype=torch.int32)
        number[order] = first.cumsum(0, dtype=torch.int32) - 1
        starts = F.pad(first.nonzero()[:, 0], (0, 1), value=len(ordered)).int()
        ends = torch.arange(0, len(ordered) + 1, corners, dtype=torch.int32, device=points.device)
        # The blurs together give a vertex's value this weight too much.
        excess = 1 + 2.0 ** (1 - corners)
        self._splat = _Sparse((order // corners).int(), weights.flatten()[order], starts)
        self._blurs = _blurs(ordered[first], steps)
        self._slice = _Sparse(number, weights.flatten() / excess, ends)
        root = (self @ points.new_ones(len(points), 1) + _TINY).rsqrt()[:, 0]
        # Within the matrices the normalisation costs nothing where the filter is used.
        self._splat.values.mul_(root[self._splat.columns])
        self._slice.values.view(-1, corners).mul_(root[:, None])

    def __matmul__(self, values: Tensor) -> Tensor:
        """(N, C) float32 filtered, each column by itself."""
        most = max(1, _BYTES[values.device.type] // (4 * len(self._splat.starts)))
        if values.shape[1] <= most:
            return self._filtered(values)
        parts = values.tensor_split(math.ceil(values.shape[1] / most), 1)
        return torch.cat([self._filtered(part.contiguous()) for part in parts], 1)

    def _filtered(self, values: Tensor) -> Tensor:
        values = self._splat @ values
        for blur in self._blurs:
            values = blur @ values
        return self._slice @ values


class _Sparse(NamedTuple):
    """A sparse matrix, row after row.

    Attributes:
        columns: (entries,) int32.
        values: (entries,) float32.
        starts: (rows + 1,) int32, the first entry of each row, and the number of entries.
    """

    columns: Tensor
    values: Tensor
    starts: Tensor

    def __matmul__(self, dense: Tensor) -> Tensor:
        """(rows, C) of a dense (columns, C).

        Rows are bags of an embedding: vectorised, parallel, and summed in a fixed order, so that a filtering gives the
        same bits each time, which atomic additions would not.
        """
        return F.embedding_bag(
            self.columns, dense, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )


def _corners(points: Tensor, groups: Tensor | None, count: int) -> tuple[Tensor, Tensor, list[int]]:
    """The simplex around each point.

    Args:
        points: (d, N) float32.
        groups: (N,), each with vertices of its own.
        count: of groups.

    Returns:
        (N, d + 1) int64 keys of its corners, (N, d + 1) float32 barycentric weights, and the step of each axis.
    """
    base, rest, rank = _nearest(_elevated(points) / (len(points) + 1))
    order = rank.long()
    keys, steps, span = _keys(base, order, count)
    if groups is not None and count > 1:
        keys += groups[:, None] * span
    return keys, _weights(rest, order), steps


def _nearest(place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest vertex of remainder 0.

    Args:
        place: (d + 1, N) coordinates in the lattice's plane, in units of d + 1.

    Returns:
        (d + 1, N) coordinates of the vertex and what is left, both in units of d + 1, and the rank of each coordinate's
        rest, the largest first.
    """
    size, count = place.shape
    # Rounding takes each coordinate by itself: it gives a vertex if they sum to 0.
    base = place.round()
    rest = place - base
    surplus = base.sum(0).to(torch.int8)
    rank = torch.zeros(size, count, dtype=torch.int8, device=place.device)
    for i in range(size):
        for j in range(i + 1, size):
            behind = rest[i] < rest[j]
            rank[i] += behind
            rank[j] += ~behind
    # Else those that were rounded furthest the wrong way go one back, and to the other end of the order.
    rank += surplus
    turned = torch.div(rank, size, rounding_mode="floor")
    rank -= turned * size
    base -= turned
    rest += turned
    return base, rest, rank


def _weights(rest: Tensor, order: Tensor) -> Tensor:
    """(N, d + 1) barycentric weights of a simplex's corners, by the rests (d + 1, N) of a point and their order."""
    size, count = rest.shape
    falling = torch.empty_like(rest).scatter_(0, order, rest)
    weights = torch.empty(count, size, dtype=torch.float32, device=rest.device)
    weights[:, 0] = 1 + falling[-1] - falling[0]
    weights[:, 1:] = (falling[:-1] - falling[1:]).flip(0).T
    return weights


def _keys(base: Tensor, order: Tensor, groups: int) -> tuple[Tensor, list[int], int]:
    """(N, d + 1) keys of a simplex's corners, from the first (d + 1, N) and the order of axes; each axis's step.

    Last, the span of all keys, those of neighbours among them; so many groups' spans can be told apart.
    """
    size, count = base.shape
    *strides, span = _strides(base[:-1], size, groups)
    steps = [sum(strides) - size * stride for stride in (*strides, 0)]
    key = torch.zeros(count, dtype=torch.int64, device=base.device)
    for coordinate, stride in zip(base[:-1], strides, strict=True):
        key += (coordinate - coordinate.min()).long() * (stride * size)
    axes = torch.tensor(steps, device=base.device)[:, None].expand(size, count)
    walk = torch.empty(size, count, dtype=torch.int64, device=base.device).scatter_(0, size - 1 - order, axes)
    keys = torch.empty(count, size, dtype=torch.int64, device=base.device)
    for remainder in range(size):
        keys[:, remainder] = key
        key += walk[remainder]
    return keys, steps, span


def _elevated(points: Tensor) -> Tensor:
    """(d + 1, N) coordinates in the lattice's plane of points (d, N), scaled as the blur's width wants it."""
    dims = len(points)
    scales = [math.sqrt(2 / 3) * (dims + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(dims)]
    elevated = torch.zeros(dims + 1, points.shape[1], device=points.device)
    total = elevated[0]
    for axis in range(dims, 0, -1):
        scaled = points[axis - 1] * scales[axis - 1]
        elevated[axis] = total - axis * scaled
        total += scaled
    return elevated


def _strides(base: Tensor, size: int, groups: int) -> list[int]:
    """What a unit of each coordinate counts in a key, the corners of all simplices and their neighbours told apart.

    Last, what a group counts.

    Args:
        base: (d, N) coordinates of the simplices' first corners, in units of d + 1.
        size: d + 1.
        groups: how many.
    """
    strides = [1]
    for low, high in zip(base.amin(1).flip(0).tolist(), base.amax(1).flip(0).tolist(), strict=True):
        # Corners reach one unit beyond their simplex's first, and neighbours another.
        strides.append(strides[-1] * size * (int(high - low) + 5))
    span = strides.pop()
    if span * groups >= 2**62:
        raise DataError("the kernel is too narrow for so large an image", "give a larger sxy or srgb")
    return [*strides[::-1], span]


def _blurs(keys: Tensor, steps: list[int]) -> list[_Sparse]:
    """For each axis the matrix that adds half of both neighbours to each vertex, where there are any.

    Args:
        keys: (V,) of the vertices, ascending.
        steps: of each axis.
    """
    count = len(keys)
    blurs = []
    for step in steps:
        neighbours = keys + step
        ahead = torch.searchsorted(keys, neighbours, out_int32=True).clamp_(max=count - 1)
        behind = (keys[ahead] == neighbours).nonzero()[:, 0]
        ahead = ahead[behind]
        # Who has a neighbour ahead is the neighbour behind of that one.
        lengths = torch.ones(count + 1, dtype=torch.int32, device=keys.device)
        lengths[0] = 0
        lengths[behind + 1] += 1
        lengths[ahead + 1] += 1
        starts = lengths.cumsum(0, dtype=torch.int32)
        columns = torch.empty(count + 2 * len(behind), dtype=torch.int32, device=keys.device)
        weights = torch.full_like(columns, 0.5, dtype=torch.float32)
        # Each row has the vertex itself first, then the neighbour ahead, the one behind last.
        columns[starts[:-1]] = torch.arange(count, dtype=torch.int32, device=keys.device)
        weights[starts[:-1]] = 1
        columns[starts[behind] + 1] = ahead
        columns[starts[ahead + 1] - 1] = behind.int()
        blurs.append(_Sparse(columns, weights, starts))
    return blurs
