"""How training reads its images: orders, samples, unreadable ones."""

import logging

import pytest
import torch

from geohp.data.augment import Augmentation
from geohp.errors import DataError
from geohp.features.epochs import EpochOrder
from geohp.features.filling import CacheOptions, FeatureJob
from geohp.features.images import SkipUnreadable
from geohp.features.store import FeatureLayout
from geohp.progress import no_progress

pytestmark = pytest.mark.usefixtures("one_thread")


def test_orders_depend_on_seed_and_epoch_alone():
    order = EpochOrder(50, seed=1)
    first, second = list(order), list(order)
    assert sorted(first) == list(range(50)) == sorted(place - 50 for place in second)
    assert first != [place - 50 for place in second]
    again = EpochOrder(50, seed=1)
    again.set_epoch(1)
    assert list(again) == second
    assert list(EpochOrder(50, seed=2)) != first
    shares = [list(EpochOrder(50, 1, rank, 3)) for rank in range(3)]
    assert [len(share) for share in shares] == [16, 16, 16]
    assert len(set().union(*shares)) == 48


def test_reading_processes_change_nothing(squares, make_source):
    images = squares()
    alone, helped = make_source(images), make_source(images, workers=2)
    for _ in range(2):
        for batch, other in zip(alone.batches(), helped.batches(), strict=True):
            assert torch.equal(batch["image"], other["image"])
            assert torch.equal(batch["mask"], other["mask"])
    for _ in range(2):
        maps, others = (next(iter(source.sample(9))) for source in (alone, helped))
        assert torch.equal(maps, others)


def test_what_a_backbone_measures_is_the_same_for_every_seed(squares, make_source):
    images = squares()
    one, other = (list(make_source(images, seed=seed).normalised(4, shuffled=False)) for seed in (1, 2))
    assert sum(map(len, one)) in (3, 4)
    assert torch.equal(torch.cat(one), torch.cat(other))
    one, other = (list(make_source(images, seed=seed).normalised(4)) for seed in (1, 2))
    assert not torch.equal(torch.cat(one), torch.cat(other))


def test_samples_go_on_where_they_were(squares, make_source):
    source = make_source(squares())
    list(source.sample(5))
    state = source.state()
    following = [next(source.sample(4)) for _ in range(2)]
    other = make_source(squares())
    other.restore(state)
    assert all(torch.equal(next(other.sample(4)), maps) for maps in following)
    assert not torch.equal(*following)


@pytest.mark.parametrize("mode", ["off", "memory", "disk"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_few_unreadable_images_are_passed_over_and_named(squares, make_source, tmp_path, caplog, mode, workers):
    broken = {3, 4, 199}
    for _ in range(2):
        caplog.clear()
        source = make_source(squares(320, side=16, broken=broken), workers=workers)
        source.cache(CacheOptions(mode, 1 << 30, tmp_path))
        seen = 0
        for batch in source.batches():
            seen += len(source.patches(batch).features)
            assert torch.isfinite(source.patches(batch).features).all()
        assert set(source.images.unreadable) == broken
        assert len(source) == (320 if mode == "off" else 317)
        assert seen == len(source) // 4 * 4
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert [sum(f"square {number}:" in text for text in warned) for number in broken] == [1, 1, 1]


@pytest.mark.parametrize("mode", ["off", "memory", "disk"])
def test_more_than_one_in_a_hundred_stop_it(squares, make_source, tmp_path, mode):
    source = make_source(squares(200, side=16, broken={1, 60, 130}))

    def epoch():
        source.cache(CacheOptions(mode, 1 << 30, tmp_path))
        for batch in source.batches():
            source.patches(batch)

    with pytest.raises(DataError, match=r"3 of 200 images cannot be read, more than 1%: square"):
        epoch()


def test_a_set_that_tolerates_is_still_that_set(squares):
    images = squares(200, broken={7})
    tolerant = SkipUnreadable(images)
    assert tolerant.identity() == images.identity()
    assert tolerant.side == 32
    assert torch.equal(tolerant[7]["image"], images[8]["image"])
    with pytest.raises(IndexError):
        tolerant[200]


@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_images_are_other_ones_every_epoch(squares, make_source, workers, caplog):
    augmentation = Augmentation(["flip", "colour"], seed=3)
    images = squares()
    source = make_source(images, workers=workers, augmentation=augmentation)
    caplog.set_level(logging.INFO, "geohp")
    assert not source.cache(CacheOptions("memory", 1 << 30))
    assert "anew every epoch" in caplog.messages[0]
    loader = source.batches()
    for epoch in range(2):
        for batch in loader:
            for number, index in enumerate(batch["index"].tolist()):
                expected = augmentation(images[index], epoch, index)
                assert torch.equal(batch["image"][number], expected["image"])
                assert torch.equal(batch["mask"][number], expected["mask"])
    assert next(source.sample(3)).shape == (3, 192, 2, 2)


def test_features_go_straight_to_the_device_that_keeps_them():
    """Shapes of a device that is none: what is computed there is put together there."""
    rows = {"features": torch.ones(2, 3), "readable": torch.ones(2, dtype=torch.uint8)}
    layout = FeatureLayout.of(rows)
    job = FeatureJob(4, 2, layout, torch.device("meta"), dict, float, lambda batches: (rows for _ in batches))
    (chunk,) = job.chunks([range(4)], no_progress, "meta")
    assert {(name, part.device.type, len(part)) for name, part in chunk.items()} == {
        ("features", "meta", 4),
        ("readable", "meta", 4),
    }
    (chunk,) = job.chunks([range(4)], no_progress)
    assert chunk["features"].sum() == 12
