"""Augmentation: masks move with images, and equal seeds give equal changes."""

import pytest
import torch
from torchvision import transforms

from geohp.data.augment import KINDS, Augmentation, photometric

# As HP's code has it.
PUBLISHED = transforms.Compose(
    [
        transforms.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
        transforms.RandomGrayscale(0.2),
        transforms.RandomApply([transforms.GaussianBlur((5, 5))]),
    ]
)


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


@pytest.mark.parametrize("bands", [1, 3])
def test_the_view_is_the_published_one(bands):
    images = torch.rand(2, bands, 9, 12, generator=torch.Generator().manual_seed(1))
    for seed in range(40):
        view = photometric(images, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            published = torch.stack([PUBLISHED(image) for image in images])
        torch.testing.assert_close(view, published, rtol=0, atol=5e-6)


def test_a_view_of_other_bands_is_like_that_of_one():
    band = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(1))
    for seed in range(20):
        views = [
            photometric(image, torch.Generator().manual_seed(seed)) for image in (band, band.expand(-1, 4, -1, -1))
        ]
        torch.testing.assert_close(views[1], views[0].expand(-1, 4, -1, -1))


def test_a_view_of_other_bands_changes_what_tells_them_apart():
    # Even bands far from 0 and 1: brightness, contrast and saturation each scale how far they are apart.
    levels = torch.tensor([0.45, 0.47, 0.5, 0.51, 0.54])
    images = levels[None, :, None, None].expand(1, -1, 6, 6)
    spread, greys = levels.diff(), 0
    for seed in range(200):
        view = photometric(images, torch.Generator().manual_seed(seed))[0]
        generator = torch.Generator().manual_seed(seed)
        torch.randperm(4, generator=generator)
        factors = 0.7 + 0.6 * torch.rand(3, generator=generator)
        differences = view.mean((1, 2)).diff()
        if differences.abs().max() < 1e-6:
            greys += 1
        else:
            torch.testing.assert_close(differences, spread * factors.prod(), rtol=1e-3, atol=1e-6)
    assert 20 <= greys <= 60
