"""Two processes, each with half of a batch and gradients exchanged by gloo, end where one process ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.problems import unit_rows
from benchmarks.gpu.sizes import Sizes
from geohp.backbones.base import PatchFeatures
from geohp.methods.base import Batch
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings

_STEPS = 4
_PROCESSES = 2


def measure(m: Measurement) -> None:
    """Both on the same card; the package's own loop over two processes is tested on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_process, (m.sizes, m.device, folder), _PROCESSES)  # type: ignore[no-untyped-call]
        shared = torch.load(Path(folder) / "weights.pt", weights_only=True)
    alone = _trained(m.sizes, m.device, None)
    for name, value in alone.items():
        error = float((shared[name] - value).norm() / value.norm().clamp_min(1e-6))
        if name.startswith(("head.", "averaged.")) and name.endswith("weight"):
            m.report(f"difference of {name}", 100 * error, "% of norm", most=0.1)
    m.note("gradients travel by gloo; NCCL takes no two processes on one card")


def _process(rank: int, sizes: Sizes, device: str, folder: str) -> None:
    """One of the processes."""
    store = distributed.FileStore(f"{folder}/store", _PROCESSES)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=_PROCESSES)
    weights = _trained(sizes, device, rank)
    if rank == 0:
        torch.save(weights, Path(folder) / "weights.pt")
    distributed.destroy_process_group()


def _trained(sizes: Sizes, device: str, rank: int | None) -> dict[str, Tensor]:
    """Weights after a few steps: of one process's share of each batch, or of both shares one after the other."""
    torch.manual_seed(0)
    settings = HPSettings(code_channels=sizes.codes, pool_size=sizes.images, warmup_steps=0, dropout=0.0)
    method = HP(sizes.channels, 3, settings)
    rows = unit_rows(2 * sizes.images * sizes.side**2, sizes.channels, "cpu")
    # Pools of other images: with a patch of its own in the pool, rounding would decide whether it is a positive.
    maps, others = rows.view(2, sizes.images, sizes.side, sizes.side, -1).permute(0, 1, 4, 2, 3).to(device)
    affinities = torch.rand(sizes.images, sizes.side**2, 9).to(device)
    method.to(device).prepare(lambda count: [others[:count]])
    optimizers = method.optimizers()
    halves = list(Batch(PatchFeatures(maps, affinities)).parts(_PROCESSES))
    for step in range(_STEPS):
        _step(method, optimizers, halves, step, rank)
    return {name: value.cpu() for name, value in method.state_dict().items()}


def _step(method: HP, optimizers: list[Optimizer], halves: list[Batch], step: int, rank: int | None) -> None:
    """Gradients of both halves' mean, by whoever computes them."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    if rank is None:
        for half in halves:
            losses = method.losses(half, step=50 + step, total_steps=100)
            (torch.stack(list(losses.values())).sum() * half.share).backward()
    else:
        # Each process moves its own copy of the average once a step: a whole step's worth.
        mine = Batch(halves[rank].patches)
        losses = method.losses(mine, step=50 + step, total_steps=100)
        torch.stack(list(losses.values())).sum().backward()
        for parameter in method.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= _PROCESSES
    method.clip_gradients()
    for optimizer in optimizers:
        optimizer.step()
