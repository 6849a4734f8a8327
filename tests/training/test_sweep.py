"""Choosing the number of classes: the criteria on known cases, the rule on data of known classes, its outputs."""

import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from geohp.backbones.base import PatchFeatures
from geohp.config.experiment import ClassesConfig
from geohp.config.loading import parse_config
from geohp.data.base import ImageSet
from geohp.errors import ConfigError, DataError
from geohp.methods.factory import create_method
from geohp.methods.hp.settings import HPSettings
from geohp.methods.kmeans.clustering import refit_probe, spherical_kmeans
from geohp.methods.kmeans.settings import KMeansSettings
from geohp.training import sweep as sweep_module
from geohp.training.halves import ImagePatches, rows_of_images
from geohp.training.run import _with_sweep
from geohp.training.sweep import (
    adjusted_rand,
    found_again,
    recommend,
    sweep_classes,
    sweep_method,
    with_count,
)
from geohp.training.sweep_request import count_is_given, parse_sweep
from geohp.training.sweep_result import Candidate, SweepResult


def maps_of(classes, images=24, side=4, noise=0.6, channels=16, seed=0):
    """Maps (images, channels, side, side) of patches around so many directions, each image with a mixture of its own
    and a shift that its patches share."""
    g = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(classes, channels, generator=g), dim=1)
    mixture = torch.rand(images, classes, generator=g) + 0.05
    members = torch.multinomial(mixture, side * side, replacement=True, generator=g)
    rows = centres[members] + noise * torch.randn(images, side * side, channels, generator=g) / channels**0.5
    rows += 0.2 * noise * torch.randn(images, 1, channels, generator=g) / channels**0.5
    return rows.transpose(1, 2).reshape(images, channels, side, side)


def sampler(maps, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def sample(count):
        yield from torch.split(maps[torch.randperm(len(maps), generator=generator)[:count]], 5)

    return sample


def swept(maps, counts, rows=16_000, seed=0, **options):
    patches = rows_of_images([maps], len(maps), rows, torch.Generator().manual_seed(seed))
    return sweep_classes(patches, counts, **{"repetitions": 5, "seed": seed, **options})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("classes=3..6", (3, 4, 5, 6)),
        ("classes=4..16..4", (4, 8, 12, 16)),
        ("classes=8,3,5", (3, 5, 8)),
        (" classes = 2 , 4..5 ", (2, 4, 5)),
        ("3..4", (3, 4)),
        ("classes.count=7", (7,)),
    ],
)
def test_what_can_be_asked_for(text, wanted):
    assert parse_sweep(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs=3..5", "only the number of classes can be swept"),
        ("classes=", "'' is no number and no range; write it as classes=3..12"),
        ("classes=3-12", "'3-12' is no number"),
        ("classes=9..3", "'9..3' holds no number"),
        ("classes=3..9..0", "'3..9..0' holds no number"),
        ("classes=1..4", "1 classes; there can be 2 to 254"),
        ("classes=3,300", "300 classes; there can be 2 to 254"),
    ],
)
def test_mistakes_are_told(text, said):
    with pytest.raises(ConfigError, match="sweep=") as caught:
        parse_sweep(text)
    assert said in str(caught.value)


def test_a_number_that_was_told_stays():
    config = parse_config({"data": {"images": ["a.tif"]}, "classes": {"count": 3, "extra_clusters": 2}})
    assert not count_is_given(config.classes, ["train.epochs=3"])
    assert count_is_given(config.classes, ["train.epochs=3", "classes.count = 4"])
    assert count_is_given(config.classes.model_copy(update={"names": ["a", "b", "c"]}))
    assert count_is_given(config.classes.model_copy(update={"colours": ["#111111"] * 3}))
    assert _with_sweep(config, "3..5", []).classes.choose
    assert not _with_sweep(config, "3..5", ["classes.count=4"]).classes.choose
    found = with_count(config, 7).classes
    assert (found.count, found.clusters) == (7, 7)


def test_adjusted_rand_is_that_of_others():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
        b = np.where(rng.random(200) < rng.random(), a, b)
        table = np.histogram2d(a, b, bins=(5, 5))[0].astype(np.int64)
        assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    assert adjusted_rand(np.diag([5, 3, 0])) == 1
    assert adjusted_rand(np.array([[9, 0], [0, 0]])) == 1


def test_found_again_counts_classes_that_keep_their_patches():
    assert found_again(np.diag([5, 3, 2])[[2, 0, 1]]) == 3
    assert found_again(np.array([[60, 40], [0, 0]])) == 1  # a Jaccard overlap of exactly 0.6
    assert found_again(np.array([[59, 41], [0, 0]])) == 0
    assert found_again(np.array([[50, 0, 0], [0, 20, 20], [0, 20, 20]])) == 1
    assert found_again(np.zeros((3, 3), dtype=np.int64)) == 0


@pytest.mark.parametrize("classes", [3, 6])
def test_clear_classes_are_counted(classes):
    found = swept(maps_of(classes, seed=classes), range(2, classes + 3))
    assert found.recommended == classes
    at_truth = found.candidates[classes - 2]
    assert at_truth.stability > 0.95
    assert at_truth.found_again > classes - 0.5
    assert at_truth.silhouette == max(each.silhouette for each in found.candidates)
    cosines = [each.cosine for each in found.candidates]
    assert cosines == sorted(cosines)


def test_noise_has_no_classes():
    noise = torch.randn(24, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    found = swept(noise, (4, 6, 8))
    assert max(each.stability for each in found.candidates) < 0.3
    assert max(each.found_again for each in found.candidates) < 1
    assert any("no clear classes" in sentence for sentence in found.advice())


def test_images_of_one_kind_each_fool_a_split_of_patches_but_not_of_images():
    """Patches of an image share what is its own; across images there is nothing to find again."""
    g = torch.Generator().manual_seed(0)
    own = torch.randn(24, 16, 1, 1, generator=g)
    maps = own + 0.1 * torch.randn(24, 16, 6, 6, generator=g)
    (found,) = swept(maps, [6]).candidates
    rows = F.normalize(maps.permute(0, 2, 3, 1).reshape(-1, 16), dim=1)
    halves = torch.randperm(len(rows), generator=g).chunk(2)
    labels = [(rows @ spherical_kmeans(rows[half], 6, seed=1)[0].T).argmax(1) for half in halves]
    of_patches = adjusted_rand_score(*(label.numpy() for label in labels))
    assert found.stability < of_patches - 0.2


def test_equal_seeds_give_equal_results():
    maps = maps_of(4, noise=1.5)
    assert swept(maps, [3, 5]) == swept(maps, [5, 3, 5])
    assert swept(maps, [3, 5]) != swept(maps, [3, 5], seed=1)
    # A number is judged alike whatever others are swept.
    assert swept(maps, [3, 5]).candidates[1] == swept(maps, [4, 5]).candidates[1]


def test_what_a_sweep_needs():
    maps = maps_of(3)
    with pytest.raises(DataError, match="at least 5, not 4"):
        swept(maps[:4], [3])
    with pytest.raises(DataError, match="40 classes cannot be told apart in 16 patches"):
        swept(maps[:5], [3, 40])
    assert swept(maps[:5], [3]).images == 5


def test_the_sample_is_bounded_and_drawn_evenly():
    told = []
    found = swept(
        maps_of(3), [2, 3], rows=96, progress=lambda stage, done, total, detail="": told.append((done, total))
    )
    assert (found.patches, found.images, found.repetitions) == (96, 24, 5)
    assert told == [(done, 12) for done in range(1, 13)]


def candidate(classes, again, deviation=0.0):
    return Candidate(classes, 0.9, 0.1, again, deviation, 0.5, 0.8, 0.1)


def test_the_smallest_number_that_does_as_well_is_recommended():
    assert recommend([candidate(2, 2), candidate(5, 4.9, 0.3), candidate(9, 5.0, 0.4)], 10) == 5
    assert recommend([candidate(2, 2), candidate(5, 4.8, 0.3), candidate(9, 5.0, 0.4)], 10) == 9
    assert recommend([candidate(3, 3), candidate(5, 3), candidate(9, 2)], 10) == 3
    # Less than half of nine: nothing to build on, unless there is nothing else.
    assert recommend([candidate(3, 2.8), candidate(9, 4.4)], 10) == 3
    assert recommend([candidate(8, 2.8), candidate(9, 4.4)], 10) == 9


def test_what_it_leaves_behind(tmp_path):
    sweep = SweepResult((candidate(3, 3), candidate(4, 3.8, 0.4), candidate(5, 3.1, 1)), 4, 1000, 20, 10)
    table, picture = sweep.write(tmp_path)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["classes"] for row in rows] == ["3", "4", "5"]
    assert [row["recommended"] for row in rows] == ["0", "1", "0"]
    assert float(rows[1]["found_again"]) == 3.8
    with Image.open(picture) as image:
        assert image.size == (1100, 704)
    report = sweep.report(80)
    assert "> 4" in report
    assert "4 classes are recommended: 3.8 of them are found again" in report
    assert all(len(line) <= 80 for line in report.splitlines())
    at_the_end = SweepResult(sweep.candidates, 5, 1000, 20, 10)
    assert "sweep further" in at_the_end.report()


class Ground(ImageSet):
    """Code maps and, of the same patches, colours (images, 3, side, side), as a sampler gives them."""

    channels, labelled, batch_size = 3, False, 5

    def __init__(self, maps, colours=None):
        self.maps, self.colours, self.images = maps, colours, self

    def __len__(self):
        return len(self.maps)

    def __getitem__(self, index):
        return {"image": self.colours[index].repeat_interleave(4, 1).repeat_interleave(4, 2)}

    def name(self, index):
        return str(index)

    def patches(self, batch):
        return PatchFeatures(self.maps[batch["index"]])

    def sample(self, count):
        return sampler(self.maps)(count)


def test_what_is_swept_is_what_the_map_will_be():
    """Three quarters of the ground are of four greens, which the map shows as one class."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.where(torch.rand(30, 6, 6, generator=generator) < 0.75, 0, 4)
    kinds += torch.randint(4, kinds.shape, generator=generator) % torch.where(kinds == 0, 4, 2)
    directions = F.normalize(torch.randn(6, 16, generator=generator), dim=1)
    colours = torch.tensor([*[(70, 90, 50)] * 4, (110, 110, 112), (150, 60, 50)]) / 255
    maps = (directions[kinds] + 0.05 * torch.randn(*kinds.shape, 16, generator=generator)).permute(0, 3, 1, 2)
    ground = Ground(maps, colours[kinds].permute(0, 3, 1, 2))
    method = create_method(KMeansSettings(), 16, 3)
    numbers = [2, 3, 4, 5, 6, 7]
    assert sweep_method(method, ground, ClassesConfig(sweep=numbers)).recommended == 6
    gathered = sweep_method(method, ground, ClassesConfig(sweep=numbers, split_covers=False))
    assert gathered.recommended == 3
    assert gathered.candidates[1].stability > 0.99
    assert (gathered.images, gathered.patches) == (30, 30 * 36)


def test_shares_are_of_all_patches_and_deviations_those_of_a_sample(monkeypatch):
    directions = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    maps = directions[torch.tensor([0] * 4 + [1] * 12)].T.reshape(1, 16, 4, 4).repeat(24, 1, 1, 1)
    counts = iter([1, 2])
    monkeypatch.setattr(sweep_module, "found_again", lambda table: next(counts))
    (found,) = swept(maps + 0.01 * maps_of(2), [2], repetitions=2).candidates
    assert found.smallest == 0.25
    assert (found.found_again, found.found_again_deviation) == (1.5, pytest.approx(0.5**0.5))


def test_all_draws_of_a_sweep_are_of_its_seed(monkeypatch):
    asked, fits, cluster = [], [], ImagePatches.cluster
    draw, sweep = sweep_module.draw_patches, sweep_module.sweep_classes

    def spied(self, *rest, seed, **options):
        fits.append(seed)
        return cluster(self, *rest, seed=seed, **options)

    monkeypatch.setattr(ImagePatches, "cluster", spied)
    monkeypatch.setattr(sweep_module, "draw_patches", lambda *a, **k: asked.append(a[4]) or draw(*a, **k))
    monkeypatch.setattr(sweep_module, "sweep_classes", lambda *a, **k: asked.append(k["seed"]) or sweep(*a, **k))
    ground = Ground(maps_of(4, images=12))
    sweep_method(create_method(KMeansSettings(), 16, 3), ground, ClassesConfig(sweep=[2]), seed=7)
    assert asked == [7, 7]
    assert sorted(fits) == sorted([7, *range(7, 27)])  # of all patches, and of two halves ten times


def test_a_sweep_without_looks_goes_by_codes_and_says_nothing_of_the_map_s_colours(monkeypatch, caplog):
    def fail(*_):
        raise DataError("no image can be read any more", "give others")

    monkeypatch.setattr("geohp.training.looks.read_spread", fail)
    ground, method = Ground(maps_of(4, images=12)), create_method(KMeansSettings(), 16, 3)
    found = sweep_method(method, ground, ClassesConfig(sweep=[2, 3, 4], split_covers=False))
    assert found.patches == sweep_method(method, ground, ClassesConfig(sweep=[2, 3, 4])).patches
    (said,) = [message for message in caplog.messages if "no image can be read any more" in message]
    assert said.startswith("patches are taken without their looks")


@pytest.mark.parametrize("name", ["hp", "kmeans"])
def test_one_training_serves_all_numbers(name):
    maps = maps_of(4, images=12)
    settings = HPSettings(code_channels=8, pool_size=12) if name == "hp" else KMeansSettings(samples=500)
    method = create_method(settings, 16, 3)
    sample = sampler(maps)
    method.prepare(sample)
    method.eval()
    before = {key: value.clone() for key, value in method.head.state_dict().items()}
    found = sweep_method(method, Ground(maps), ClassesConfig(sweep=[2, 3, 4, 5]))
    assert [each.classes for each in found.candidates] == [2, 3, 4, 5]
    assert len(method.probe.clusters) == 3
    refit_probe(method, sample, 7)
    assert method.probe.clusters.shape == (7, 8 if name == "hp" else 16)
    torch.testing.assert_close(method.probe.clusters.norm(dim=1), torch.ones(7))
    assert all(torch.equal(value, before[key]) for key, value in method.head.state_dict().items())
    probe = method.probe
    refit_probe(method, sample)
    assert method.probe is probe
    with pytest.raises(ValueError, match="500 clusters"):
        refit_probe(method, sample, 500)
