"""Mask proposals: superpixels, segments of affinities, masks of the data; on the patch grid, kept with the features."""

import logging

import numpy as np
import pytest
import torch
from scipy import ndimage

from geohp.backbones.affinities import neighbour_indices
from geohp.backbones.base import PatchFeatures
from geohp.errors import DataError
from geohp.features import masks as masks_module
from geohp.features.filling import CacheOptions
from geohp.features.masks import MaskProposals, affinity_segments, on_patches, superpixels
from geohp.methods.maskcontrast.settings import MaskSettings


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_superpixels_follow_the_colours(bands):
    image = np.random.default_rng(0).normal(0.3, 0.01, (bands, 48, 64)).astype(np.float32)
    image[:, :, 27:] += 0.4
    labels = superpixels(image, 12, 10.0)
    assert labels.shape == (48, 64)
    assert labels.min() == 0
    assert 6 <= len(np.unique(labels)) <= 24
    # What is smoothed beforehand may cost a pixel or two.
    assert not set(labels[:, :25].flat) & set(labels[:, 29:].flat)


def test_a_patch_has_the_mask_of_most_of_its_pixels():
    pixels = np.full((4, 6), -1)
    pixels[:2, :2] = [[5, 5], [5, 3]]
    pixels[:2, 2:4] = [[-1, -1], [4, -1]]
    pixels[2:, 4:] = 9
    assert on_patches(pixels, (2, 3)).tolist() == [[5, -1, -1], [-1, -1, 9]]


def affinities_within(labels, across=0.0, seed=0):
    """Affinities that are strong within parts of a patch grid and weak across."""
    index, inside = (t.numpy() for t in neighbour_indices(*labels.shape))
    same = labels.ravel()[index] == labels.ravel()[:, None]
    noise = np.random.default_rng(seed).uniform(0.6, 1, same.shape)
    return np.where(same, noise, across * noise) * inside


def test_affinity_segments_are_the_parts_that_attend_to_each_other():
    labels = np.zeros((8, 11), int)
    labels[:, 6:] = 1
    labels[5:, 2:9] = 2
    segments = affinity_segments(affinities_within(labels, 0.1), labels.shape, 3)
    assert len({*zip(segments.ravel(), labels.ravel(), strict=True)}) == 3 == len(np.unique(segments))


@pytest.mark.parametrize("count", [2, 7, 20])
def test_affinity_segments_are_as_many_as_asked_for_and_connected(count):
    affinities = np.random.default_rng(1).uniform(0, 1, (144, 9))
    segments = affinity_segments(affinities, (12, 12), count)
    assert sorted(np.unique(segments)) == list(range(count))
    for number in range(count):
        assert ndimage.label(segments == number, np.ones((3, 3)))[1] == 1
    # Ward's factor keeps them of a size: no segment has nearly everything.
    assert np.bincount(segments.ravel()).max() < 144 * 3 / count


class Segmented:
    """Stands for a set of images with masks."""

    segmented = True


def test_kinds_fill_what_the_ones_before_leave_free():
    settings = MaskSettings(proposals=("data", "affinities"), segments=4)
    segments = torch.full((1, 32, 32), -1)
    segments[0, :16, :16] = 70000
    segments[0, :16, 16:] = 3
    affinities = torch.from_numpy(affinities_within(np.zeros((4, 4), int)))[None]
    patches = PatchFeatures(torch.zeros(1, 2, 4, 4), affinities)
    masks = MaskProposals(settings, Segmented())(torch.zeros(1, 3, 32, 32), patches, segments)[0]
    assert masks.dtype == torch.int16
    assert masks[:2, :2].unique().tolist() == [1]
    assert masks[:2, 2:].unique().tolist() == [0]
    assert set(masks[2:].unique().tolist()).isdisjoint({-1, 0, 1})
    only = MaskProposals(MaskSettings(proposals=("data",)), Segmented())
    assert only(torch.zeros(1, 3, 32, 32), patches, segments)[0][2:].unique().tolist() == [-1]


def test_sizes_and_compactness_are_those_of_the_settings(monkeypatch):
    asked = []
    monkeypatch.setattr(masks_module, "superpixels", lambda image, *rest: asked.append(rest) or np.zeros((8, 8), int))
    patches = PatchFeatures(torch.zeros(1, 2, 4, 4), torch.from_numpy(affinities_within(np.zeros((4, 4), int)))[None])
    image = torch.zeros(1, 3, 8, 8)
    proposals(Segmented(), segments=3, compactness=2.5)(image, patches)
    assert asked == [(3, 2.5)]
    masks = proposals(Segmented(), segments=3, proposals=("affinities",))(image, patches)
    assert masks.unique().tolist() == [0, 1, 2]


def test_masks_that_images_lack_or_that_have_no_use(squares, caplog):
    with pytest.raises(DataError, match=r"data\.mask_polygons"):
        MaskProposals(MaskSettings(proposals=("superpixels", "data")), squares(3))
    with caplog.at_level(logging.WARNING):
        MaskProposals(MaskSettings(), Segmented())
    assert "method.masks.proposals" in caplog.text


def proposals(images, **settings):
    return MaskProposals(MaskSettings(**{"segments": 5, **settings}), images)


@pytest.mark.parametrize("kind", ["superpixels", "affinities"])
def test_kept_masks_are_those_computed_anew(make_source, squares, tmp_path, kind):
    images = squares(9, side=64)
    further = proposals(images, proposals=(kind,))
    anew, kept = (make_source(images, proposals=further) for _ in range(2))
    with_images = make_source(images, proposals=further, keep_images=True)
    options = CacheOptions("disk", 0, tmp_path, "float32")
    assert kept.cache(options)
    assert with_images.cache(options)
    for batches in zip(anew.batches(), kept.batches(), with_images.batches(), strict=True):
        masks = [
            source.masks(batch, source.patches(batch))
            for source, batch in zip((anew, kept, with_images), batches, strict=True)
        ]
        assert masks[0].shape == (4, 4, 4)
        assert masks[0].max() > 0
        assert torch.equal(masks[0], masks[1])
        assert torch.equal(masks[0], masks[2])


def test_other_masks_are_kept_elsewhere(make_source, squares, tmp_path):
    images = squares(4, side=64)
    options = CacheOptions("disk", 0, tmp_path, "float32")
    for further in (None, proposals(images), proposals(images, segments=6), proposals(images, compactness=1.0)):
        assert make_source(images, proposals=further).cache(options)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 4
    assert make_source(images, proposals=proposals(images)).cache(options)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 4
