"""What stands between the streets: perimeter blocks, houses with gardens, halls with car parks, parks."""

from __future__ import annotations

import itertools

import numpy as np

from geohp.demo.town.buildings import draw_building, paint_box, paint_building
from geohp.demo.town.canvas import Canvas, Floats, Window
from geohp.demo.town.cars import paint_car
from geohp.demo.town.ground import GROUNDS
from geohp.demo.town.streets import CityBlock, StreetPlan
from geohp.demo.town.town_classes import CLUTTER, LOW_VEGETATION, ROAD
from geohp.demo.town.trees import draw_species, paint_hedge, paint_tree

_DECK = ("perimeter", "gardens", "perimeter", "halls", "gardens", "perimeter", "park", "gardens", "perimeter")
_CONTAINERS = ((0.62, 0.25, 0.18), (0.20, 0.33, 0.52), (0.30, 0.45, 0.32), (0.70, 0.68, 0.62))


class BlockPainter:
    """Paints blocks on a canvas whose pixels have the plan coordinates ``u`` and ``v``."""

    def __init__(self, canvas: Canvas, plan: StreetPlan, u: Floats, v: Floats, rng: np.random.Generator):
        self.canvas, self.plan, self.u, self.v, self.rng = canvas, plan, u, v, rng

    def paint_all(self) -> None:
        """Paint every block on the canvas, the kinds dealt like cards so that no scene lacks one for long."""
        deck: list[str] = []
        for block in self.plan.blocks():
            if self._box(block.u0, block.u1, block.v0, block.v1) is None:
                continue
            deck = deck or [str(kind) for kind in self.rng.permutation(_DECK)]
            getattr(self, f"_{deck.pop()}")(block)

    def _perimeter(self, block: CityBlock) -> None:
        """Adjoining houses along all four streets around a courtyard."""
        rng, depth = self.rng, self.rng.uniform(11, 13)
        self._ground("slabs" if rng.random() < 0.2 else "lawn", block.u0, block.u1, block.v0, block.v1)
        inner = CityBlock(block.u0 + depth, block.u1 - depth, block.v0 + depth, block.v1 - depth, block.number)
        cuts_u = np.linspace(inner.u0, inner.u1, 3 + (inner.u1 - inner.u0 > 40))
        cuts_v = np.linspace(inner.v0, inner.v1, 3 + (inner.v1 - inner.v0 > 40))
        for u0, u1 in itertools.pairwise(cuts_u):
            for v0, v1 in itertools.pairwise(cuts_v):
                kinds = ("lawn", "lawn", "lawn", "lawn", "lawn", "slabs", "asphalt", "gravel", "meadow", "soil")
                self._ground(str(rng.choice(kinds)), u0, u1, v0, v1)
                if rng.random() < 0.5:
                    x, y, angle = self.plan.place(u0 + rng.uniform(5, 8), (v0 + v1) / 2)
                    house = draw_building(x, y, angle, rng.uniform(7, 10), rng.uniform(10, 17), 6.5, 0.5, rng)
                    paint_building(self.canvas, house, rng)
        for at, along_v in ((block.v0, False), (block.v1, False), (block.u0, True), (block.u1, True)):
            first, last = (block.v0 + depth, block.v1 - depth) if along_v else (block.u0, block.u1)
            inward = 1 if at in (block.u0, block.v0) else -1
            self._house_row(first, last, at + inward * depth / 2, depth, along_v)
        self._scatter_trees(inner, 0.014, (2.0, 5.4))

    def _house_row(self, first: float, last: float, across: float, depth: float, along_v: bool) -> None:
        rng, at = self.rng, first
        storey_height, flat = rng.uniform(11, 15.5), rng.choice([0.1, 0.3, 0.6])
        while last - at > 6:
            length = min(rng.uniform(13, 24), last - at)
            length = last - at if last - at - length < 8 else length
            if rng.random() > 0.07:
                uv = (across, at + length / 2) if along_v else (at + length / 2, across)
                x, y, angle = self.plan.place(*uv, along_v=along_v)
                eave = storey_height + rng.normal(0, 0.8)
                house = draw_building(x, y, angle, length + 0.3, depth + rng.uniform(-0.6, 0.6), eave, flat, rng)
                paint_building(self.canvas, house, rng)
            at += length

    def _gardens(self, block: CityBlock) -> None:
        """Two rows of detached houses, each in its garden."""
        rng, middle = self.rng, (block.v0 + block.v1) / 2
        for v0, v1, front in ((block.v0, middle, 1), (middle, block.v1, -1)):
            at = block.u0
            while block.u1 - at > 9:
                width = min(rng.uniform(15, 23), block.u1 - at)
                self._parcel(at, at + width, v0, v1, front)
                at += width

    def _parcel(self, u0: float, u1: float, v0: float, v1: float, front: int) -> None:
        rng, plan = self.rng, self.plan
        self._ground("meadow" if rng.random() < 0.2 else "lawn", u0, u1, v0, v1)
        street, back = (v0, v1) if front > 0 else (v1, v0)
        length, depth, setback = rng.uniform(11, max(12.0, u1 - u0 - 3.5)), rng.uniform(10, 15), rng.uniform(3, 6)
        middle_u, middle_v = (u0 + u1) / 2 + rng.uniform(-1, 1), street + front * (setback + depth / 2)
        drive = sorted((street, street + front * rng.uniform(6, 20)))
        self._ground(str(rng.choice(["slabs", "slabs", "asphalt", "gravel"])), u0 + 0.4, u0 + 3.4, *drive)
        terrace = sorted((middle_v + front * depth / 2, middle_v + front * (depth / 2 + rng.uniform(2, 5))))
        self._ground("slabs", middle_u - length / 3, middle_u + length / 3, *terrace)
        x, y, angle = plan.place(middle_u, middle_v)
        eave = rng.uniform(4.5, 8)
        paint_building(self.canvas, draw_building(x, y, angle, length, depth, eave, 0.2, rng), rng)
        if rng.random() < 0.4:  # a wing
            x, y, angle = plan.place(middle_u + rng.choice([-1, 1]) * length * 0.25, middle_v + front * depth * 0.45)
            wing = draw_building(x, y, angle, 6.0, depth * 0.7, eave - 0.8, 0.3, rng)
            paint_building(self.canvas, wing, rng)
        if rng.random() < 0.5 and abs(back - middle_v) > depth + 16:  # a second house behind
            x, y, angle = plan.place(middle_u, back - front * rng.uniform(9, 11))
            behind = draw_building(x, y, angle, length * 0.85, depth * 0.85, rng.uniform(3.5, 7), 0.3, rng)
            paint_building(self.canvas, behind, rng)
        if rng.random() < 0.45:  # a shed or garage
            x, y, angle = plan.place(u0 + 2.4, back - front * rng.uniform(4, 9))
            paint_building(self.canvas, draw_building(x, y, angle, 3.2, 5.8, 2.7, 0.8, rng), rng)
        if rng.random() < 0.6:
            car_v = street + front * rng.uniform(2.6, 5)
            paint_car(self.canvas, *plan.place(u0 + 1.9, car_v, along_v=True), rng)
        if rng.random() < 0.35:  # a vegetable bed or a sand pit
            bed = sorted((back - front * rng.uniform(1, 3), back - front * rng.uniform(5, 9)))
            self._ground("soil", u1 - rng.uniform(5, 8), u1 - 1, *bed)
        for side_u in (u0, u1):
            if rng.random() < 0.6:
                x, y, angle = plan.place(side_u, (v0 + v1) / 2, along_v=True)
                paint_hedge(self.canvas, (x, y, angle), (v1 - v0) * rng.uniform(0.5, 0.95), rng)
        garden = sorted((middle_v + front * (depth / 2 + 2), back))
        self._scatter_trees(CityBlock(u0, u1, garden[0], garden[1], (0, 0)), 0.015, (1.8, 5.6))
        self._scatter_trees(CityBlock(u0, u1, min(street, middle_v), max(street, middle_v), (0, 0)), 0.007, (1.2, 3.2))

    def _halls(self, block: CityBlock) -> None:
        """A large flat hall, a smaller one, a car park and a yard."""
        rng = self.rng
        self._ground("asphalt", block.u0, block.u1, block.v0, block.v1)
        self._ground("lawn", block.u0, block.u1, block.v0, block.v0 + rng.uniform(3, 6))
        split = block.v0 + (block.v1 - block.v0) * rng.uniform(0.5, 0.6)
        width = (block.u1 - block.u0) * rng.uniform(0.72, 0.86)
        x, y, angle = self.plan.place((block.u0 + block.u1) / 2, (block.v0 + 7 + split) / 2)
        depth = split - block.v0 - 9
        paint_building(self.canvas, draw_building(x, y, angle, width, depth, rng.uniform(7, 10), 1.0, rng), rng)
        yard = block.u0 + (block.u1 - block.u0) * rng.uniform(0.3, 0.42)
        self._ground(str(rng.choice(["gravel", "soil"])), block.u0 + 1, yard, split + 2, block.v1 - 2)
        for _ in range(rng.integers(3, 9)):
            place = self.plan.place(rng.uniform(block.u0 + 4, yard - 4), rng.uniform(split + 5, block.v1 - 6))
            colour = _CONTAINERS[rng.integers(len(_CONTAINERS))]
            paint_box(self.canvas, place, (6.1, 2.4), 2.5, colour, CLUTTER)
        self._car_park(yard + 2, block.u1 - 2, split + 3, block.v1 - 3)
        self._scatter_trees(CityBlock(block.u0, block.u1, block.v0, block.v0 + 4, (0, 0)), 0.03, (1.8, 3.6))

    def _car_park(self, u0: float, u1: float, v0: float, v1: float) -> None:
        """Rows of stalls 2.5 m wide and 5 m deep, in pairs, with aisles of 6 m."""
        rng, row = self.rng, v0
        while row + 5 <= v1:
            box = self._box(u0, u1, row, row + 5)
            if box is not None:
                window, inside = box
                stall = np.abs(np.mod(self.u[window] - np.float32(u0), 2.5)) < 0.16
                self.canvas.paint(window, inside & stall, (0.78, 0.78, 0.76), None)
            for u in np.arange(u0 + 1.25, u1 - 1, 2.5):
                if rng.random() < 0.4:
                    x, y, angle = self.plan.place(u, row + 2.5 + rng.uniform(-0.3, 0.3), along_v=True)
                    paint_car(self.canvas, x, y, angle, rng)
            row += 11.5

    def _park(self, block: CityBlock) -> None:
        """Grass with curving paths, groups of trees and a playground."""
        rng = self.rng
        self._ground("lawn", block.u0, block.u1, block.v0, block.v1)
        self._ground("meadow", block.u0, (block.u0 + block.u1) / 2, block.v0, block.v0 + rng.uniform(15, 40))
        box = self._box(block.u0, block.u1, block.v0, block.v1)
        if box is not None:
            window, inside = box
            u, v = self.u[window], self.v[window]
            for _ in range(3):
                bend = rng.uniform(3, 8) * np.sin(v / rng.uniform(9, 16) + rng.uniform(0, 6))
                slant = rng.uniform(-0.5, 0.5) * (v - (block.v0 + block.v1) / 2)
                path = np.abs(u - rng.uniform(block.u0 + 10, block.u1 - 10) - bend - slant) < 1.5
                paint, label = (GROUNDS["slabs"][0], ROAD) if rng.random() < 0.5 else GROUNDS["gravel"]
                self.canvas.paint(window, inside & path, paint(self.canvas, window, u, v, rng), label)
        play = rng.uniform(block.u0 + 5, block.u1 - 20), rng.uniform(block.v0 + 5, block.v1 - 20)
        self._ground("soil", play[0], play[0] + 14, play[1], play[1] + 11)
        self._scatter_trees(block, 0.010, (2.6, 6.5), clump=0.6)

    def _ground(self, kind: str, u0: float, u1: float, v0: float, v1: float) -> None:
        box = self._box(u0, u1, v0, v1)
        if box is not None:
            window, inside = box
            paint, label = GROUNDS[kind]
            colour = paint(self.canvas, window, self.u[window], self.v[window], self.rng)
            self.canvas.paint(window, inside, colour, label)

    def _scatter_trees(self, area: CityBlock, per_m2: float, radii: tuple[float, float], clump: float = 0.25) -> None:
        """Trees at random, ``clump`` of them beside the one before; none grows on a roof or in a carriageway."""
        rng = self.rng
        width, depth = area.u1 - area.u0, area.v1 - area.v0
        if width < 2 or depth < 2:
            return
        u = v = None
        for _ in range(rng.poisson(width * depth * per_m2)):
            if u is not None and v is not None and rng.random() < clump:
                u, v = u + rng.normal(0, 4), v + rng.normal(0, 4)
            else:
                u, v = rng.uniform(area.u0 + 1, area.u1 - 1), rng.uniform(area.v0 + 1, area.v1 - 1)
            x, y = self.plan.to_xy(u, v)
            below = self.canvas.top_at(x, y)
            if below is None or below[0] in (LOW_VEGETATION, CLUTTER) or (below[0] == ROAD and rng.random() < 0.15):
                paint_tree(self.canvas, x, y, rng.uniform(*radii), draw_species(rng), rng)

    def _box(
        self, u0: float, u1: float, v0: float, v1: float
    ) -> tuple[Window, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] | None:
        """The window around a box in plan coordinates, and which of its pixels lie inside."""
        corners = [self.plan.to_xy(u, v) for u in (u0, (u0 + u1) / 2, u1) for v in (v0, (v0 + v1) / 2, v1)]
        xs, ys = zip(*corners, strict=True)
        window = self.canvas.window_of(min(xs) - 3, max(xs) + 3, min(ys) - 3, max(ys) + 3)
        if window is None:
            return None
        u, v = self.u[window], self.v[window]
        inside = (u >= u0) & (u < u1) & (v >= v0) & (v < v1)
        return (window, inside) if inside.any() else None
