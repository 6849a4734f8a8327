"""Matrix products whose sums are taken in float32 or float64, whatever the factors are."""

from __future__ import annotations

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)


def operand(values: Tensor) -> Tensor:
    """Values as they enter products: halves stay halves on a GPU, which multiplies them far faster; else float32 up.

    On a CPU half-precision products are slow, and their sums may be rounded to half precision as well.
    """
    if values.dtype == torch.float64 or (values.is_cuda and values.dtype in HALVES):
        return values
    return values.float()


def product(a: Tensor, b: Tensor, *, scale: float = 1.0, add_to: Tensor | None = None) -> Tensor:
    """``scale * a @ b``, or added to a tensor in its place.

    Args:
        a: (n, k) float32, float64 or, on a GPU, half.
        b: (k, m) likewise. Where only one is half, both enter as bfloat16: float16 has not the range for the other.
        scale: factor of the product.
        add_to: (n, m), changed in its place.

    Returns:
        (n, m), float64 for float64 and float32 otherwise.
    """
    if b.dtype in HALVES or a.dtype in HALVES:
        half = a.dtype if a.dtype == b.dtype else torch.bfloat16
        result = product_of_halves(a.to(half), b.to(half))
        if scale != 1:
            result.mul_(scale)
        return result if add_to is None else add_to.add_(result)
    if add_to is not None:
        return add_to.addmm_(a, b, alpha=scale)
    return torch.addmm(a.new_zeros(1), a, b, beta=0, alpha=scale)


def product_of_halves(a: Tensor, b: Tensor, *, add_to: Tensor | None = None) -> Tensor:
    """``a @ b`` of halves (n, k) and (k, m), or batches of them, in float32; batches are added to ``add_to``."""
    if add_to is not None:
        if a.is_cuda:
            return torch.baddbmm(add_to, a, b, out_dtype=torch.float32, out=add_to)
        return add_to.baddbmm_(a.float(), b.float())
    if a.is_cuda:
        multiply = torch.mm if a.ndim == 2 else torch.bmm
        result: Tensor = multiply(a, b, out_dtype=torch.float32)
        return result
    return a.float() @ b.float()
