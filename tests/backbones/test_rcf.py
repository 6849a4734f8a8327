"""Random convolutional features against torchgeo's, their determinism, and what a fit leaves behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geohp.backbones.affinities import cosine_affinities, neighbour_indices
from geohp.backbones.factory import create_backbone
from geohp.backbones.rcf import even_out, rectified_responses, whiten
from geohp.backbones.weights import fingerprint
from geohp.errors import ConfigError, DataError, ModelError

SMALL = {"filters": 8, "kernel": 3, "patch_size": 4, "channels": None}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(**options):
    backbone = create_backbone("rcf", **{**SMALL, **options})
    backbone.fit([noise(2, backbone.in_channels, 32, 40, seed=seed) for seed in range(3)])
    return backbone


def test_averages_over_the_image_equal_torchgeo():
    from torchgeo import models

    reference = models.RCF(in_channels=4, features=32, kernel_size=5, bias=-0.7, seed=1)
    images = noise(2, 4, 40, 30)
    found = rectified_responses(images, reference.weights, reference.biases).mean((2, 3))
    torch.testing.assert_close(found, reference(images).clone(), rtol=1e-5, atol=1e-6)


def test_responses_are_those_of_plain_sums():
    images, filters, biases = noise(1, 2, 5, 4), noise(3, 2, 2, 2, seed=1), noise(3, seed=2)
    found = rectified_responses(images, filters, biases)
    assert found.shape == (1, 6, 4, 3)
    for k in range(3):
        for r in range(4):
            for c in range(3):
                response = (images[0, :, r : r + 2, c : c + 2] * filters[k]).sum() + biases[k]
                torch.testing.assert_close(found[0, k, r, c], response.clamp_min(0), rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(found[0, 3 + k, r, c], (-response).clamp_min(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("kernel", [3, 4])
def test_features_are_standardised_roots_of_average_responses(bands, kernel):
    backbone = fitted(in_channels=bands, kernel=kernel, bias=-0.2)
    images = noise(2, bands, 12, 20, seed=9)
    padded = F.pad(images, ((kernel - 1) // 2, kernel // 2) * 2, mode="replicate")
    dense = rectified_responses(padded, backbone.filters, backbone.biases)
    fine = dense.unflatten(2, (3, 4)).unflatten(4, (5, 4)).mean((3, 5))
    coarse = torch.empty_like(fine)
    for r in range(3):
        for c in range(5):
            coarse[:, :, r, c] = fine[:, :, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].mean((2, 3))
    expected = torch.cat([fine, coarse], 1).sqrt()
    expected = (expected - backbone.center[:, None, None]) / backbone.deviation[:, None, None]
    found = backbone(images)
    assert found.features.shape == (2, backbone.channels, 3, 5) == (2, 32, 3, 5)
    torch.testing.assert_close(found.features, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [3, 4])
def test_strips_do_not_show(kernel, monkeypatch):
    backbone, images = fitted(kernel=kernel), noise(2, 3, 36, 20, seed=4)
    whole = backbone(images).features
    for responses in (1, 8 * 25 * 8, 8 * 25 * 20):  # strips of one, two and five rows of patches; the last is shorter
        monkeypatch.setattr("geohp.backbones.rcf._CPU_RESPONSES", responses)
        torch.testing.assert_close(backbone(images).features, whole, rtol=1e-4, atol=1e-4)


def test_features_are_standardised_over_what_they_were_fitted_to():
    images = noise(3, 3, 32, 32)
    for channels in (None, 12):
        backbone = create_backbone("rcf", **{**SMALL, "channels": channels})
        backbone.fit([images])
        rows = backbone(images).features.transpose(0, 1).flatten(1)
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), rtol=0, atol=1e-3)
        torch.testing.assert_close(rows.std(1), torch.ones(len(rows)), rtol=0, atol=0.02)


def test_all_components_keep_all_angles():
    whole, projected = fitted(), fitted(channels=1000)
    assert projected.channels == whole.channels
    images = noise(1, 3, 32, 32, seed=5)
    cosines = []
    for backbone in (whole, projected):
        rows = F.normalize(backbone(images).features.flatten(2)[0].T, dim=1)
        cosines.append(rows @ rows.T)
    torch.testing.assert_close(cosines[0], cosines[1], rtol=0, atol=1e-3)


def test_same_seed_same_features():
    assert fingerprint(fitted()) == fingerprint(fitted())
    assert not torch.equal(fitted(seed=1).filters, fitted().filters)
    images = noise(3, 3, 8, 12)
    backbone = fitted(channels=12)
    together = backbone(images).features
    apart = torch.cat([backbone(image[None]).features for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [None, 6])
def test_state_restores_a_fresh_instance(channels):
    backbone = fitted(channels=channels, scales=(1, 3, 5))
    fresh = create_backbone("rcf", weights="random", **backbone.options())
    assert fresh.needs_fit
    assert fresh.options() == backbone.options()
    with pytest.raises(ModelError, match="rcf has not been fitted"):
        fresh(noise(1, 3, 8, 8))
    fresh.load_state_dict(backbone.state_dict())
    assert not fresh.needs_fit
    images = noise(1, 3, 8, 8, seed=3)
    assert torch.equal(fresh(images).features, backbone(images).features)
    assert fingerprint(fresh) == fingerprint(backbone)


def test_constant_pieces_are_neither_filters_nor_counted():
    images = noise(1, 3, 32, 32)
    bordered = torch.cat([torch.full((1, 3, 32, 64), -2.0), images, torch.full((1, 3, 32, 32), -2.0)], -1)
    backbone = create_backbone("rcf", **{**SMALL, "scales": (1,)})
    backbone.fit([bordered])
    features = backbone(bordered).features
    inner = features[..., 16:24].transpose(0, 1).flatten(1)
    torch.testing.assert_close(inner.mean(1), torch.zeros(len(inner)), rtol=0, atol=1e-3)
    assert bool((backbone.filters.flatten(1).norm(dim=1) > 0.99).all())


def test_imagery_that_cannot_be_fitted():
    with pytest.raises(DataError, match="no imagery"):
        create_backbone("rcf").fit([])
    with pytest.raises(DataError, match="constant"):
        create_backbone("rcf").fit([torch.zeros(2, 3, 32, 32)])


def test_fitting_holds_a_bounded_even_sample(monkeypatch):
    monkeypatch.setattr("geohp.backbones.rcf._SAMPLE_VALUES", 4 * 3 * 16 * 16)
    kept: list[torch.Tensor] = []
    backbone = create_backbone("rcf", **SMALL)
    monkeypatch.setattr(backbone, "_measure", kept.extend)
    counts = torch.zeros(12)
    for seed in range(40):
        backbone.seed = seed
        kept.clear()
        # Every image carries its number in its first pixel.
        batches = (noise(3, 3, 16, 16).index_fill_(3, torch.tensor(0), 100.0 + first) for first in range(0, 12, 3))
        backbone.fit(batches)
        assert len(kept) == 4
        for image in kept:
            counts[int(image[0, 0, 0]) - 100] += 1
    quarters = counts[::3]  # 160 images were kept, 40 of each batch by chance
    assert bool(((quarters > 18) & (quarters < 66)).all())


def test_filters_are_unit_length_and_less_correlated_than_the_pieces():
    smooth = F.avg_pool2d(noise(300, 3, 9, 9), 5, 1)
    filters = whiten(smooth)
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(300))

    def condition(rows: torch.Tensor) -> float:
        values = torch.linalg.svdvals(rows - rows.mean(0))
        return float(values[0] / values[-1])

    assert condition(filters.flatten(1)) < 0.5 * condition(smooth.flatten(1))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=20))
@example([0.0, 6.322724049861336e-217])
@example([5e-324, 0.0])
def test_rotation_evens_out_variances(variances):
    values = torch.tensor(variances, dtype=torch.float64)
    rotation = even_out(values)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(len(values), dtype=torch.float64))
    spread = (rotation.T @ torch.diag(values) @ rotation).diagonal()
    torch.testing.assert_close(spread, values.mean().expand_as(spread), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 99))
def test_affinities_are_a_weighted_average_of_neighbours(height, width, seed):
    features = noise(2, 3, height, width, seed=seed)
    found = cosine_affinities(features)
    index, inside = neighbour_indices(height, width)
    unit = F.normalize(features.flatten(2), dim=1)
    cosines = (unit[..., None] * unit[:, :, index]).sum(1)
    count = inside.sum(-1)
    torch.testing.assert_close(found.sum(-1), count.float().expand(2, -1))
    assert bool((found[:, ~inside] == 0).all())
    assert bool((found[..., 4:5] >= found - 1e-6).all())
    kept = (found > 0) & inside
    # Among the kept, the weights' ratio is that of the softmax.
    ratio = torch.exp((cosines - cosines[..., 4:5]) / 0.2) * found[..., 4:5]
    torch.testing.assert_close(found[kept], ratio[kept], rtol=1e-3, atol=1e-5)
    softmax = (cosines / 0.2).masked_fill(~inside, -torch.inf).softmax(-1)
    clear = (softmax * count[:, None] - 1).abs() > 1e-4
    expected = softmax >= 1 / count[:, None]
    assert torch.equal((kept & clear & inside), (expected & clear & inside))


def test_affinities_only_where_asked_for():
    backbone = fitted()
    assert backbone(noise(1, 3, 8, 8), affinities=False).affinities is None
    assert backbone(noise(1, 3, 8, 12)).affinities.shape == (1, 6, 9)


def test_images_and_options_that_do_not_fit():
    backbone = fitted()
    with pytest.raises(ValueError, match="multiples of its patch size 4 px, not 8 x 10 px"):
        backbone(noise(1, 3, 8, 10))
    with pytest.raises(ValueError, match="3 bands, not 1"):
        backbone(noise(1, 1, 8, 8))
    for options in ({"scales": (2,)}, {"scales": ()}, {"filters": 0}, {"channels": 0}):
        with pytest.raises(ConfigError):
            create_backbone("rcf", **options)


def test_one_fit_separates_what_looks_different():
    # Left half smooth and dark, right half rough: the first tells them apart along any usable feature.
    images = noise(2, 3, 64, 64) * 0.02
    images[..., 32:] += noise(2, 3, 64, 32, seed=2)
    backbone = create_backbone("rcf", filters=16, kernel=3, channels=8)
    backbone.fit([images])
    rows = F.normalize(backbone(images).features, dim=1)
    left, right = rows[..., :3].transpose(0, 1).flatten(1), rows[..., 5:].transpose(0, 1).flatten(1)
    assert float((left.T @ left).mean()) > 0.5
    assert float((left.T @ right).mean()) < 0
