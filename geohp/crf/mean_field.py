"""Mean-field inference in a fully connected conditional random field over the pixels of an image.

    softmax ─▶ [ messages of the kernels ─▶ added to the log-probabilities ─▶ softmax ] x iterations ─▶ marginals

After Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials" (2011), with
the kernels, weights and number of iterations that unsupervised segmentation publishes its figures with (STEGO, HP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from geohp.crf.permutohedral import Lattice
from geohp.errors import DataError

_FLOOR = 1e-5
"""No class is less probable than this to begin with, so that no pixel is beyond all persuasion; as published."""

_PIXELS = 1 << 20
"""Pixels that a GPU takes at once: of small images several, for each by itself would be hundreds of small kernels that
take longer to launch than to run. Some 0.6 GB; a CPU takes image by image, which stays in caches."""

_LONG = 16
"""Classes from which on torch's softmax along rows is faster than its parts one after the other; below, far slower."""


@dataclass(frozen=True)
class Gaussian:
    """Pixels near one another want the same class.

    Attributes:
        sxy: the kernel's standard deviation, in pixels.
        compat: its weight.
    """

    sxy: float = 1.0
    compat: float = 3.0


@dataclass(frozen=True)
class Bilateral:
    """Pixels of similar colours want the same class, nearer ones more.

    Attributes:
        sxy: the kernel's standard deviation in space, in pixels.
        srgb: that in each colour, of 0 to 255.
        compat: its weight.
    """

    sxy: float = 67.0
    srgb: float = 3.0
    compat: float = 4.0


@torch.no_grad()
def dense_crf(
    image: Tensor,
    log_probabilities: Tensor,
    *,
    iterations: int = 10,
    gaussian: Gaussian | None = Gaussian(),
    bilateral: Bilateral | None = Bilateral(),
    mask: Tensor | None = None,
) -> Tensor:
    """Marginals of every pixel's class, given its own probabilities and the colours of all pixels.

    The defaults are those of the published figures. Computed where the log-probabilities are; on one device the same
    arguments give the same bits, and an image the same alone as in a batch.

    Args:
        image: (3, H, W) or (B, 3, H, W) uint8, red, green, blue, as shown and not normalised.
        log_probabilities: (K, H, W) or (B, K, H, W) floating point. Any logits do: a softmax is taken. Minus infinity
            stands for a class that is not probable at all.
        iterations: of the mean field; 0 gives the softmax.
        gaussian: the kernel in space alone, or ``None`` for none.
        bilateral: the kernel in space and colour, or ``None`` for none.
        mask: (H, W) or (B, H, W) bool, true where pixels count. The others have no influence whatsoever and keep the
            softmax.

    Returns:
        (K, H, W) or (B, K, H, W) float32, summing to 1 over the classes.

    Raises:
        DataError: one sentence that says which argument cannot be used.
    """
    _check(image, log_probabilities, mask, iterations, gaussian, bilateral)
    batched, device = log_probabilities.ndim == 4, log_probabilities.device
    if not batched:
        image, log_probabilities, mask = image[None], log_probabilities[None], None if mask is None else mask[None]
    # Other devices lack some of the operations.
    compute = device if device.type in ("cpu", "cuda") else torch.device("cpu")
    images, logits = image.to(compute), log_probabilities.to(compute)
    masks = None if mask is None else mask.to(compute)
    marginals = torch.empty(logits.shape, dtype=torch.float32, device=compute)
    at_once = _images_at_once(logits)
    for start in range(0, len(logits), at_once):
        part = slice(start, start + at_once)
        valid = None if masks is None else masks[part]
        rows = _marginals(images[part], logits[part], valid, iterations, gaussian, bilateral)
        marginals[part] = rows.view(-1, *logits.shape[2:], logits.shape[1]).permute(0, 3, 1, 2)
    return (marginals if batched else marginals[0]).to(device)


def guide_image(bands: Tensor) -> Tensor:
    """Red, green and blue as the published code has them: the first three bands, a missing one being the last again.

    A band that the model sees counts for the outlines as well: of two bands both do, for a border that shows in the
    second alone is a border. A grey of the first would never see it.

    Args:
        bands: (bands, H, W) or (B, bands, H, W) floating point in [0, 1]; what lies beyond is cut off.

    Returns:
        (3, H, W) or (B, 3, H, W) uint8.
    """
    last = bands.shape[-3] - 1
    shown = bands[..., [min(band, last) for band in range(3)], :, :]
    return (shown * 255).round().clamp(0, 255).to(torch.uint8)


def _images_at_once(logits: Tensor) -> int:
    """Of a batch (B, K, H, W): as many as a GPU gains by, spread evenly."""
    images, _, height, width = logits.shape
    if logits.device.type == "cpu" or not images:
        return 1
    return math.ceil(images / math.ceil(images * height * width / _PIXELS))


def _marginals(
    images: Tensor,
    logits: Tensor,
    mask: Tensor | None,
    iterations: int,
    gaussian: Gaussian | None,
    bilateral: Bilateral | None,
) -> Tensor:
    """(N, K) marginals of the pixels of some images, one after another."""
    rows = logits.flatten(2).transpose(1, 2).flatten(0, 1)
    # Rows of nothing but minus infinity are undecided, not NaN.
    if rows.dtype == torch.float64:  # float32 may hold their differences where it does not hold the logits
        rows = rows.clamp_min(torch.finfo(torch.float64).min)
        rows = rows - rows.amax(1, keepdim=True)
    q = _softmax(rows.float().clamp_min(torch.finfo(torch.float32).min).contiguous())
    if mask is None:
        return _mean_field(q, _kernels(images, gaussian, bilateral, None), iterations)
    pixels = mask.flatten().nonzero()[:, 0]
    if len(pixels):
        q[pixels] = _mean_field(q[pixels], _kernels(images, gaussian, bilateral, pixels), iterations)
    return q


def _mean_field(q: Tensor, kernels: list[tuple[float, Lattice]], iterations: int) -> Tensor:
    """(N, K) marginals, from the pixels' own probabilities (N, K)."""
    own = q.clamp_min(_FLOOR).log_()
    # The first marginals are those of what the floor leaves, as later ones are.
    q = _softmax(own)
    for _ in range(iterations):
        logits = own
        for compat, lattice in kernels:
            # Potts: whatever disagrees costs alike, so what agrees is all that matters.
            logits = torch.add(logits, lattice @ q, alpha=compat)
        q = _softmax(logits)
    return q


def _softmax(logits: Tensor) -> Tensor:
    """Of each row (N, K)."""
    if logits.shape[1] >= _LONG:
        return logits.softmax(1)
    q = (logits - logits.amax(1, keepdim=True)).exp_()
    return q.div_(q.sum(1, keepdim=True))


def _kernels(
    images: Tensor, gaussian: Gaussian | None, bilateral: Bilateral | None, pixels: Tensor | None
) -> list[tuple[float, Lattice]]:
    """Weights and filters over each of some images (B, 3, H, W), or over those of their pixels (N,) that count."""
    count, _, height, width = images.shape
    # Blue first, as the published code does: the lattice does not treat all of its dimensions quite alike.
    colours = images.flatten(2).flip(1).transpose(1, 2).flatten(0, 1).float()
    places, owner = _places(count, height, width, images.device)
    if pixels is not None:
        places, colours, owner = places[pixels], colours[pixels], owner[pixels]
    kernels = []
    if gaussian is not None:
        whole = pixels is None
        if whole:
            lattice = _whole_images(count, height, width, gaussian.sxy, images.device)
        else:
            lattice = Lattice(places / gaussian.sxy, owner, count)
        kernels.append((gaussian.compat, lattice))
    if bilateral is not None:
        lattice = Lattice(torch.cat([places / bilateral.sxy, colours / bilateral.srgb], 1), owner, count)
        kernels.append((bilateral.compat, lattice))
    return kernels


@lru_cache(maxsize=2)  # the last few images of a batch may be fewer
def _whole_images(count: int, height: int, width: int, sxy: float, device: torch.device) -> Lattice:
    """The kernel in space: the same for all images of a size, as those of a set or a scene's windows are."""
    places, owner = _places(count, height, width, device)
    return Lattice(places / sxy, owner, count)


def _places(count: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(N, 2) column and row of every pixel of so many images, and (N,) int64 which image's it is."""
    rows, cols = (torch.arange(side, dtype=torch.float32, device=device) for side in (height, width))
    places = torch.cartesian_prod(rows, cols).view(-1, 2).flip(1).repeat(count, 1)
    return places, torch.arange(count, device=device).repeat_interleave(height * width)


def _check(
    image: Tensor,
    log_probabilities: Tensor,
    mask: Tensor | None,
    iterations: int,
    gaussian: Gaussian | None,
    bilateral: Bilateral | None,
) -> None:
    """Refuse what cannot be used."""
    if not log_probabilities.is_floating_point() or log_probabilities.ndim not in (3, 4):
        raise DataError(
            f"log-probabilities: must be floating point (K, H, W) or (B, K, H, W), not {_described(log_probabilities)}"
        )
    *batch, _, height, width = log_probabilities.shape
    if 0 in log_probabilities.shape[-3:]:
        raise DataError(f"log-probabilities: {_described(log_probabilities)} has no pixels or no classes")
    if image.dtype != torch.uint8 or image.shape != (*batch, 3, height, width):
        raise DataError(f"image: must be uint8 {(*batch, 3, height, width)}, not {_described(image)}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (*batch, height, width)):
        raise DataError(f"mask: must be bool {(*batch, height, width)}, not {_described(mask)}")
    if iterations < 0:
        raise DataError(f"iterations {iterations}: must not be negative")
    for kernel in (gaussian, bilateral):
        for name, value in vars(kernel).items() if kernel is not None else ():
            least = 0 if name == "compat" else math.nextafter(0, 1)
            if not (math.isfinite(value) and value >= least):
                raise DataError(f"{name} {value}: must be a {'' if least == 0 else 'positive '}number")
    # The largest is NaN where any is.
    if log_probabilities.numel() and not bool(log_probabilities.amax() < torch.inf):
        raise DataError("log-probabilities: some are NaN or infinite; minus infinity alone has a meaning")


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
