"""Augmentation: masks move with images, and equal seeds give equal changes."""

import pytest
import torch

from geohp.data.augment import KINDS, Augmentation


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
