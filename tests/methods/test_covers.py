"""Covers gathered: by their looks, where they cover much, and nowhere else."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import geohp.methods.kmeans.covers as covers_module
from geohp.classes import default_classes
from geohp.methods.kmeans.clustering import spherical_kmeans
from geohp.methods.kmeans.covers import (
    Cover,
    GatheredCovers,
    gather_covers,
    is_dark_water,
    is_murky_water,
    is_open_ground,
    is_vegetation,
    seem_infrared,
)
from geohp.methods.kmeans.light import Looks

GREENS = ((70, 90, 50), (40, 60, 35), (110, 130, 70))
SANDS = ((220, 210, 190), (190, 180, 170), (240, 240, 235))
ALIKE = (1.5, 1.5)
WATER = covers_module._NUMBER_OF_WATER
OTHERS = ((110, 110, 112), (150, 60, 50), (60, 65, 120))


def ground(share, patches=3000, covers=GREENS, texture=0.02, seed=0, alike=(1.5, 0)):
    """Features of six kinds, the first three of which are a cover, more or less alike; looks; and the kind of each."""
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(6, 12, generator=generator), dim=1)
    common = F.normalize(torch.randn(2, 12, generator=generator), dim=1) * torch.tensor(alike)[:, None]
    directions = F.normalize(directions + common.repeat_interleave(3, 0), dim=1)
    shares = torch.tensor([share / 3] * 3 + [(1 - share) / 3] * 3)
    kind = torch.multinomial(shares, patches, replacement=True, generator=generator)
    rows = directions[kind] + 0.05 * torch.randn(patches, 12, generator=generator)
    colours = torch.tensor([*covers, *OTHERS])[kind] / 255 + 0.01 * torch.randn(patches, 3, generator=generator)
    textures = torch.full((patches,), texture)
    return rows, Looks(colours.clamp(0, 1), textures, textures.clone()), kind


def classes_of(probe, rows):
    return probe.scores(rows.T[None, :, None])[0, :, 0].argmax(0)


def modes(labels, kind, kinds):
    return {int(labels[kind == number].mode().values) for number in kinds}


def one(colour, texture):
    return Looks(torch.tensor([colour]) / 255, torch.tensor([texture]), torch.tensor([texture]))


@pytest.mark.parametrize(
    ("colour", "texture", "vegetation", "open_ground"),
    [((70, 90, 50), 0.1, True, False), ((95, 100, 60), 0.02, True, False), ((150, 170, 120), 0.02, True, False),
     ((128, 120, 118), 0.03, False, False), ((200, 190, 160), 0.03, False, True), ((200, 190, 160), 0.2, False, False),
     ((60, 100, 98), 0.01, False, False), ((140, 119, 70), 0.02, False, False), ((30, 60, 120), 0.01, False, False),
     ((100, 110, 95), 0.02, True, False), ((100, 106, 96), 0.02, False, False),
     ((127.5, 127.5, 127.5), 0.02, False, False), ((0, 0, 0), 0.0, False, False)],
    ids=["trees", "dry grass", "bright meadow", "road", "sand", "white roofs", "turquoise water", "muddy river", "sea",
         "pale green", "greenish", "as bright as half", "nothing"],
)  # fmt: skip
def test_covers_are_told_by_their_looks(colour, texture, vegetation, open_ground):
    looks = one(colour, texture)
    assert (bool(is_vegetation(looks)), bool(is_open_ground(looks))) == (vegetation, open_ground)


@pytest.mark.parametrize(
    ("colour", "texture", "water"),
    [((8, 10, 14), 0.01, True), ((10, 30, 15), 0.02, True), ((20, 32, 18), 0.06, False), ((60, 60, 62), 0.02, False),
     ((60, 100, 98), 0.01, False), ((0, 0, 0), 0.0, False)],
    ids=["deep sea", "green lake", "trees in shade", "asphalt", "shallows", "never seen"],
)  # fmt: skip
def test_water_is_dark_and_still_and_no_plants(colour, texture, water):
    looks = one(colour, texture)
    assert bool(is_dark_water(looks)) == water
    assert not bool(is_dark_water(looks) & (is_vegetation(looks) | is_open_ground(looks)))


def with_shadows(looks):
    """The same with what lies in shade, a patch in thirty, and with what shines."""
    looks.colours[::30], looks.colours[1::50] = 0.06, 0.9
    return looks


@pytest.mark.parametrize(("covers", "name"), [(GREENS, "vegetation"), (SANDS, "open ground")])
@pytest.mark.parametrize(
    ("share", "light"),
    [(0.65, (0.25, 0.25, 0.25)), (0.5, (0, 0, 0)), (0.45, (0.2, 0.2, 0.2)), (0.65, (0.2, 0.22, 0.3)),
     ((0.86, 1, 1.1), (0, 0, 0))],
    ids=["haze", "dusk", "dark haze", "blue haze", "cold cast"],
)  # fmt: skip
def test_what_the_air_and_the_light_do_hides_no_cover(covers, name, share, light):
    rows, looks, _ = ground(0.6, covers=covers, alike=ALIKE)
    clear = gather_covers(rows, with_shadows(looks), 5)
    assert [cover.name for cover in clear.covers] == [name]
    share = torch.tensor(share)
    mean = share.mean()
    seen = Looks(looks.colours * share + torch.tensor(light), looks.textures * mean, looks.around * mean)
    hazy = gather_covers(rows, seen, 5)
    assert [cover.name for cover in hazy.covers] == [name]
    assert (classes_of(hazy.probe, rows) == classes_of(clear.probe, rows)).double().mean() > 0.98


def test_pale_colours_hide_no_plants():
    rows, looks, _ = ground(0.6)
    clear = gather_covers(rows, with_shadows(looks), 5)
    grey = looks.colours.mean(-1, keepdim=True)
    pale = gather_covers(rows, replace(looks, colours=torch.lerp(grey, looks.colours, 0.35)), 5)
    assert [cover.name for cover in pale.covers] == ["vegetation"]
    assert (classes_of(pale.probe, rows) == classes_of(clear.probe, rows)).double().mean() > 0.98


@pytest.mark.parametrize("texture", [0.02, 0.3])
def test_plain_looks_are_left_as_they_are(texture):
    _, looks, _ = ground(0.6, texture=texture)
    looks = with_shadows(looks)
    looks.colours[::30] = torch.tensor([0.06, 0.062, 0.061])
    plain = looks.in_clear_light()
    assert torch.equal(plain.colours, looks.colours)
    assert torch.equal(plain.textures, looks.textures)


def test_a_little_dark_water_is_a_class_of_its_own():
    rows, looks, kind = ground(0.6, covers=SANDS, alike=ALIKE)
    wet = (kind >= 3) & (torch.arange(len(kind)) % 10 == 0)  # 4 %
    looks.colours[wet] = torch.tensor([0.04, 0.05, 0.05])
    rows[wet] = -rows[kind == 0].mean(0)
    gathered = gather_covers(rows, looks, 5)
    assert [(cover.name, cover.classes) for cover in gathered.covers] == [("open ground", 1), ("water", 1)]
    labels = classes_of(gathered.probe, rows)
    assert ((labels == 1) == wet).double().mean() > 0.99
    looks.colours[wet] = 0.0  # a frame that no file tells to be without data
    assert [cover.name for cover in gather_covers(rows, looks, 5).covers] == ["open ground"]


def test_a_black_frame_is_no_water_though_shade_at_its_rim_is_like_it():
    rows, looks, kind = ground(0.6)
    frame = kind == 5
    looks.colours[frame], looks.textures[frame] = 0.0, 0.0
    looks.colours[frame.nonzero()[::16]] = 0.1
    gathered = gather_covers(rows, looks, 5)
    assert [cover.name for cover in gathered.covers] == ["vegetation"]
    labels = classes_of(gathered.probe, rows)
    assert len(modes(labels, kind, range(6))) == 4


@pytest.mark.parametrize(
    ("colour", "texture", "around", "water"),
    [((91, 99, 92), 0.008, 0.012, True), ((76, 80, 70), 0.005, 0.006, True), ((91, 99, 92), 0.0115, 0.014, False),
     ((91, 99, 92), 0.008, 0.030, False), ((90, 90, 92), 0.008, 0.010, False), ((90, 92.5, 90), 0.008, 0.010, False),
     ((90, 94, 90), 0.008, 0.010, True), ((60, 95, 50), 0.008, 0.010, False),
     ((10, 11, 10), 0.005, 0.005, False), ((150, 162, 150), 0.008, 0.010, False)],
    ids=["pond", "river", "field", "shadow", "asphalt", "wet asphalt", "brown pond", "lawn", "deep sea", "roof"],
)  # fmt: skip
def test_murky_water_is_dull_green_and_without_any_texture(colour, texture, around, water):
    rough = Looks(torch.full((9, 3), 0.9), torch.full((9,), 0.1), torch.full((9,), 0.1))
    looks = Looks(*(torch.cat(parts) for parts in zip(
        (torch.tensor([colour]) / 255, torch.tensor([texture]), torch.tensor([around])),
        (rough.colours, rough.textures, rough.around), strict=True)))  # fmt: skip
    assert is_murky_water(looks).tolist() == [water] + [False] * 9
    blurred = Looks(looks.colours, looks.textures / 8, looks.around / 8)  # an image shown larger than it is
    assert not is_murky_water(blurred)[1:].any()
    assert not is_murky_water(Looks(looks.colours, torch.full((10,), 0.01), torch.full((10,), 0.01))).any()


def test_murky_water_is_a_class_of_its_own_however_like_a_field_its_features_are():
    rows, looks, kind = ground(0.75, texture=0.06)
    looks = with_shadows(looks)
    rows = F.normalize(rows, dim=1)
    wet = (kind == 0) & (torch.arange(len(kind)) % 4 == 0)  # 6 %
    looks.colours[wet] = torch.tensor([91, 99, 92]) / 255
    looks.textures[wet], looks.around[wet] = 0.008, 0.012
    apart = F.normalize(torch.randn(12, generator=torch.Generator().manual_seed(1)), dim=0)
    rows[wet] += 0.3 * apart
    gathered = gather_covers(rows, looks, 5)
    assert [(cover.name, cover.classes) for cover in gathered.covers] == [("vegetation", 1), ("water", 1)]
    labels = classes_of(gathered.probe, rows)
    assert ((labels == 1) == wet)[kind < 3].double().mean() > 0.98
    assert ((labels == 0) == (kind < 3) & ~wet).double().mean() > 0.97
    looks.around[wet] = 0.06
    assert [cover.name for cover in gather_covers(rows, looks, 5).covers] == ["vegetation"]


@pytest.mark.parametrize(("patches", "names"), [(50, ["vegetation", "water"]), (25, ["vegetation"])])
def test_a_twentieth_of_a_fair_share_of_murky_water_will_do(patches, names):
    rows, looks, _ = ground(0.75, texture=0.06)
    looks = with_shadows(looks)
    wet = torch.arange(patches)  # of 3,000, and a fair share are 600
    looks.colours[wet] = torch.tensor([91, 99, 92]) / 255
    looks.textures[wet], looks.around[wet] = 0.008, 0.012
    assert [cover.name for cover in gather_covers(rows, looks, 5).covers] == names


@pytest.mark.parametrize(("astray", "more"), [(19, 0), (20, 2), (45, 4), (200, 6)])
def test_what_water_takes_of_others_gets_centroids_of_its_own(astray, more):
    """Directions in a plane: water around 0 degrees, a field beside it that is vegetation, whose centroid is far."""
    parts = ((-3, 3, 40, WATER), (9, 16, astray, 0), (70, 80, 40, 0), (170, 190, 40, -1))
    degrees = torch.cat([torch.linspace(first, last, count) for first, last, count, _ in parts])
    kinds = torch.cat([torch.full((count,), kind) for _, _, count, kind in parts])
    found = torch.tensor([75.0, 0.0, 180.0])
    vectors = [torch.stack([angles.deg2rad().cos(), angles.deg2rad().sin()], 1) for angles in (degrees, found)]
    kind_of = torch.tensor([0, WATER, -1])
    centroids, numbers = covers_module._kept_from_water(vectors[0], kinds, vectors[1], torch.arange(3), kind_of, 0)
    assert numbers.tolist() == [0, 1, 2] + [0] * more
    right = kind_of[numbers[(vectors[0] @ centroids.T).argmax(1)]] == kinds
    assert right.all() if more else (~right).sum() == astray


@pytest.mark.parametrize(("covers", "name"), [(GREENS, "vegetation"), (SANDS, "open ground")])
def test_what_covers_much_is_one_class_and_everything_else_keeps_its_own(covers, name):
    rows, looks, kind = ground(0.75, covers=covers)
    gathered = gather_covers(rows, looks, 4)
    labels = classes_of(gathered.probe, rows)
    (cover,) = gathered.covers
    assert (cover.name, cover.classes) == (name, 1)
    assert cover.share == pytest.approx(0.75, abs=0.03)
    assert ((labels == 0) == (kind < 3)).double().mean() > 0.99
    for other in (3, 4, 5):
        own = torch.bincount(labels[kind == other], minlength=4)
        assert own.max() > 0.99 * own.sum()
    assert len(modes(labels, kind, (3, 4, 5))) == 3
    # Without that, k-means spends its classes on the cover.
    plain, _ = spherical_kmeans(rows, 4)
    assert len(modes((F.normalize(rows, dim=1) @ plain.T).argmax(1), kind, (0, 1, 2))) > 1


def test_two_covers_are_a_class_each():
    rows, looks, kind = ground(0.45, covers=GREENS, alike=ALIKE)
    sandy = kind >= 4
    looks.colours[sandy] = torch.tensor([0.8, 0.75, 0.7])
    gathered = gather_covers(rows, looks, 5)
    labels = classes_of(gathered.probe, rows)
    assert [(cover.name, cover.classes) for cover in gathered.covers] == [("vegetation", 1), ("open ground", 1)]
    assert ((labels == 0) == (kind < 3)).double().mean() > 0.99
    assert ((labels == 1) == sandy).double().mean() > 0.99
    assert gathered.probe.classes == 5


@pytest.mark.parametrize(
    ("covers", "share"), [(GREENS, 0.0), (GREENS, 0.06), (GREENS, 1.0), (SANDS, 0.2), (SANDS, 1.0)]
)
def test_where_a_cover_is_small_or_all_there_is_clusters_are_left_alone(covers, share):
    rows, looks, _ = ground(share, covers=covers)
    looks = with_shadows(looks)
    assert gather_covers(rows, looks, 6) is None
    assert share != 0.06 or gather_covers(rows, looks, 9) is not None  # half a fair share, of more classes


@pytest.mark.parametrize(
    ("covers", "texture"), [(((90, 90, 90), (60, 100, 98), (90, 80, 70)), 0.02), (SANDS, 0.2)], ids=["dark", "rough"]
)
def test_what_looks_like_no_cover_is_not_gathered_however_much_there_is(covers, texture):
    rows, looks, _ = ground(0.75, covers=covers, texture=texture)
    assert gather_covers(rows, looks, 4) is None


def test_bright_fields_roads_and_roofs_are_no_cover_together():
    rows, looks, _ = ground(0.6, covers=SANDS, alike=(0, 0))
    assert gather_covers(rows, looks, 5) is None
    rows, looks, _ = ground(0.6, covers=GREENS, alike=(0, 0))  # trees and meadows are vegetation, however different
    assert [cover.name for cover in gather_covers(rows, looks, 5).covers] == ["vegetation"]


def test_where_there_is_hardly_anything_else_a_cover_has_several_classes():
    rows, looks, kind = ground(0.97)
    gathered = gather_covers(rows, looks, 6)
    assert [cover.classes for cover in gathered.covers] == [4]  # the others: 8 * 0.03 * 6, rounded up
    assert len(gathered.probe.clusters) == 2 * 6 + 2  # two of each class there is, shared by the cover's; the others
    assert gathered.probe.classes == 6
    labels = classes_of(gathered.probe, rows)
    assert ((labels < 4) == (kind < 3)).double().mean() > 0.99
    assert len(modes(labels, kind, (0, 1, 2))) == 3


def test_the_larger_of_two_covers_has_what_the_rest_has_no_use_for():
    rows, looks, kind = ground(0.6, alike=ALIKE)
    sandy = (kind >= 3) & (torch.arange(len(kind)) % 30 != 0)  # 39 % of the ground, and 1 % of neither
    looks.colours[sandy] = torch.tensor([0.8, 0.75, 0.7])
    rows[(kind >= 3) & ~sandy] = -rows[kind == 0].mean(0)
    gathered = gather_covers(rows, looks, 5)
    assert [(cover.name, cover.classes) for cover in gathered.covers] == [("vegetation", 3), ("open ground", 1)]


def test_the_smallest_cover_leaves_a_class_to_the_rest():
    rows, looks, kind = ground(0.5, alike=ALIKE)
    looks.colours[kind == 4] = torch.tensor([0.8, 0.75, 0.7])
    looks.colours[kind == 5] = torch.tensor([0.04, 0.05, 0.05])
    rows[kind == 5] = -rows[kind == 5]  # unlike the sand
    every = [cover.name for cover in gather_covers(rows, looks, 12).covers]
    assert every == ["vegetation", "open ground", "water"]
    assert [cover.name for cover in gather_covers(rows, looks, 2).covers] == ["vegetation"]


def test_fine_clusterings_are_different_ones(monkeypatch):
    rows, looks, _ = ground(0.75)
    seeds = []

    def noting(rows, clusters, *, restarts=5, seed=0, **options):
        seeds.extend([seed] * (restarts == 1))
        return spherical_kmeans(rows, clusters, restarts=restarts, seed=seed, **options)

    monkeypatch.setattr(covers_module, "spherical_kmeans", noting)
    gather_covers(rows, looks, 4)
    gather_covers(rows, looks, 4, seed=1)
    assert len(set(seeds)) == len(seeds) == 10


def test_a_clustering_that_fails_is_outvoted(monkeypatch):
    """Of the fine ones, which are run once: two in which all the ground is alike."""
    rows, looks, kind = ground(0.75)
    fine = []

    def failing(rows, clusters, *, restarts=5, **options):
        if restarts == 1:
            fine.append(clusters)
            if len(fine) <= 2:
                return rows[:1].expand(clusters, -1), 0.0
        return spherical_kmeans(rows, clusters, restarts=restarts, **options)

    monkeypatch.setattr(covers_module, "spherical_kmeans", failing)
    gathered = gather_covers(rows, looks, 4)
    assert len(fine) == 5
    (cover,) = gathered.covers
    assert cover.share == pytest.approx(0.75, abs=0.03)
    assert ((classes_of(gathered.probe, rows) == 0) == (kind < 3)).double().mean() > 0.99


def test_of_extra_clusters_a_cover_has_its_share_and_a_third_at_most():
    for share, classes in ((0.6, 5), (0.2, 3)):
        rows, looks, _ = ground(share)
        gathered = gather_covers(rows, looks, 18, extra=12)
        assert [cover.classes for cover in gathered.covers] == [classes]
        assert gathered.probe.classes == 18
    rows, looks, _ = ground(0.2, covers=SANDS)  # more than 1.55 of 18 classes' share, less than of 6
    assert gather_covers(rows, looks, 18, extra=12) is None
    assert gather_covers(rows, looks, 18) is not None


def test_it_is_the_same_whenever_it_is_done():
    rows, looks, _ = ground(0.75)
    first, second = (gather_covers(rows, looks, 4, seed=3).probe.clusters for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, gather_covers(rows, looks, 4, seed=4).probe.clusters)


def test_few_patches_are_left_to_k_means():
    rows, looks, _ = ground(0.75, patches=60)
    assert gather_covers(rows, looks, 6) is None


def test_classes_are_called_what_they_are():
    classes = default_classes(4)
    gathered = GatheredCovers(None, (Cover("vegetation", 0.5, 2), Cover("open ground", 0.3)))
    named = gathered.name(classes)
    assert [entry.name for entry in named] == ["vegetation 1", "vegetation 2", "open ground", "class 3"]
    assert gathered.called_otherwise(["trees", "Vegetation 2", "roads", "water"]) == (
        "vegetation 1 is called 'trees', open ground is called 'roads'"
    )
    assert gathered.called_otherwise(["vegetation 1", "vegetation 2", "open ground", "roads"]) == ""
    assert [(entry.id, entry.colour) for entry in named] == [(entry.id, entry.colour) for entry in classes]
    first, second, third = gathered.colours
    assert first == second != third


@pytest.mark.parametrize(
    ("colours", "share", "expected"),
    [(((150, 60, 66), (170, 70, 80), (130, 60, 70)), 0.6, True), (((150, 60, 66),) * 3, 0.25, False),
     (((150, 90, 66), (190, 110, 70), (170, 90, 50)), 0.9, False), (GREENS, 0.6, False)],
    ids=["plants in infrared", "few of them", "red soil and tiles", "plants"],
)  # fmt: skip
def test_infrared_is_told_by_plants_that_are_red(colours, share, expected):
    _, looks, kind = ground(share, covers=colours)
    looks.colours[kind == 5] = torch.tensor([0.45, 0.43, 0.42])  # paths in place of blue roofs
    assert seem_infrared(looks) == expected


def test_nothing_seems_infrared_where_nothing_is_seen():
    assert not seem_infrared(Looks.of(torch.zeros(0, 5)))
    assert not seem_infrared(Looks.of(torch.zeros(9, 5)))
