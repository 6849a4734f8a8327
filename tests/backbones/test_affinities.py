"""Affinities against a plain N x N computation, and against recorded numbers of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geohp.backbones.affinities import _affinities_of, neighbour_affinities, neighbour_indices

GOLDEN = Path(__file__).parents[1] / "golden"


def naive(logits: Tensor, height: int, width: int) -> Tensor:
    """HP's local hidden positives step by step on the whole N x N matrix, then the nine neighbours by coordinates."""
    bounds = torch.tensor([0.1, 0.9], dtype=logits.dtype)
    low, high = torch.quantile(logits, bounds, dim=-1, keepdim=True)
    weights = logits.clamp(low, high).softmax(-1) * 28
    weights = torch.where(weights < weights.mean(-1, keepdim=True), 0.0, weights)
    out = logits.new_zeros(len(logits), height * width, 9)
    for r in range(height):
        for c in range(width):
            for k in range(9):
                y, x = r + k // 3 - 1, c + k % 3 - 1
                if 0 <= y < height and 0 <= x < width:
                    out[:, r * width + c, k] = weights[:, r * width + c, y * width + x]
    return out


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 999), scale=st.sampled_from([0.01, 1, 30])
)
def test_equals_the_naive_computation(height, width, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, height * width, height * width, generator=generator, dtype=torch.float64) * scale
    before = logits.clone()
    found = neighbour_affinities(logits, (height, width))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, naive(logits, height, width), rtol=1e-10, atol=1e-12)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precisions_are_computed_in_float32(dtype):
    logits = torch.randn(1, 36, 36, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = neighbour_affinities(logits, (4, 9))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, naive(logits.float(), 4, 9), rtol=1e-4, atol=1e-5)


def test_equal_logits_are_all_kept():
    found = neighbour_affinities(torch.full((1, 25, 25), 0.3))
    _, inside = neighbour_indices(5, 5)
    torch.testing.assert_close(found[0], inside * (28 / 25))


def test_images_are_worked_on_in_turns(monkeypatch):
    logits = torch.randn(5, 36, 36)
    whole, at_once = neighbour_affinities(logits), []

    def watched(part: Tensor, neighbours: Tensor) -> Tensor:
        at_once.append(len(part))
        return _affinities_of(part, neighbours)

    monkeypatch.setattr("geohp.backbones.affinities._CHUNK", 2 * 36 * 36)
    monkeypatch.setattr("geohp.backbones.affinities._affinities_of", watched)
    assert torch.equal(neighbour_affinities(logits), whole)
    assert at_once == [2, 2, 1]


def test_batches_as_large_as_training_pass():
    # 64 images of 28 x 28 patches are beyond what torch.quantile takes; the rows are a broadcast of one image.
    logits = torch.randn(1, 784, 784).expand(30, -1, -1)
    found = neighbour_affinities(logits)
    assert found.shape == (30, 784, 9)
    assert torch.equal(found[0], found[-1])


def test_the_reference_mixes_the_same():
    golden = np.load(GOLDEN / "mix_one_image.npz")
    weights = neighbour_affinities(torch.from_numpy(golden["attn_logits"]))
    index, inside = neighbour_indices(14, 14)
    code = torch.from_numpy(golden["code"]).flatten(2)
    mixed = (code[:, :, index] * weights[:, None]).sum(-1) / inside.sum(-1)
    np.testing.assert_allclose(mixed.numpy(), golden["code_3x3"].reshape(mixed.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "grid", "message"),
    [((1, 6, 6), None, "no square grid"), ((1, 6, 6), (2, 2), "4 patches"), ((1, 6, 5), (2, 3), "must be")],
)
def test_shapes_that_do_not_fit(shape, grid, message):
    with pytest.raises(ValueError, match=message):
        neighbour_affinities(torch.zeros(shape), grid)
