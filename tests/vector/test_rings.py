"""Rings become polygons: shells with their holes, whatever order they come in."""

import numpy as np
import shapely

from geohp.vector.rings import Rings


def rings(*outlines):
    """Of (region, corners)."""
    return Rings(
        np.array([region for region, _ in outlines], np.int64),
        np.array([len(corners) for _, corners in outlines], np.int64),
        np.array([corner for _, corners in outlines for corner in corners], np.int64).reshape(-1, 2),
    )


SHELL = (2, [(9, 9), (0, 9), (0, 0), (9, 0)])  # clockwise on screen, rows counted downwards
HOLE = (2, [(3, 5), (5, 5), (5, 3), (3, 3)])
LOWER = (2, [(6, 8), (8, 8), (8, 6), (6, 6)])
OTHER = (1, [(20, 0), (24, 0), (24, 1), (20, 1)])


def test_a_region_is_one_polygon_of_its_shell_and_its_holes():
    expected = [
        shapely.box(20, -1, 24, 0),
        shapely.box(0, -9, 9, 0) - shapely.box(3, -5, 5, -3) - shapely.box(6, -8, 8, -6),
    ]
    for order in ((SHELL, HOLE, LOWER, OTHER), (LOWER, OTHER, SHELL, HOLE)):
        regions, polygons = rings(*order).polygons(lambda corners: corners * [1, -1])
        assert regions.tolist() == [1, 2]
        for polygon, wanted in zip(polygons, expected, strict=True):
            assert polygon.equals(wanted)
            assert shapely.is_ccw(polygon.exterior)
        assert len(polygons[1].interiors) == 2
    regions, polygons = Rings.none().polygons(lambda corners: corners)
    assert (len(regions), len(polygons)) == (0, 0)


def test_rings_look_the_same_however_they_were_pieced_together():
    turned = (2, SHELL[1][1:] + SHELL[1][:1])
    sorted_ = rings(OTHER, LOWER, HOLE, turned).sorted()
    assert sorted_.regions.tolist() == [1, 2, 2, 2]
    assert sorted_.corners.tolist() == rings(HOLE, SHELL, OTHER, LOWER).sorted().corners.tolist()
    firsts = sorted_.corners[sorted_.offsets[:-1]].tolist()
    assert firsts == [[20, 0], [0, 0], [3, 3], [6, 6]]  # the shell, then holes from the top; each from its top left
    assert sorted_.corners[4:8].tolist() == [[0, 0], [9, 0], [9, 9], [0, 9]]
    assert Rings.none().sorted().corners.shape == (0, 2)


def test_rings_are_split_by_region_chosen_and_joined():
    all_ = rings(SHELL, OTHER, HOLE)
    (first, other), (second, both) = all_.split()
    assert (first, second) == (1, 2)
    assert other.corners.tolist() == np.array(OTHER[1]).tolist()
    assert both.corners.tolist() == [*map(list, SHELL[1]), *map(list, HOLE[1])]
    assert both.lengths.tolist() == [4, 4]
    assert all_.where(np.array([False, True, True])).corners.tolist() == [*map(list, OTHER[1]), *map(list, HOLE[1])]
    joined = Rings.joined([other, both])
    assert joined.regions.tolist() == [1, 2, 2]
    assert joined.offsets.tolist() == [0, 4, 8, 12]
    assert len(Rings.joined([]).regions) == 0
    assert Rings.none().split() == []
