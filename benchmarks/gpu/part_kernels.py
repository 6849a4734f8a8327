"""Registers, spills and tensor-core instructions of the Triton kernels; needs a compiler, and no card."""

from __future__ import annotations

import importlib.util

import torch

from benchmarks.gpu import tunings
from benchmarks.gpu.measurement import Measurement

_SPILLED_BYTES = 64
"""Of a thread, once a tile: nothing beside the products of a tile."""
_SHARED_BYTES = 227 * 1024
"""What a program may take of an H100's or H200's shared memory."""


def measure(m: Measurement) -> None:
    """The default of the device with bounds, without a card Hopper's; on one also candidates that change a tile."""
    if importlib.util.find_spec("triton") is None:
        m.note("Triton is not installed")
        return
    from benchmarks.gpu.kernel_report import Variant, compile_kernel
    from geohp.methods.hp.kernels import tuning_of

    capability = 90
    if m.on_card:
        major, minor = torch.cuda.get_device_capability()
        capability = 10 * major + minor
    default = tuning_of(torch.device(m.device))
    for kernel in ("sums_kernel", "weights_kernel"):
        made = compile_kernel(Variant(kernel), default, capability)
        m.report(f"{kernel}: registers of a thread", made.registers)
        m.report(f"{kernel}: bytes spilled", made.stack_bytes, most=_SPILLED_BYTES)
        m.report(f"{kernel}: shared memory of a program", made.shared_bytes, "bytes", most=_SHARED_BYTES)
        if capability == 90:
            m.report(f"{kernel}: instructions HGMMA", made.tensor_products, least=1)
            m.report(f"{kernel}: instructions HMMA", made.old_products, most=0)
        m.report(f"{kernel}: shuffles", made.shuffles)
    tiles = [t for t in tunings.candidates(default) if _gone_through(t) == _gone_through(default)]
    for tuning in tiles[1:] if m.on_card else []:
        for kernel in ("sums_kernel", "weights_kernel"):
            made = compile_kernel(Variant(kernel), tuning, capability)
            words = f"{made.registers} registers, {made.stack_bytes} bytes spilled, {made.shared_bytes} shared"
            m.report(f"{kernel}, {tunings.describe(tuning, default)}", words)


def _gone_through(tuning: object) -> tuple[int, int, int]:
    return tuning.strip, tuning.block, tuning.found_bytes  # type: ignore[attr-defined]
