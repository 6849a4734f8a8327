"""How training reads its images: orders, unreadable ones, augmentation."""

import logging

import pytest
import torch

from geohp.data.augment import KINDS, Augmentation
from geohp.errors import DataError
from geohp.features.filling import CacheOptions
from geohp.features.images import SkipUnreadable
from geohp.features.sampler import EpochOrder

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


def item(size=32):
    # Rows and columns in the colours, and in the mask.
    rows, cols = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return {"image": torch.stack([rows, cols, 0 * rows]).float() / size, "mask": rows * size + cols}


def test_geometry_moves_masks_with_images():
    augment = Augmentation(["flip", "turn"])
    seen = set()
    for index in range(60):
        changed = augment(item(), 0, index)
        rows, cols = (changed["image"][:2] * 32).round().long()
        assert torch.equal(changed["mask"], rows * 32 + cols)
        seen.add(tuple(changed["mask"][0, :2].tolist()))
    assert len(seen) == 8


def test_crops_enlarge_a_part():
    augment = Augmentation(["crop"])
    for index in range(30):
        changed = augment(item(), 0, index)
        assert changed["image"].shape == (3, 32, 32)
        assert changed["mask"].dtype == torch.int64
        rows = changed["image"][0] * 32
        assert 0.68 <= (rows.max() - rows.min()) / 31 <= 1
        # Both by the same place, to the pixel.
        assert (rows - changed["mask"] // 32).abs().max() <= 0.75


def test_augmentation_is_the_same_for_the_same_seed_epoch_and_image():
    augment = Augmentation(KINDS, seed=4)
    image = augment(item(), 2, 5)["image"]
    assert torch.equal(Augmentation(KINDS, seed=4)(item(), 2, 5)["image"], image)
    for other in (Augmentation(KINDS, seed=5)(item(), 2, 5), augment(item(), 3, 5), augment(item(), 2, 6)):
        assert not torch.equal(other["image"], image)
    assert image.min() >= 0
    assert image.max() <= 1
    unchanged = Augmentation([])(item(), 0, 0)
    assert all(torch.equal(unchanged[key], item()[key]) for key in ("image", "mask"))
    with pytest.raises(ValueError, match="no augmentation is called blur"):
        Augmentation(["blur"])


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
