"""Vegetation gathered: by colour, where it covers much, and nowhere else."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from geohp.classes import default_classes
from geohp.methods.kmeans.clustering import spherical_kmeans
from geohp.methods.kmeans.vegetation import excess_green, gather_vegetation, is_vegetation, name_vegetation

GREENS = ((70, 90, 50), (40, 60, 35), (110, 130, 70))
OTHERS = ((128, 128, 128), (200, 60, 50), (220, 210, 190))


def ground(green_share, patches=3000, greens=GREENS, seed=0):
    """Features of six covers, of which the first three are green; their colours; and which cover each patch is of."""
    generator = torch.Generator().manual_seed(seed)
    covers = F.normalize(torch.randn(6, 12, generator=generator), dim=1)
    share = torch.tensor([green_share / 3] * 3 + [(1 - green_share) / 3] * 3)
    kind = torch.multinomial(share, patches, replacement=True, generator=generator)
    rows = covers[kind] + 0.05 * torch.randn(patches, 12, generator=generator)
    colours = torch.tensor([*greens, *OTHERS])[kind] / 255 + 0.01 * torch.randn(patches, 3, generator=generator)
    return rows, colours.clamp(0, 1), kind


def classes_of(probe, rows):
    return probe.scores(rows.T[None, :, None])[0, :, 0].argmax(0)


def test_the_index_is_that_of_the_paper():
    colours = torch.tensor([[0.2, 0.2, 0.2], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.1, 0.3, 0.1], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(excess_green(colours), torch.tensor([0.0, 2.0, -1.0, 0.8, 0.0]))


@pytest.mark.parametrize(
    ("colour", "green"),
    [((70, 90, 50), True), ((95, 100, 60), True), ((128, 128, 128), False), ((200, 190, 160), False),
     ((60, 100, 98), False), ((30, 60, 120), False), ((150, 60, 50), False), ((0, 0, 0), False)],
    ids=["trees", "dry grass", "road", "sand", "turquoise water", "sea", "roof", "nothing"],
)  # fmt: skip
def test_plants_are_green_and_turquoise_water_is_not(colour, green):
    assert bool(is_vegetation(torch.tensor(colour) / 255)) is green


def test_what_covers_much_is_one_class_and_every_other_cover_keeps_its_own():
    rows, colours, kind = ground(0.75)
    gathered = gather_vegetation(rows, colours, 4)
    found = classes_of(gathered.probe, rows)
    assert gathered.classes == 1
    assert gathered.share == pytest.approx(0.75, abs=0.03)
    assert ((found == 0) == (kind < 3)).double().mean() > 0.99
    for cover in (3, 4, 5):
        own = torch.bincount(found[kind == cover], minlength=4)
        assert own.max() > 0.99 * own.sum()
    assert len({int(found[kind == cover].mode().values) for cover in (3, 4, 5)}) == 3
    # Without that, k-means spends its classes on greens.
    plain, _ = spherical_kmeans(rows, 4)
    split = (F.normalize(rows, dim=1) @ plain.T).argmax(1)
    assert len({int(split[kind == cover].mode().values) for cover in (0, 1, 2)}) > 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_where_it_covers_little_or_all_clusters_are_left_alone(share):
    rows, colours, _ = ground(share)
    assert gather_vegetation(rows, colours, 6) is None


def test_without_green_nothing_is_gathered_however_much_it_covers():
    rows, colours, _ = ground(0.75, greens=((90, 90, 90), (60, 100, 98), (200, 190, 170)))
    assert gather_vegetation(rows, colours, 4) is None


def test_where_there_is_hardly_anything_else_vegetation_has_several_classes():
    rows, colours, kind = ground(0.94)
    gathered = gather_vegetation(rows, colours, 6)
    assert gathered.classes == 4  # the others: 3 * 0.06 * 6, rounded up
    assert gathered.probe.classes == 6
    found = classes_of(gathered.probe, rows)
    assert ((found < 4) == (kind < 3)).double().mean() > 0.99
    assert len({int(found[kind == cover].mode().values) for cover in (0, 1, 2)}) == 3


def test_of_extra_clusters_it_has_a_third():
    rows, colours, _ = ground(0.6)
    gathered = gather_vegetation(rows, colours, 18, extra=12)
    assert gathered.classes == 5
    assert gathered.probe.classes == 18


def test_it_is_the_same_whenever_it_is_done():
    rows, colours, _ = ground(0.75)
    first, second = (gather_vegetation(rows, colours, 4, seed=3).probe.clusters for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, gather_vegetation(rows, colours, 4, seed=4).probe.clusters)


def test_few_patches_are_left_to_k_means():
    rows, colours, _ = ground(0.75, patches=60)
    assert gather_vegetation(rows, colours, 6) is None


def test_classes_are_called_what_they_are():
    classes = default_classes(4)
    assert [entry.name for entry in name_vegetation(classes, 1)] == ["vegetation", "class 1", "class 2", "class 3"]
    assert [entry.name for entry in name_vegetation(classes, 2)][:3] == ["vegetation 1", "vegetation 2", "class 2"]
    assert name_vegetation(classes, 1)[1:] == classes[1:]
    assert name_vegetation(classes, 1)[0] == replace(classes[0], name="vegetation")
