"""The streamed loss against the reference's numbers, and against the formula written down densely."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from geohp.methods.hp import streaming
from geohp.methods.hp.loss import contrastive_loss, view_loss
from geohp.methods.hp.positives import PositivePairs

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(p.stem for p in GOLDEN.glob("supcon_[0-9]*.npz"))


def dense_loss(
    z,
    z_mix,
    f,
    s,
    pool_ag,
    pool_sp,
    *,
    images,
    temperature,
    task_specific_weight,
    keep,
    reweight=True,
    symmetric=True,
):
    """The published formula as it stands, n x n matrices and automatic differentiation and all."""
    n = len(z)
    off = ~torch.eye(n, dtype=torch.bool)

    def positives(rows, pool):
        bound = (rows @ pool.T).amax(1)
        similarity = rows @ rows.T
        found = similarity > bound[:, None]
        return (found | found.T if symmetric else found) & off

    views = [z] if z_mix is None else [z, z_mix]
    agnostic = positives(f, pool_ag)
    weights = agnostic.to(z.dtype) + task_specific_weight * positives(s, pool_sp).to(z.dtype)
    denominator = (agnostic | keep.repeat(images, 1)) & off
    total = 0.0
    for view in views:
        logits = view @ view.T / temperature
        logp = logits - logits.masked_fill(~denominator, -torch.inf).logsumexp(1, keepdim=True)
        for image in torch.arange(n).view(images, -1):
            kept = image[agnostic[image].any(1)]
            if not len(kept):
                continue
            mass = weights[kept].sum(1)
            emphasis = mass / mass.mean() if reweight else torch.ones_like(mass)
            inner = (weights[kept] * torch.where(weights[kept] > 0, logp[kept], 0)).sum(1) / mass
            total = total - temperature / 0.07 * (emphasis * inner).mean() / (len(views) * images)
    return total


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def settings_of(name):
    """Read off the name: supcon_NNN_sS_vV_rwR_lLAMBDA_rhoRHO_tauTAU."""
    parts = name.split("_")
    return {
        "side": parts[2][1:],
        "reweight": parts[4] == "rw1",
        "task_specific_weight": float(parts[5][1:]),
        "temperature": float(parts[7][3:]),
    }


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_the_references(name):
    case = settings_of(name)
    inputs, wanted = golden(f"supcon_inputs_s{case['side']}"), golden(name)
    keep = np.unpackbits(wanted["keep_mask"].numpy(), axis=1)[:, : wanted["keep_mask_shape"][1]]
    assert keep.shape == tuple(wanted["keep_mask_shape"])
    z, z_mix = inputs["z"].requires_grad_(), inputs["z_mix"].requires_grad_()
    images = len(z) // int(case["side"]) ** 2
    value = contrastive_loss(
        z,
        z_mix,
        inputs["f"],
        inputs["s_pr"],
        inputs["pool_ag"],
        inputs["pool_sp"],
        images=images,
        temperature=case["temperature"],
        task_specific_weight=case["task_specific_weight"],
        keep=torch.from_numpy(keep).bool(),
        reweight=case["reweight"],
    )
    value.backward()
    torch.testing.assert_close(value.detach(), wanted["loss"], rtol=1e-9, atol=0)
    for got, key in ((z.grad, "grad_z"), (z_mix.grad, "grad_z_mix")):
        if not torch.isfinite(wanted[key]).all():
            continue  # the reference's own gradients at rho = 0; see the guarded ones
        assert (got - wanted[key]).norm() <= 1e-9 * wanted[key].norm()


def test_the_cases_cover_what_they_should():
    assert len(CASES) >= 10
    found = [settings_of(name) for name in CASES]
    assert {c["reweight"] for c in found} == {True, False}
    assert {0.0, 1.0} < {c["task_specific_weight"] for c in found}
    assert len({c["temperature"] for c in found}) >= 2


GUARDED = sorted({key.rpartition(".")[0] for key in np.load(GOLDEN / "supcon_rho0_guarded.npz").files})


@pytest.mark.parametrize("name", GUARDED)
def test_without_kept_negatives_gradients_are_the_guarded_ones(name):
    """rho = 0 leaves rows without a denominator: the reference gives NaN, guarded it gives 0 for them."""
    case, wanted = settings_of(name), golden("supcon_rho0_guarded")
    inputs = golden(f"supcon_inputs_s{case['side']}")
    z, z_mix = inputs["z"].requires_grad_(), inputs["z_mix"].requires_grad_()
    value = contrastive_loss(
        z,
        z_mix,
        inputs["f"],
        inputs["s_pr"],
        inputs["pool_ag"],
        inputs["pool_sp"],
        images=len(z) // int(case["side"]) ** 2,
        temperature=case["temperature"],
        task_specific_weight=case["task_specific_weight"],
        keep=0.0,
        reweight=case["reweight"],
    )
    for got, key in zip(torch.autograd.grad(value, (z, z_mix)), ("grad_z", "grad_z_mix"), strict=True):
        expected = wanted[f"{name}.{key}"]
        assert (got - expected).norm() <= 1e-9 * expected.norm()
    assert len(GUARDED) == 3


def problem(seed, images, patches, width, spread, pool, dtype):
    """Random rows, and pools that leave some pairs of them positive, or none, or (all zero) those of any similarity."""
    generator = torch.Generator().manual_seed(seed)

    def rows(count, channels):
        return F.normalize(torch.randn(count, channels, generator=generator, dtype=torch.float64), dim=1).to(dtype)

    n = images * patches
    z, z_mix, f, s = rows(n, width), rows(n, width), rows(n, 5), rows(n, 4)
    pools = {
        "some positive": (rows(pool, 5), rows(pool, 4)),
        "none positive": (f.clone(), rows(pool, 4)),
        "half positive": (torch.zeros(pool, 5, dtype=dtype), torch.zeros(pool, 4, dtype=dtype)),
    }[spread]
    return z, z_mix, f, s, *pools


@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 4),
    patches=st.integers(1, 12),
    width=st.integers(2, 9),
    pool=st.integers(1, 6),
    rate=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.1, 0.4, 1.0]),
    reweight=st.booleans(),
    symmetric=st.booleans(),
    local=st.booleans(),
    block=st.sampled_from([1, 3, 7, 512]),
    spread=st.sampled_from(["some positive", "none positive", "half positive"]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
@settings(deadline=None, max_examples=150)
def test_any_problem_in_any_blocks_is_the_dense_formula(
    seed, images, patches, width, pool, rate, weight, temperature, reweight, symmetric, local, block, spread, dtype
):
    z, z_mix, *rest = problem(seed, images, patches, width, spread, pool, dtype)
    # Pairs at the very edge are positives or not as rounding wills; in the pool of the rows themselves, all are.
    if dtype == torch.float32 or not symmetric:
        enough = 1e-5 if dtype == torch.float32 else 1e-12
        assume(all(margin(*pair, symmetric) > enough for pair in (rest[::2], rest[1::2])))
    exact = 1e-9 if dtype == torch.float64 else 1e-4
    keep = torch.rand(patches, images * patches, generator=torch.Generator().manual_seed(seed)) < rate
    options = {
        "images": images,
        "temperature": temperature,
        "task_specific_weight": weight,
        "reweight": reweight,
        "symmetric": symmetric,
        "keep": keep,
    }
    views = [z, z_mix] if local else [z]
    inputs, doubles = ([view.to(d).requires_grad_() for view in views] for d in (dtype, torch.float64))
    absent = [] if local else [None]
    with blocks_of(block):
        value = contrastive_loss(*inputs, *absent, *rest, **options)
    gradients = torch.autograd.grad(value, inputs)
    assert value.dtype == dtype
    expected = dense_loss(*doubles, *absent, *(part.double() for part in rest), **options)
    if not isinstance(expected, torch.Tensor):  # no anchor anywhere
        assert value == 0
        assert all((g == 0).all() for g in gradients)
        return
    assert abs(value.double() - expected) <= exact * max(1, abs(expected))
    # Task-specific positives outside the denominator still pull, in both.
    for got, want in zip(gradients, torch.autograd.grad(expected, doubles), strict=True):
        assert (got - want).norm() <= exact * max(1, want.norm())


@contextmanager
def blocks_of(size):
    before, streaming._BLOCK_CPU = streaming._BLOCK_CPU, size
    try:
        yield
    finally:
        streaming._BLOCK_CPU = before


def margin(rows, pool, symmetric):
    """How far the cosine of any pair is from deciding the other way."""
    rows, pool = rows.double(), pool.double()
    bound = (rows @ pool.T).amax(1)
    bounds = torch.minimum(bound[:, None], bound) if symmetric else bound[:, None]
    return (rows @ rows.T - bounds).abs().fill_diagonal_(torch.inf).min()


@given(
    seed=st.integers(0, 10_000),
    pairs=st.integers(1, 3),
    patches=st.integers(1, 8),
    width=st.integers(2, 7),
    rate=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.1, 0.4]),
    local=st.booleans(),
    block=st.sampled_from([1, 3, 7, 512]),
)
@settings(deadline=None, max_examples=80)
def test_views_of_a_patch_against_all_others_are_the_dense_formula(
    seed, pairs, patches, width, rate, temperature, local, block
):
    """Naive contrast: cross-entropy of finding oneself in the other view."""
    generator = torch.Generator().manual_seed(seed)
    n = 2 * pairs * patches
    views = [F.normalize(torch.randn(n, width, generator=generator, dtype=torch.float64), dim=1) for _ in range(2)]
    views = [view.requires_grad_() for view in views[: 1 + local]]
    keep = torch.rand(patches, n, generator=generator) < rate
    with blocks_of(block):
        value = view_loss(*views, *([] if local else [None]), images=2 * pairs, temperature=temperature, keep=keep)
    other = torch.arange(n).roll(n // 2)
    there = keep.repeat(2 * pairs, 1)
    there[torch.arange(n), other] = True
    there.fill_diagonal_(False)
    expected = sum(
        F.cross_entropy((view @ view.T / temperature).masked_fill(~there, -torch.inf), other) for view in views
    )
    expected = expected * temperature / 0.07 / len(views)
    assert abs(value - expected) <= 1e-9 * max(1, abs(expected))
    for got, want in zip(torch.autograd.grad(value, views), torch.autograd.grad(expected, views), strict=True):
        assert (got - want).norm() <= 1e-9 * max(1, want.norm())


def test_positives_that_are_not_symmetric_are_what_the_anchor_finds_alone():
    """Of three rows at growing distances, the first one's bound lets in the second, whose own keeps it out."""
    angles = torch.tensor([0.0, 0.3, 1.5, -1.0, 0.5], dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    rows, pool = circle[:3], circle[3:]
    first, everything = slice(0, 1), slice(0, 3)
    block = PositivePairs(rows, pool, remember=False, symmetric=False).block(everything, everything)
    assert block.of_rows.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert torch.equal(block.of_cols, block.of_rows.T)
    assert not block.symmetric
    both = PositivePairs(rows, pool, remember=False).block(everything, everything)
    assert both.symmetric
    assert both.of_rows.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    corner = PositivePairs(rows, pool, remember=False, symmetric=False).block(first, slice(1, 3))
    assert corner.of_rows.tolist() == [[1, 0]]
    assert corner.of_cols.tolist() == [[0, 0]]


@pytest.mark.parametrize("spread", ["some positive", "half positive"])
@pytest.mark.parametrize("remember", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_are_the_same_when_asked_again_and_memory_is_linear(spread, remember, symmetric):
    _, _, rows, _, pool, _ = problem(1, 3, 20, 2, spread, 9, torch.float64)
    pairs = PositivePairs(rows, pool, remember=remember, symmetric=symmetric)
    similar, bound = rows @ rows.T, (rows @ pool.T).amax(1)
    wanted = similar > bound[:, None]
    wanted = (wanted | wanted.T if symmetric else wanted).fill_diagonal_(False)
    parts = [slice(0, 25), slice(25, 50), slice(50, 60)]
    for _ in range(2):
        for i, first in enumerate(parts):
            for second in parts[i:]:
                block = pairs.block(first, second)
                assert torch.equal(block.of_rows.bool(), wanted[first, second])
                assert torch.equal(block.of_cols.bool(), wanted[second, first].T)
                block.of_rows.fill_(7)  # what is handed out may be overwritten
                block.of_cols.fill_(7)
    held = sum(len(found) for block in pairs._positions.values() for found in block)
    assert wanted.sum() > 0
    assert (held > 0) == remember
    assert held <= rows.numel() // 2 < wanted.sum() or spread == "some positive"


@pytest.mark.parametrize(("rate", "symmetric"), [(1.0, True), (0.4, True), (0.4, False)])
def test_gradcheck(rate, symmetric):
    z, z_mix, *rest = problem(1, 2, 6, 3, "some positive", 2, torch.float64)
    keep = torch.rand(6, 12, generator=torch.Generator().manual_seed(0)) < rate
    options = {"images": 2, "temperature": 0.5, "task_specific_weight": 0.4, "keep": keep, "symmetric": symmetric}
    assert torch.autograd.gradcheck(
        lambda a, b: contrastive_loss(a, b, *rest, **options), (z.requires_grad_(), z_mix.requires_grad_())
    )
    # Second derivatives are not there, rather than wrong.
    first = torch.autograd.grad(contrastive_loss(z, z_mix, *rest, **options) ** 2, z, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-3), (torch.float16, 5e-4)])
def test_low_precision_inputs_are_summed_in_float32(dtype, tolerance):
    exact = problem(5, 3, 100, 16, "some positive", 4, torch.float64)
    low = [part.to(dtype) for part in exact]
    options = {"images": 3, "temperature": 0.4, "task_specific_weight": 0.5, "keep": 1.0}
    gradients = []
    # Positives must be the same in both, or it is not precision that is compared.
    shown = [part.double() for part in low]
    for rows in (low, shown):
        z, z_mix = rows[0].requires_grad_(), rows[1].requires_grad_()
        value = contrastive_loss(z, z_mix, *rows[2:], **options)
        value.backward()
        gradients.append(z.grad)
    assert value.dtype == torch.float64
    assert gradients[0].dtype == dtype
    error = (gradients[0].double() - gradients[1]).norm() / gradients[1].norm()
    assert error < tolerance


@pytest.mark.parametrize("spread", ["some positive", "half positive"])
@pytest.mark.parametrize("keep", [1.0, 0.1])
def test_nothing_quadratic_is_held(spread, keep):
    """Neither forward nor backward makes a tensor larger than the inputs or a block."""

    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for part in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(part, torch.Tensor):
                    self.most = max(self.most, part.numel())
            return out

    rows = problem(2, 80, 40, 16, spread, 32, torch.float32)
    n = len(rows[0])
    with Largest() as seen:
        value = contrastive_loss(
            rows[0].requires_grad_(),
            rows[1].requires_grad_(),
            *rows[2:],
            images=80,
            temperature=0.4,
            task_specific_weight=0.5,
            keep=keep,
        )
        value.backward()
    assert n == 3200
    assert seen.most <= max(streaming._BLOCK_CPU**2, n * 40)
    assert seen.most < n * n / 10


def test_without_gradients_wanted_none_are_computed(monkeypatch):
    rows = problem(3, 2, 9, 4, "some positive", 3, torch.float64)
    options = {"images": 2, "temperature": 0.4, "task_specific_weight": 0.5, "keep": 1.0}
    z, z_mix = (view.clone().requires_grad_() for view in rows[:2])
    both = torch.autograd.grad(contrastive_loss(z, z_mix, *rows[2:], **options), (z, z_mix))
    for wanted, inputs in ((z, (z, rows[1])), (z_mix, (rows[0], z_mix))):
        alone = torch.autograd.grad(contrastive_loss(*inputs, *rows[2:], **options), wanted)[0]
        assert torch.equal(alone, both[wanted is z_mix])
    monkeypatch.setattr(streaming, "gradients", lambda *_: pytest.fail("computed gradients"))
    plain = contrastive_loss(*rows, **options)
    assert not plain.requires_grad
    with torch.no_grad():
        assert contrastive_loss(z, z_mix, *rows[2:], **options) == plain


def test_autocasting_changes_nothing():
    rows = problem(6, 3, 60, 16, "some positive", 4, torch.float32)
    options = {"images": 3, "temperature": 0.4, "task_specific_weight": 0.5, "keep": 1.0}
    plain = contrastive_loss(rows[0].requires_grad_(), *rows[1:], **options)
    wanted = torch.autograd.grad(plain, rows[0])[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = contrastive_loss(*rows, **options)
    assert cast == plain
    assert torch.equal(torch.autograd.grad(cast, rows[0])[0], wanted)


def test_a_rate_is_drawn_once_and_follows_the_seed():
    rows = problem(4, 3, 50, 6, "some positive", 3, torch.float64)
    options = {"images": 3, "temperature": 0.4, "task_specific_weight": 0.0}
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(float(contrastive_loss(*rows, keep=0.3, **options)))
    assert values[0] == values[1] != values[2]
    full = float(contrastive_loss(*rows, keep=1.0, **options))
    assert full == float(contrastive_loss(*rows, keep=torch.ones(50, 150, dtype=torch.bool), **options))


@pytest.mark.parametrize("keep", [-0.1, 1.5, torch.ones(3, 3, dtype=torch.bool)])
def test_what_does_not_fit_together_is_refused(keep):
    rows = problem(4, 2, 5, 6, "some positive", 3, torch.float64)
    with pytest.raises(ValueError, match="keep"):
        contrastive_loss(*rows, images=2, temperature=0.4, task_specific_weight=0.0, keep=keep)
    with pytest.raises(ValueError, match="whole number"):
        contrastive_loss(*rows, images=3, temperature=0.4, task_specific_weight=0.0, keep=1.0)
    with pytest.raises(ValueError, match="temperature"):
        contrastive_loss(*rows, images=2, temperature=0.01, task_specific_weight=0.0, keep=1.0)
    with pytest.raises(ValueError, match="differ in rows"):
        contrastive_loss(rows[0][:6], *rows[1:], images=2, temperature=0.4, task_specific_weight=0.0, keep=1.0)
    with pytest.raises(ValueError, match="differ in rows"):
        contrastive_loss(*rows[:3], rows[3][:6], *rows[4:], images=2, temperature=0.4, task_specific_weight=0, keep=1.0)
    with pytest.raises(ValueError, match="two views"):
        view_loss(rows[0][:5], None, images=1, temperature=0.4, keep=1.0)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("symmetric", [True, False])
def test_how_many_positives_were_found_is_told_whatever_their_weight(weight, symmetric):
    generator = torch.Generator().manual_seed(3)
    z, features, codes, pool, specific = (
        F.normalize(torch.randn(n, 8, generator=generator, dtype=torch.float64), dim=1) for n in (24, 24, 24, 30, 6)
    )
    heard = []
    contrastive_loss(
        z, None, features, codes, pool, specific, images=3, temperature=0.4, task_specific_weight=weight, keep=1.0,
        symmetric=symmetric, on_positives=heard.append,
    )  # fmt: skip

    def positives(rows, references):
        mine = rows @ rows.T > (rows @ references.T).amax(1, keepdim=True)
        return (mine | mine.T if symmetric else mine) & ~torch.eye(24, dtype=torch.bool)

    agnostic, searched = positives(features, pool), positives(codes, specific)
    anchors = agnostic.any(1)
    assert 0 < anchors.sum() < 24
    (found,) = heard
    assert float(found.anchors) == pytest.approx(float(anchors.double().mean()))
    assert float(found.agnostic) == pytest.approx(float(agnostic[anchors].sum(1).double().mean()))
    if weight:
        assert float(found.specific) == pytest.approx(float(searched[anchors].sum(1).double().mean()))
    else:
        assert found.specific is None
