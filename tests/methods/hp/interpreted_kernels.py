"""Runs the Triton kernels in Triton's interpreter, on the CPU, against the plain passes; see test_kernels.py.

A process of its own: Triton asks for its interpreter once, when it is imported. Of halves, it multiplies float16 only.
"""

import itertools
from dataclasses import replace

import torch
import torch.nn.functional as F

from geohp.methods.hp import fused, kernels, loss, positives, streaming
from geohp.methods.hp.loss import contrastive_loss
from geohp.methods.hp.products import operand


def rows(count, width, generator):
    """Around a few centres: some pairs are positives, most are not."""
    centres = torch.randn(6, width, generator=generator)
    members = torch.randint(6, (count,), generator=generator)
    noise = torch.randn(count, width, generator=generator)
    return F.normalize(centres[members] + 1.2 * noise, dim=1).half()


def halves_stay(values):
    return values.detach()


def run(passes, dtype, inputs, options):
    loss.fused = lambda views, problem: passes
    loss.operand = positives.operand = halves_stay if passes is kernels else operand
    given = [None if part is None else part.to(dtype) for part in inputs]
    views = [view.requires_grad_() for view in given[:2] if view is not None]
    value = contrastive_loss(*given, **options)
    return value, torch.autograd.grad(value, views)


def main():
    for symmetric in (True, False):
        error = fused.largest_error(kernels, torch.device("cpu"), symmetric=symmetric)
        print(f"self-check {error:.2e}")
        assert error < 0.005
    patches_of = {300: 3, 128: 2, 129: 1, 2: 1, 260: 4}
    cases = itertools.product(patches_of.items(), (1.0, 0.0, 0.3), (0.0, 0.6), ((4096, 16384), (128, 256)))
    worst = 0.0
    for number, ((n, images), keep, weight, (strip, block)) in enumerate(cases):
        generator = torch.Generator().manual_seed(number)
        # Positives of all strips, of the first few, or of none are remembered for the second pass.
        found_bytes = (1 << 20, 1 << 13, 0)[number % 3]
        tuning = (kernels.Tuning(), kernels.OTHERS)[number // 3 % 2]
        kernels.TUNING = replace(tuning, strip=strip, block=block, found_bytes=found_bytes)
        widths = ((32, 48, 16), (16, 16, 16), (64, 96, 32))[number % 3]
        inputs = [rows(n, widths[i], generator) for i in (0, 0, 1, 2)] + [rows(9, widths[i], generator) for i in (1, 2)]
        if n in (129, 260):
            inputs[1] = None
        options = {
            "images": images,
            "temperature": (0.4, 0.1)[number % 2],
            "task_specific_weight": weight,
            "symmetric": n not in (300, 129),
            "keep": keep if keep in (0, 1) else torch.rand(n // images, n, generator=generator) < keep,
        }
        found, wanted = run(kernels, torch.float16, inputs, options), run(streaming, torch.float64, inputs, options)
        torch.testing.assert_close(found[0].double(), wanted[0].double(), rtol=2e-5, atol=1e-6)
        for got, want in zip(found[1], wanted[1], strict=True):
            error = float((got.double() - want).norm() / want.norm().clamp_min(1e-2))
            worst = max(worst, error)
            assert error < 0.01, (n, keep, weight, strip, error)
        if number % 12 == 0:
            again = run(kernels, torch.float16, inputs, options)
            assert all(torch.equal(a, b) for a, b in zip(found[1], again[1], strict=True))
    print(f"{number + 1} problems, gradients within {worst:.2e}")


if __name__ == "__main__":
    main()
