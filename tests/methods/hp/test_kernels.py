"""The Triton kernels without a GPU: interpreted against the plain passes, and compiled for the cards they are for."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from geohp.methods.hp import fused, products, streaming
from geohp.methods.hp.loss import contrastive_loss
from geohp.methods.hp.positives import PositivePairs, ViewPairs

ROOT = Path(__file__).parents[3]
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 120: 99 * 1024}
"""Bytes a thread block may take, by compute capability: A100, H100 and H200, RTX of the Blackwell generation."""


def test_interpreted_they_give_what_the_plain_passes_give():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("interpreted_kernels.py"))],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "60 problems" in done.stdout


@pytest.mark.parametrize(
    ("capability", "keep", "symmetric", "stored"),
    [
        (90, False, True, True),
        pytest.param(90, False, True, False, marks=[pytest.mark.slow]),
        pytest.param(80, True, True, True, marks=[pytest.mark.slow, pytest.mark.cheap]),
        pytest.param(120, True, False, True, marks=[pytest.mark.slow, pytest.mark.cheap]),
    ],
)
def test_they_compile_and_fit(capability, keep, symmetric, stored):
    pytest.importorskip("triton")
    from benchmarks.gpu.kernel_report import Variant, compile_kernel
    from geohp.methods.hp.kernels import OTHERS, TUNING

    tuning = TUNING if capability == 90 else OTHERS
    for kernel in ("sums_kernel", "weights_kernel"):
        made = compile_kernel(Variant(kernel, stored, keep, symmetric), tuning, capability)
        assert made.shared_bytes <= SHARED_MEMORY[capability]
        if capability == 90:
            # Products by warp groups, from shared memory, and next to nothing spilled.
            assert made.tensor_products > 0
            assert made.old_products == 0
            assert made.stack_bytes <= (64 if stored or kernel == "sums_kernel" else 384)


def halves(*shape, dtype=torch.bfloat16):
    return F.normalize(torch.randn(*shape), dim=-1).to(dtype)


def a_problem(features, codes):
    pairs = [PositivePairs(rows, rows[:2], remember=False) for rows in (features, codes)]
    for found, rows in zip(pairs, (features, codes), strict=True):
        found.rows = rows  # as on a GPU, where halves stay halves
    return streaming.Problem(*pairs, 8, 2, 0.5, 0.5, None, True)


def test_they_are_chosen_for_half_precision_on_a_recent_gpu_only(monkeypatch):
    monkeypatch.setattr(fused, "_checked", lambda device, symmetric: "kernels")
    monkeypatch.setattr(torch.version, "hip", None)
    capability = [(9, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability[0])

    def on_gpu(rows):
        return SimpleNamespace(dtype=rows.dtype, shape=rows.shape, device=torch.device("cuda:0"))

    good = halves(8, 32)

    def chosen(*views, features=good, codes=good):
        return fused.fused([on_gpu(view) for view in views], a_problem(features, codes))

    assert chosen(good, good) == "kernels"
    assert chosen(good.half(), good) is None
    assert chosen(good.float(), good.float()) is None
    assert chosen(halves(8, 24), halves(8, 24)) is None
    assert chosen(good, good, features=halves(8, 40)) is None
    assert chosen(good, good, codes=halves(8, 32, dtype=torch.float32)) is None
    views = SimpleNamespace(agnostic=ViewPairs(good), specific=None)
    assert fused.fused([on_gpu(good)], views) is None
    capability[0] = (7, 5)
    assert chosen(good, good) is None
    assert fused.fused([good, good], a_problem(good, good)) is None  # on a CPU


def test_a_card_they_fail_on_gets_the_plain_passes_and_a_warning(monkeypatch, caplog):
    device = torch.device("cpu")
    for outcome, told in ((lambda *_, **__: 0.5, "off by 0.5"), (lambda *_, **__: 1 / 0, "division by zero")):
        fused._checked.cache_clear()
        monkeypatch.setattr(fused, "largest_error", outcome)
        assert fused._checked(device) is None
        assert told in caplog.text
    fused._checked.cache_clear()
    # Each kind of positives is checked by itself.
    monkeypatch.setattr(fused, "largest_error", lambda *_, symmetric: 0.001 if symmetric else 0.5)
    assert fused._checked(device).__name__.endswith("kernels")
    assert fused._checked(device, False) is None
    fused._checked.cache_clear()


def test_the_check_sees_what_is_wrong(monkeypatch):
    """Plain against plain is exact; with a gradient off by a tenth it is not."""
    assert fused.largest_error(streaming, torch.device("cpu"), torch.float32) == 0
    right = streaming.gradients

    class Wrong:
        row_sums = staticmethod(streaming.row_sums)

        @staticmethod
        def gradients(*arguments):
            first, second = right(*arguments)
            return [first, second * 1.1]

    assert 0.09 < fused.largest_error(Wrong, torch.device("cpu"), torch.float32) < 0.11


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_plain_passes_multiply_halves_as_a_gpu_does(dtype, monkeypatch):
    """Halves in the products, float32 in the sums: gradients within 1 % of float64, also of z rounded before."""
    from geohp.methods.hp import loss, positives

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 64, generator=generator, dtype=torch.float64)

    def rows(count):
        members = torch.randint(6, (count,), generator=generator)
        return F.normalize(centres[members] + torch.randn(count, 64, generator=generator, dtype=torch.float64), dim=1)

    exact = [rows(n) for n in (300, 300, 300, 300, 12, 12)]
    options = {"images": 3, "temperature": 0.4, "task_specific_weight": 0.5, "keep": 1.0}
    rounded = [part.to(dtype).double() for part in exact]
    wanted = torch.autograd.grad(
        contrastive_loss(*(v.requires_grad_() for v in rounded[:2]), *rounded[2:], **options), rounded[:2]
    )
    monkeypatch.setattr(loss, "operand", lambda values: values)
    monkeypatch.setattr(positives, "operand", lambda values: values)
    low = [part.to(dtype) for part in exact]
    value = contrastive_loss(*(v.requires_grad_() for v in low[:2]), *low[2:], **options)
    assert value.dtype == torch.float32
    for got, want in zip(torch.autograd.grad(value, low[:2]), wanted, strict=True):
        assert got.dtype == dtype
        assert (got.double() - want).norm() < 0.01 * want.norm()


def test_float16_takes_the_scale_that_a_gradient_scaler_asks_for():
    """Beyond float16's own range, as scalers grow: gradients are scaled before they are rounded."""
    generator = torch.Generator().manual_seed(0)
    z, features = (F.normalize(torch.randn(40, 16, generator=generator), dim=1) for _ in range(2))
    options = {"images": 2, "temperature": 0.4, "task_specific_weight": 0.0, "keep": 1.0}
    scale, pool = 2.0**17, features[:3] * 0.5

    def gradient(dtype):
        rows = z.half().to(dtype).requires_grad_()
        loss = contrastive_loss(rows, None, features.to(dtype), features.to(dtype), pool, pool, **options)
        return torch.autograd.grad(scale * loss, rows)[0].double() / scale

    exact, got = gradient(torch.float64), gradient(torch.float16)
    assert exact.norm() > 0
    assert (got - exact).norm() < 0.01 * exact.norm()


def test_batches_of_products_are_added_in_place():
    a, b = torch.randn(2, 5, 7).half(), torch.randn(2, 7, 4).half()
    total = torch.ones(2, 9, 4)
    products.product_of_halves(a, b, add_to=total[:, 3:8])
    torch.testing.assert_close(total[:, 3:8], 1 + a.float() @ b.float())
    assert (total[:, :3] == 1).all()
    assert (total[:, 8:] == 1).all()


def test_products_of_unlike_factors():
    a, b = torch.randn(5, 7), torch.randn(7, 4)
    exact = a @ b
    torch.testing.assert_close(products.product(a, b, scale=0.5), exact * 0.5)
    total = torch.ones(5, 4)
    assert products.product(a, b, scale=2, add_to=total) is total
    torch.testing.assert_close(total, 1 + 2 * exact)
    # float16 beside float32 would lose what is small: both are brought to bfloat16, which has float32's range.
    small = products.product(a * 1e-9, b.half())
    assert (small - 1e-9 * exact).norm() < 0.01 * 1e-9 * exact.norm()
    added = products.product(a.half(), b.half(), add_to=torch.ones(5, 4))
    assert (added - 1 - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("symmetric", [True, False])
def test_positives_are_remembered_as_long_as_there_is_room(symmetric):
    pytest.importorskip("triton")
    from geohp.methods.hp.kernels import Tuning, _Operands

    rows = halves(4, 16)
    a_strip = 3 * 5 * (1 if symmetric else 2) * 64 * 8 * 2  # of 3 x 5 tiles of 64 rows, 16 bits for 8 columns
    operands = _Operands(Tuning(height=64, found_bytes=2 * a_strip), (), (), {})
    pairs = PositivePairs(rows, rows[:2], remember=True, symmetric=symmetric)
    for first in (0, 4096):
        room = operands.room(pairs, first, (3, 5))
        assert room is pairs.found[first]
        assert (room.shape, room.dtype) == ((3, 5, 1 if symmetric else 2, 64, 8), torch.int16)
    assert operands.room(pairs, 8192, (3, 5)) is None
    assert operands.room(pairs, 8192, (1, 1)) is None
    assert sorted(pairs.found) == [0, 4096]
    forgetful = PositivePairs(rows, rows[:2], remember=False, symmetric=symmetric)
    assert operands.room(forgetful, 0, (1, 1)) is None
    assert forgetful.found == {}
