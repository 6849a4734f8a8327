"""The contrastive loss and both gradients: right to half a percent, and within 1.5 times its matrix products."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu import tunings
from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.problems import LossInputs
from benchmarks.gpu.sizes import Sizes
from geohp.methods.hp import fused, loss

if TYPE_CHECKING:
    from geohp.methods.hp.kernels import Tuning

_REFERENCE_S = 0.3
"""What the reference implementation needs at least for a step of this size."""
_TUNING_S = 45.0
_WORKERS = 12


def measure(m: Measurement) -> None:
    """Errors first, then times and memory, then other ways of cutting the work."""
    dtypes = (torch.bfloat16, torch.float16) if m.on_card else (torch.float32,)
    for dtype in dtypes:
        _errors(m, dtype)
    if m.on_card:
        used = fused._checked(torch.device("cuda", torch.cuda.current_device()))
        m.report("Triton kernels pass their check", float(used is not None), least=1)
    m.report("products, half precision", m.products_per_second / 1e12, "TFLOP/s")
    m.report("floor of the loss's products", 1e3 * m.loss_floor, "ms")
    for dtype in dtypes:
        _times(m, dtype)
    if m.on_card:
        _plain(m)
    inputs = LossInputs.draw(m.sizes, m.sizes.images, m.device, dtypes[0])
    m.report("card busy in a loss", 100 * m.profile("loss", inputs.run), "%")
    if m.on_card:
        _tune(m)


def _errors(m: Measurement, dtype: torch.dtype) -> None:
    """Against float64: a few images on the CPU, and on a card all of them there."""
    few = LossInputs.draw(m.sizes, min(4, m.sizes.images), m.device, dtype)
    _compare(m, f"{_name(dtype)}, few images, the CPU's", few.run(), few.to("cpu", torch.float64).run())
    if m.on_card:
        whole = LossInputs.draw(m.sizes, m.sizes.images, m.device, dtype)
        _compare(m, f"{_name(dtype)}, all images, the card's", whole.run(), whole.to(m.device, torch.float64).run())


def _compare(m: Measurement, what: str, got: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    for name, value, exact in zip(("loss", "gradient of z", "gradient of z_mix"), got, wanted, strict=True):
        error = float((value.double().cpu() - exact.cpu()).norm() / exact.cpu().norm())
        m.report(f"error of {name} ({what} float64)", 100 * error, "% of norm", most=0.5)


def _times(m: Measurement, dtype: torch.dtype) -> None:
    inputs = LossInputs.draw(m.sizes, m.sizes.images, m.device, dtype)
    seconds = m.seconds(inputs.run)
    m.report(f"loss and gradients, {_name(dtype)}", 1e3 * seconds, "ms")
    m.report(f"over the floor, {_name(dtype)}", seconds / m.loss_floor, "x", most=1.5)
    m.report(f"memory above the inputs, {_name(dtype)}", m.memory(inputs.run), "GB", most=0.5)
    if m.on_card:
        m.report(f"faster than the reference's {_REFERENCE_S} s a step, {_name(dtype)}", _REFERENCE_S / seconds, "x")


def _plain(m: Measurement) -> None:
    """The passes in plain torch, for comparison."""
    inputs = LossInputs.draw(m.sizes, m.sizes.images, m.device, m.half)
    with mock.patch.object(loss, "fused", return_value=None):
        m.report("plain passes", 1e3 * m.seconds(inputs.run, 2), "ms")


def _tune(m: Measurement) -> None:
    """Try the candidates, each compiled before by processes beside one another; the fastest is named."""
    from geohp.methods.hp import kernels

    inputs = LossInputs.draw(m.sizes, m.sizes.images, m.device, m.half)
    default = kernels.tuning_of(torch.device(m.device))
    candidates, best = tunings.candidates(default), (float("inf"), default)
    end = time.monotonic() + _TUNING_S
    with ProcessPoolExecutor(_WORKERS, get_context("spawn")) as pool:
        compiled = [pool.submit(_compile, tuning, m.sizes) for tuning in candidates]
        for tuning, done in zip(candidates, compiled, strict=True):
            if time.monotonic() > end:
                m.note(f"not tried: {tunings.describe(tuning, default)}")
                continue
            try:
                done.result(max(1.0, end - time.monotonic()))
                with mock.patch.object(kernels, "tuning_of", return_value=tuning):
                    seconds, memory = m.seconds(inputs.run, 3), m.memory(inputs.run)
            except Exception as error:  # too much shared memory, say
                m.note(f"{tunings.describe(tuning, default)}: {str(error).splitlines()[0][:100]}")
                continue
            m.report(f"{tunings.describe(tuning, default)}, {memory:.2f} GB", 1e3 * seconds, "ms")
            if memory <= 0.5 and seconds < best[0]:
                best = seconds, tuning
    m.report("fastest within 0.5 GB", tunings.describe(best[1], default))
    m.report("fastest over the floor", best[0] / m.loss_floor, "x", most=1.5)


def _compile(tuning: Tuning, sizes: Sizes) -> None:
    """In a process beside others: what Triton compiles, it keeps on disk."""
    from geohp.methods.hp import kernels

    inputs = LossInputs.draw(sizes, 2, "cuda", torch.bfloat16)
    for found_bytes in {tuning.found_bytes, 0}:  # beyond what is remembered, the other variant of a kernel runs
        with mock.patch.object(kernels, "tuning_of", return_value=replace(tuning, found_bytes=found_bytes)):
            inputs.run()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
