"""When the two passes run as Triton kernels: for half-precision rows on a GPU. See :mod:`.kernels`."""

from __future__ import annotations

import functools
import importlib.util
import logging
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.methods.hp import streaming
from geohp.methods.hp.positives import PositivePairs, ViewPairs
from geohp.methods.hp.products import HALVES
from geohp.methods.hp.streaming import Forces, Problem, Sums

_logger = logging.getLogger(__name__)

LOWEST_CAPABILITY = (8, 0)  # bfloat16 products begin here
_MULTIPLE = 16  # widths that whole steps of the kernels' products make up


def fused(views: list[Tensor], problem: Problem) -> ModuleType | None:
    """The module of the fused passes where they can be used, else ``None``.

    They take rows of one half-precision dtype on an NVIDIA GPU of at least compute capability 8.0, of widths that are
    multiples of 16, positives found in rows, and need Triton. On a device's first use they must reproduce the plain
    passes on a small problem.
    """
    if isinstance(problem.agnostic, ViewPairs):
        return None
    rows = [*views, *(pairs.rows for pairs in (problem.agnostic, problem.specific) if pairs is not None)]
    dtypes = {part.dtype for part in rows}
    if len(dtypes) > 1 or not dtypes <= set(HALVES) or any(part.shape[1] % _MULTIPLE for part in rows):
        return None
    device = views[0].device
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < LOWEST_CAPABILITY:
        return None
    return _checked(device, problem.agnostic.symmetric)


@functools.cache
def _checked(device: torch.device, symmetric: bool = True) -> ModuleType | None:
    """The module, if it is there and right on this device for positives of this kind."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        from geohp.methods.hp import kernels

        with torch.cuda.device(device) if device.type == "cuda" else torch.no_grad():
            error = largest_error(kernels, device, symmetric=symmetric)
    except torch.OutOfMemoryError:
        raise
    except Exception as problem:  # whatever a compiler can say about another card, driver or version of Triton
        _logger.warning("the fused loss does not run on %s (%s); the plain one is used", device, problem)
        return None
    if not error < 0.02:
        _logger.warning("the fused loss is off by %.2g on %s; the plain one is used", error, device)
        return None
    return kernels


def largest_error(
    passes: ModuleType, device: torch.device, dtype: torch.dtype = torch.float16, *, symmetric: bool = True
) -> float:
    """How far sums and gradients of fused passes are from the plain ones', on a problem of 200 rows, relative.

    Both where positives are remembered between the passes and where they are searched again.
    """
    generator = torch.Generator().manual_seed(0)
    n, width = 200, 32
    rows = F.normalize(torch.randn(4, n, width, generator=generator), dim=2).to(device, dtype)
    pool = rows[2, :5] * 0.5

    def problem(factors: Tensor, *, remember: bool = False) -> Problem:
        return Problem(
            agnostic=PositivePairs(factors[2], pool.to(factors), remember=remember, symmetric=symmetric),
            specific=PositivePairs(factors[3], pool.to(factors), remember=remember, symmetric=symmetric),
            rows=n,
            images=2,
            temperature=0.5,
            weight=0.25,
            keep=None,
            reweight=True,
        )

    # The same numbers in float32, so that both find the same positives.
    plain = rows.float()
    expected = streaming.row_sums(list(plain[:2]), problem(plain))
    # Shares that differ from row to row, of both signs as in a loss.
    share = torch.linspace(-2, -1, n, device=device)
    forces = Forces(share / expected.mass.clamp_min(1), [-share / part for part in expected.partition])
    wanted = _everything(expected, streaming.gradients(list(plain[:2]), forces, problem(plain), [True, True]))
    worst = 0.0
    for remember in (True, False):
        views, searched = list(rows[:2]), problem(rows, remember=remember)
        sums = passes.row_sums(views, searched)
        for got, want in zip(
            _everything(sums, passes.gradients(views, forces, searched, [True, True])), wanted, strict=True
        ):
            worst = max(worst, float((got - want).norm() / want.norm()))
    return worst


def _everything(sums: Sums, gradients: list[Tensor | None]) -> list[Tensor]:
    known = (gradient for gradient in gradients if gradient is not None)
    return [sums.mass, sums.positives, *sums.similarity, *sums.partition, *known]
