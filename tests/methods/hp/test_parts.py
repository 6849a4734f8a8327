"""Head, average, mixing and pools against the reference's numbers."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.backbones.affinities import neighbour_affinities
from geohp.methods.hp.head import EMAHead, SegmentationHead
from geohp.methods.hp.mixing import mix_neighbours
from geohp.methods.hp.positives import ReferencePool, draw_patches, pick_patches

GOLDEN = Path(__file__).parents[2] / "golden"

REFERENCE_NAMES = {
    "linear.weight": "1.0.weight",
    "linear.bias": "1.0.bias",
    "nonlinear.0.weight": "2.0.weight",
    "nonlinear.0.bias": "2.0.bias",
    "nonlinear.2.weight": "2.2.weight",
    "nonlinear.2.bias": "2.2.bias",
}


def arrays(path):
    with np.load(path) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


class RecordedDropout(torch.nn.Module):
    """Replays recorded channel factors, one use after the other."""

    def __init__(self, factors):
        super().__init__()
        self.factors = list(factors)

    def forward(self, values):
        return values * self.factors.pop(0)[:, :, None, None]


def branches(state, prefix, model):
    return {ours: state[f"{prefix}{model}{theirs}"] for ours, theirs in REFERENCE_NAMES.items()}


@pytest.mark.parametrize("which", ["mix_sz14_nodrop", "mix_sz14_dropout"])
def test_head_mixing_and_average_are_the_references(shared, which):
    """One whole forward: codes, averaged codes, locally mixed codes, and the average after its update."""
    path = shared / "golden" / f"{which}.npz"
    if not path.exists():
        pytest.skip("the reference's mixing numbers are not present")
    state = arrays(path)
    head = SegmentationHead(384, 20).double().eval()
    head.load_state_dict(branches(state, "before.", "cluster"))
    average = EMAHead(head, 0.99)
    average.head.load_state_dict(branches(state, "before.", "ema_model"))
    # Recorded order of use: head linear, average linear, head nonlinear, average nonlinear.
    drops = [state[f"dropmask_{i}"] for i in range(4)]
    head.drop, average.head.drop = RecordedDropout(drops[0::2]), RecordedDropout(drops[1::2])
    features = state["feat"][:, 1:].double().transpose(1, 2).reshape(3, 384, 14, 14)
    codes, averaged = head(features), average(features)
    mixed = mix_neighbours(codes, neighbour_affinities(state["attn_logits_headmean"][:, 1:, 1:], (14, 14)))
    late = [state.get(f"dropmask_{i}", torch.ones(())) for i in (4, 5, 6)]
    factors = [part[:, :, None, None] if part.ndim else part for part in late]
    for got, factor, key in (
        (features, factors[0], "image_feat"),
        (averaged, factors[1], "code_ema"),
        (mixed, factors[2], "code_3x3"),
        (codes, torch.ones(()), "code"),
    ):
        assert (got * factor - state[key]).norm() <= 1e-6 * state[key].norm(), key
    average.update(head)
    for name, wanted in branches(state, "after.", "ema_model").items():
        torch.testing.assert_close(average.head.state_dict()[name], wanted, rtol=0, atol=1e-15)
    loss = (state["probe_code"] * codes).sum() + (state["probe_c33"] * mixed * factors[2]).sum()
    loss.backward()
    for name, wanted in branches(state, "grad.", "cluster").items():
        got = dict(head.named_parameters())[name].grad
        assert (got - wanted).norm() <= 1e-6 * wanted.norm()


def test_mixing_by_attention_is_the_references():
    """From attention logits to mixed codes, on one image of those above."""
    recorded = arrays(GOLDEN / "mix_one_image.npz")
    affinities = neighbour_affinities(recorded["attn_logits"], (14, 14))
    got, wanted = mix_neighbours(recorded["code"], affinities), recorded["code_3x3"]
    assert (got - wanted).norm() <= 1e-6 * wanted.norm()
    assert (got - recorded["code"]).norm() > 0.1 * wanted.norm()


def test_average_follows_the_references_trajectory():
    recorded = arrays(GOLDEN / "ema_traj.npz")
    head = SegmentationHead(384, 6)
    head.nonlinear[2].weight.data = recorded["start"].clone()
    average = EMAHead(head, 0.9)
    for step, wanted in enumerate(recorded["traj"]):
        # The reference's head was drawn by name at every step.
        rng = np.random.default_rng(zlib.crc32(f"t{step}.2.weight".encode()))
        online = 0.3 * rng.standard_normal(tuple(wanted.shape))
        head.nonlinear[2].weight.data = torch.from_numpy(online.astype(np.float32))
        average.update(head)
        got = average.head.nonlinear[2].weight
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7, msg=lambda m, step=step: f"step {step}: {m}")
    assert not any(p.requires_grad for p in average.parameters())


def test_average_starts_equal_and_keeps_device_and_dtype():
    head = SegmentationHead(8, 4).double().eval()
    average = EMAHead(head, 0.5).eval()
    features = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(average(features), head(features))
    assert not average(features).requires_grad


def test_average_drops_channels_in_training_as_its_head_does():
    average = EMAHead(SegmentationHead(64, 4, dropout=0.5), 0.9)
    dropped = []
    average.head.drop.register_forward_hook(lambda _, __, out: dropped.append(float((out == 0).float().mean())))
    average.train()(torch.ones(2, 64, 3, 3))
    assert all(0.3 < share < 0.7 for share in dropped)
    average.eval()(torch.ones(2, 64, 3, 3))
    assert [share > 0 for share in dropped] == [True, True, False, False]


def test_head_drops_whole_channels_anew_for_each_branch():
    head = SegmentationHead(64, 4, dropout=0.5).train()
    seen = []
    head.drop.register_forward_hook(lambda _, __, out: seen.append(out))
    head(torch.ones(2, 64, 3, 3))
    assert len(seen) == 2
    assert not torch.equal(seen[0], seen[1])
    assert all(((m == 0).flatten(2).all(2) | (m != 0).flatten(2).all(2)).all() for m in seen)
    head.eval()
    torch.testing.assert_close(head(torch.ones(2, 64, 3, 3)), head(torch.ones(2, 64, 3, 3)))


def test_pool_holds_the_references_rows():
    recorded = arrays(GOLDEN / "pool.npz")
    images = recorded["idx"].shape[1] // 2
    for maps, wanted, half in (("feats", "pool_ag", slice(0, images)), ("s_pr", "pool_sp", slice(images, None))):
        pool = ReferencePool(len(recorded[wanted]), recorded[wanted].shape[1])
        chosen = recorded["idx"][:, half]
        pool.put(torch.cat([pick_patches(m, i) for m, i in zip(recorded[maps], chosen, strict=False)]))
        torch.testing.assert_close(pool.rows, recorded[wanted], rtol=1e-6, atol=1e-7)


def test_pool_takes_unit_rows_and_leaves_the_rest_zero():
    rows = torch.arange(1.0, 7.0)[:, None] * F.one_hot(torch.arange(6) % 3, 4)
    pool = ReferencePool(9, 4)
    pool.put(rows)
    torch.testing.assert_close(pool.rows[:6], F.one_hot(torch.arange(6) % 3, 4).float())
    assert (pool.rows[6:] == 0).all()
    small = ReferencePool(3, 4)
    small.put(rows)
    assert torch.equal(small.rows, pool.rows[:3])
    again = ReferencePool(9, 4)
    again.load_state_dict(pool.state_dict())
    assert torch.equal(again.rows, pool.rows)


def test_a_patch_of_each_map_is_drawn_and_every_patch_is_sometimes():
    generator = torch.Generator().manual_seed(0)
    maps = torch.arange(3 * 2 * 2 * 3.0).view(3, 2, 2, 3)
    draws = torch.stack([draw_patches(maps, generator) for _ in range(200)])
    flat = maps.flatten(2)
    for image in range(3):
        places = [int((row == flat[image].T).all(1).nonzero()) for row in draws[:, image]]
        shares = np.bincount(places, minlength=6) / len(places)
        assert shares.min() > 0.08
        assert shares.max() < 0.27
    assert not torch.equal(draws[:, 0] - flat[0, :, :1].T, draws[:, 1] - flat[1, :, :1].T)  # each its own


@given(h=st.integers(1, 6), w=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_mixing_is_the_sum_over_neighbours(h, w, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(2, 3, h, w, generator=generator, dtype=torch.float64)
    affinities = torch.rand(2, h * w, 9, generator=generator, dtype=torch.float64)
    wanted = torch.zeros_like(codes)
    for row in range(h):
        for col in range(w):
            inside = [
                (k, row + k // 3 - 1, col + k % 3 - 1)
                for k in range(9)
                if 0 <= row + k // 3 - 1 < h and 0 <= col + k % 3 - 1 < w
            ]
            for k, r, c in inside:
                wanted[:, :, row, col] += affinities[:, row * w + col, k, None] * codes[:, :, r, c] / len(inside)
    torch.testing.assert_close(mix_neighbours(codes, affinities), wanted)


def test_mixing_lets_gradients_into_codes_only_and_refuses_another_grid():
    codes = torch.randn(1, 2, 3, 4, requires_grad=True)
    affinities = torch.rand(1, 12, 9, requires_grad=True)
    mix_neighbours(codes, affinities).sum().backward()
    assert codes.grad is not None
    assert affinities.grad is None
    with pytest.raises(ValueError, match="do not belong"):
        mix_neighbours(codes, torch.rand(1, 11, 9))
