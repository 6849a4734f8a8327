"""Random convolutional features (MOSAIKS, Rolf et al. 2021) on a patch grid: a backbone that needs no download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from geohp.backbones.affinities import cosine_affinities
from geohp.backbones.base import Backbone, PatchFeatures
from geohp.errors import ConfigError, DataError

ZCA_RIDGE = 0.1  # of the largest eigenvalue
_SAMPLE_VALUES = 1 << 24  # image values kept while fitting: 64 MB
_RESPONSES = 1 << 25  # responses held at once: 128 MB
_CPU_RESPONSES = 1 << 21  # on a CPU 8 MB, which stay in its cache and are not asked of the system anew each time
_PIECES = 512
_LARGEST_PX = 1024  # side of a patch
_TRIES = 64  # draws of a filter before the imagery counts as constant


class RandomConvolutionalFeatures(Backbone):
    """How strongly each patch and its surroundings resemble each of many small pieces of the imagery itself.

    Filters are pieces of the imagery, kernel x kernel pixels, drawn at random and ZCA-whitened. Their responses
    y = x * w + bias, rectified both ways, max(y, 0) and max(-y, 0), are averaged over each patch and over wider
    surroundings (``scales``: sides in patches; at the image's border, over what is inside it). Then a square root,
    and every channel standardised with the mean and deviation met in :meth:`fit`. As neighbouring filters say nearly
    the same, the ``channels`` first principal components hold all of it (64 of 512: 99.9 % of the variance); they are
    rotated so that all have the same deviation, 1, and standardising them again, as clustering does, changes no
    angle. (Whitened components, or unrotated ones standardised anew, would raise noise to the rank of colour.)

    Where this departs from MOSAIKS, which describes whole images, it does so for unsupervised land cover. MOSAIKS
    centres each piece on its own mean and whitens nearly all the way, so that filters see textures only; centred on
    the mean of all pieces and whitened mildly, they see colour as well. On satellite RGB, K-means into five classes
    (mean IoU, Euclidean and on the sphere): 0.25 and 0.25 with MOSAIKS' filters, 0.37 and 0.34 with these.

    Affinities are made of cosines between the features of neighbours, see
    :func:`geohp.backbones.affinities.cosine_affinities`.

    Deterministic given ``seed`` and the imagery. Everything learnt is in buffers of fixed shapes, so that
    ``state_dict`` restores it into a fresh instance of the same options.

    Args:
        in_channels: image bands.
        patch_size: side of a patch in pixels.
        filters: pieces of imagery drawn; every filter gives two activations a scale.
        kernel: their side in pixels.
        bias: added to every response.
        scales: odd sides, in patches, of the squares averaged over.
        channels: principal components kept, at most; ``None`` keeps all 2 * filters * len(scales) channels as they are.
        seed: of the drawing.

    Raises:
        ConfigError: for impossible values.
    """

    name = "rcf"
    block = -1
    embedded = True
    weights_source: str | None = None
    filters: Tensor
    biases: Tensor
    center: Tensor
    deviation: Tensor
    projection: Tensor
    fitted: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        *,
        patch_size: int = 8,
        filters: int = 128,
        kernel: int = 6,
        bias: float = 0.0,
        scales: Sequence[int] = (1, 3),
        channels: int | None = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        width = 2 * filters * len(self.scales)
        _check(in_channels, patch_size, filters, kernel, self.scales, channels)
        self.in_channels, self.patch_size = in_channels, patch_size
        self.kernel, self.bias, self.seed = kernel, float(bias), seed
        self.channels = width if channels is None else min(channels, width)
        self.projected = channels is not None
        self.mean, self.std = (0.5,) * in_channels, (0.25,) * in_channels
        self.register_buffer("filters", torch.zeros(filters, in_channels, kernel, kernel))
        self.register_buffer("biases", torch.full((filters,), self.bias))
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("projection", torch.eye(width)[:, : self.channels] if self.projected else torch.empty(0))
        self.register_buffer("fitted", torch.tensor(False))
        self.eval()

    @property
    def needs_fit(self) -> bool:
        """True until fitted, or a fitted state is loaded."""
        return not bool(self.fitted)

    def options(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            "in_channels": self.in_channels,
            "patch_size": self.patch_size,
            "filters": len(self.filters),
            "kernel": self.kernel,
            "bias": self.bias,
            "scales": list(self.scales),
            "channels": self.channels if self.projected else None,
            "seed": self.seed,
        }

    def train(self, mode: bool = True) -> RandomConvolutionalFeatures:
        """Stays in eval mode: nothing in it is trained."""
        super().train(False)
        return self

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> None:
        """Draw the filters and measure the features' mean and deviation.

        Looks at every batch once, keeping an even sample of the images of at most 64 MB; constant pieces (nodata,
        borders) count neither as filters nor in the statistics.

        Args:
            images: batches (B, bands, H, W), normalised; sides may differ between batches.

        Raises:
            DataError: when there are no images, or nothing but constant ones.
        """
        generator = Generator().manual_seed(self.seed)
        sample = [image.to(self.filters) for image in _even_sample(images, generator)]
        if not sample:
            raise DataError("rcf: there is no imagery to draw filters from", "give at least one image")
        # The whitening needs many pieces for its covariance, however few become filters.
        pieces = _draw_pieces(sample, max(len(self.filters), _PIECES), self.kernel, generator)
        self.filters.copy_(whiten(pieces)[: len(self.filters)])
        self._measure(sample)
        self.fitted.fill_(True)

    @torch.no_grad()
    def forward(self, images: Tensor, affinities: bool = True) -> PatchFeatures:
        """Features (B, C, H/p, W/p) and affinities (B, N, 9) of normalised images (B, bands, H, W).

        Raises:
            ValueError: when the sides are no multiples of the patch size, or the bands are not ``in_channels``.
            ModelError: before it was fitted.
        """
        self.refuse_unfitted()
        # Not in half precision: next to a transformer it costs nothing, and standardising enlarges every error.
        with torch.autocast(images.device.type, enabled=False):
            features = self._pooled(images)
            features = (features - self.center[:, None, None]) / self.deviation[:, None, None]
            if self.projected:
                features = torch.einsum("bfhw,fc->bchw", features, self.projection)
            return PatchFeatures(features, cosine_affinities(features) if affinities else None)

    def _pooled(self, images: Tensor) -> Tensor:
        """Compressed activations (B, F, h, w), before standardising."""
        self.grid_of(images)  # refuses what has none
        before, after = (self.kernel - 1) // 2, self.kernel // 2
        padded = F.pad(images.to(self.filters.dtype), (before, after, before, after), mode="replicate")
        # With the channels last in memory, convolution and pooling take half the time on a CPU.
        padded = padded.contiguous(memory_format=torch.channels_last)
        # One by one on a CPU, so that no image's bits depend on its company.
        images_at_once = 1 if padded.device.type == "cpu" else max(1, self._rows_at_once(padded) // images.shape[-2])
        patches = torch.cat([self._patch_means(part) for part in torch.split(padded, images_at_once)])
        wider = [
            patches if s == 1 else F.avg_pool2d(patches, s, 1, s // 2, count_include_pad=False) for s in self.scales
        ]
        return torch.cat(wider, 1).clamp_min_(0).sqrt_()

    def _patch_means(self, padded: Tensor) -> Tensor:
        """Both rectified responses averaged over each patch (n, 2 * filters, h, w), in strips of whole patches."""
        rows = max(1, self._rows_at_once(padded) // self.patch_size) * self.patch_size
        reach = self.kernel - 1
        strips = [padded[:, :, row : row + rows + reach] for row in range(0, padded.shape[2] - reach, rows)]
        return torch.cat([self._strip_means(strip) for strip in strips], 2)

    def _strip_means(self, padded: Tensor) -> Tensor:
        responses = F.conv2d(padded, self.filters, self.biases)
        means = F.avg_pool2d(responses, self.patch_size)
        positive = F.avg_pool2d(responses.relu_(), self.patch_size)
        # max(-y, 0) = max(y, 0) - y: the second rectification needs no pass over the pixels.
        return torch.cat([positive, positive - means], 1)

    def _rows_at_once(self, padded: Tensor) -> int:
        """Rows of pixels whose responses, the only large thing here, are held at once."""
        limit = _CPU_RESPONSES if padded.device.type == "cpu" else _RESPONSES
        return limit // (len(self.filters) * padded.shape[-1])

    def _measure(self, sample: list[Tensor]) -> None:
        """Mean and deviation of every channel, and the principal components where asked for."""
        width = len(self.center)
        count = 0
        total = torch.zeros(width, dtype=torch.float64)
        products = torch.zeros(width, width, dtype=torch.float64)
        for image in sample:
            rows = self._pooled(image[None])[0].flatten(1).T[_textured(image, self.patch_size)].cpu().double()
            count += len(rows)
            total += rows.sum(0)
            products += rows.T @ rows
        if count < 2:
            raise DataError("rcf: the imagery is constant, there is nothing to tell apart", "check bands and scaling")
        center = total / count
        covariance = products / count - torch.outer(center, center)
        deviation = covariance.diagonal().clamp_min(0).sqrt().clamp_min(1e-6)
        self.center.copy_(center)
        self.deviation.copy_(deviation)
        if self.projected:
            correlation = covariance / torch.outer(deviation, deviation)
            values, vectors = torch.linalg.eigh(correlation)
            order = values.argsort(descending=True)[: self.channels]
            vectors = vectors[:, order]
            # An eigenvector's sign is arbitrary: fix it, so that the same imagery gives the same features.
            vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
            rotation = even_out(values[order])
            self.projection.copy_(vectors @ rotation / values[order].mean().sqrt())


def rectified_responses(images: Tensor, filters: Tensor, biases: Tensor) -> Tensor:
    """Both rectifications of every filter's response at every position where the filter fits.

    Args:
        images: (B, bands, H, W).
        filters: (K, bands, k, k).
        biases: (K,).

    Returns:
        (B, 2 K, H - k + 1, W - k + 1): max(y, 0) of all filters, then max(-y, 0), y = images * filters + biases.
    """
    responses = F.conv2d(images, filters, biases)
    return torch.cat([responses.clamp_min(0), (-responses).clamp_min(0)], 1)


def whiten(pieces: Tensor) -> Tensor:
    """Unit-length filters of pieces of imagery (K, bands, k, k): centred on their mean, then ZCA-whitened, mildly."""
    rows = pieces.cpu().double().flatten(1)
    rows = F.normalize(rows - rows.mean(0), dim=1)
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    damped = values.clamp_min(0) + ZCA_RIDGE * values.amax().clamp_min(1e-12)
    whitened = F.normalize(rows @ (vectors * damped.rsqrt()) @ vectors.T, dim=1)
    return whitened.reshape(pieces.shape).to(pieces)


def even_out(variances: Tensor) -> Tensor:
    """An orthogonal matrix R (k, k) that spreads variances (k,) evenly: diag(R^T diag(variances) R) is constant.

    It exists (Schur and Horn) and takes k - 1 plane rotations: each turns a channel with more than the mean towards
    one with less until the first has the mean.
    """
    count = len(variances)
    rotation = torch.eye(count, dtype=variances.dtype)
    largest = variances.max()
    if largest < torch.finfo(variances.dtype).tiny:
        return rotation
    # The rotation does not depend on their scale, but products of very small variances would vanish.
    covariance = torch.diag(variances / largest)
    mean = covariance.diagonal().mean()
    remaining = list(range(count))
    for _ in range(count - 1):
        spread = covariance.diagonal()[remaining]
        i, j = remaining[int(spread.argmax())], remaining[int(spread.argmin())]
        a, b, c = covariance[i, i] - mean, covariance[i, j], covariance[j, j] - mean
        if a - c < 1e-12 * mean:
            break
        # The new (i, i) entry minus the mean is a + 2 b t + c t^2 over 1 + t^2, with a >= 0 >= c: solve for tangent t.
        root = (b * b - a * c).clamp_min(0).sqrt()
        tangent = -a / (b + root) if b > 0 else (-a / (b - root) if a > 0 else torch.zeros_like(a))
        cosine = (1 + tangent * tangent).rsqrt()
        plane = torch.stack([cosine, tangent * cosine, -tangent * cosine, cosine]).reshape(2, 2).T
        covariance[:, [i, j]] = covariance[:, [i, j]] @ plane
        covariance[[i, j]] = plane.T @ covariance[[i, j]]
        rotation[:, [i, j]] = rotation[:, [i, j]] @ plane
        remaining.remove(i)
    return rotation


def _even_sample(batches: Iterable[Tensor], generator: Generator) -> list[Tensor]:
    """Every image has the same chance to be in the sample (reservoir sampling), whose size is bounded."""
    sample: list[Tensor] = []
    seen = 0
    for batch in batches:
        for image in batch:
            room = max(1, _SAMPLE_VALUES // max(1, image.numel()))
            seen += 1
            if len(sample) < room:
                sample.append(image.clone())
                continue
            place = int(torch.randint(seen, (1,), generator=generator))
            if place < len(sample):
                sample[place] = image.clone()
    return sample


def _draw_pieces(sample: list[Tensor], count: int, kernel: int, generator: Generator) -> Tensor:
    """Pieces (count, bands, kernel, kernel) at random places, none of them constant."""
    pieces: list[Tensor] = []
    large = [image for image in sample if min(image.shape[-2:]) >= kernel]
    for _ in range(count * _TRIES if large else 0):
        image = large[int(torch.randint(len(large), (1,), generator=generator))]
        row, col = (int(torch.randint(side - kernel + 1, (1,), generator=generator)) for side in image.shape[-2:])
        piece = image[:, row : row + kernel, col : col + kernel]
        if bool((piece.amax((1, 2)) - piece.amin((1, 2)) > 1e-4).any()):
            pieces.append(piece)
        if len(pieces) == count:
            return torch.stack(pieces)
    raise DataError("rcf: the imagery is constant, there are no filters to draw", "check bands and scaling")


def _textured(image: Tensor, size: int) -> Tensor:
    """Which patches (h * w,) of an image (bands, H, W) are not constant."""
    spread = F.max_pool2d(image[None], size) + F.max_pool2d(-image[None], size)
    return (spread > 1e-4).any(1).flatten()


def _check(bands: int, size: int, filters: int, kernel: int, scales: tuple[int, ...], channels: int | None) -> None:
    if min(bands, size, filters, kernel) < 1:
        raise ConfigError("backbone rcf: in_channels, patch_size, filters and kernel must be at least 1")
    if max(size, kernel) > _LARGEST_PX:
        raise ConfigError(f"backbone rcf: patch_size and kernel must be at most {_LARGEST_PX}")
    if not scales or any(scale < 1 or scale % 2 == 0 for scale in scales):
        raise ConfigError(f"backbone rcf: scales must be odd numbers of patches, not {list(scales)}")
    if channels is not None and channels < 1:
        raise ConfigError(f"backbone rcf: channels must be at least 1, not {channels}")
