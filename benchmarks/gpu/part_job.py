"""The whole job of Potsdam-3: features of 4,545 images once, then ten epochs; and with features anew each epoch."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.measurement import Measurement, precision
from benchmarks.gpu.training import StepClock, cache, sampler, train
from benchmarks.measuring import synchronise
from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone
from geohp.features.encoder import FrozenEncoder

_REFERENCE_LOSS_S = 0.3
_PROFILED = 6
"""Steps of the epoch with augmentation."""
_VIEW_FLOP = 156e9
"""Of an image through ViT-B/8 at 224 px; the reference takes two views a step."""


def measure(m: Measurement) -> None:
    """Times of the parts, beside an estimate of the reference's."""
    sizes = m.sizes
    torch.manual_seed(0)
    backbone = create_backbone(sizes.backbone, weights="random").to(m.device)
    workers = min(14, (os.cpu_count() or 1) - 2) if m.on_card else 0
    _readers(m, backbone, workers)
    bare = _bare(m, backbone)
    _kept(m, backbone, workers, bare)
    _augmented(m, backbone, workers)


def _readers(m: Measurement, backbone: Backbone, workers: int) -> None:
    """How long it takes to the first batch, when reading processes are begun for the first and the second time."""
    for begun in ("first", "second"):
        features = sampler(m, backbone, m.sizes.set_images, workers=workers)
        seconds = _clocked(m, functools.partial(next, iter(features.batches())))
        m.report(f"{workers} readers begun a {begun} time", seconds, "s")


def _bare(m: Measurement, backbone: Backbone) -> float:
    """Images a second through the encoder, where they lie on the card already; and through the backbone alone."""
    images = torch.rand(m.sizes.images, 3, m.sizes.image_px, m.sizes.image_px, device=m.device)
    encode = FrozenEncoder(backbone, len(images))

    def products() -> None:
        with precision(m):
            backbone(images, False)

    alone = len(images) / m.seconds(products, 3)
    bare = len(images) / m.seconds(lambda: encode(images), 3)
    m.report("bare backbone", alone, "images/s")
    m.report("bare backbone with affinities", bare, "images/s")
    return bare


def _kept(m: Measurement, backbone: Backbone, workers: int, bare: float) -> None:
    """Features once, then all epochs on them."""
    sizes = m.sizes
    features = sampler(m, backbone, sizes.set_images, workers=workers)
    marks: list[tuple[float, int]] = []

    def mark(stage: str, done: int, total: int, words: str = "") -> None:
        marks.append((time.perf_counter(), done))

    caching = _clocked(m, lambda: cache(features, mark))
    begun, (first, ahead), (last, done) = marks[0][0], marks[1], marks[-1]
    m.report("features of all images, once", caching, "s")
    m.report("features: to the first batch", first - begun, "s")
    if done > ahead:
        rate = (done - ahead) / (last - first)
        m.report("features: after that", rate, "images/s")
        m.report("features: of the bare rate", 100 * rate / bare, "%")
    m.report("features kept in", str(features.place))
    clock = StepClock(m.device)
    training = _clocked(m, lambda: train(m, features, sizes.epochs, [clock]))
    steps = sizes.epochs * (sizes.set_images // sizes.images)
    m.report("training on kept features", training, "s")
    m.report("training: to the first step", clock.start, "s")
    m.report("training: step, median", 1e3 * statistics.median(clock.seconds()), "ms")
    m.report("whole job", caching + training, "s", most=300)
    views = 2 * sizes.images * _VIEW_FLOP / m.products_per_second
    reference = steps * (views + _REFERENCE_LOSS_S)
    m.report("the reference, estimated: two views a step and 0.3 s of loss", reference, "s")
    m.report("times faster than that", reference / (caching + training), "x", least=1)


def _augmented(m: Measurement, backbone: Backbone, workers: int) -> None:
    """An epoch with random augmentation: images are read and encoded anew."""
    features = sampler(m, backbone, m.sizes.set_images, augmented=True, workers=workers)
    steps = m.sizes.set_images // m.sizes.images
    clock = StepClock(m.device, profiled=(steps // 2, min(steps // 2 + _PROFILED, steps) - 1))
    epoch = _clocked(m, lambda: train(m, features, 1, [clock]))
    m.report("an epoch with augmentation, its start included", epoch, "s")
    m.report("augmented: to the first step", clock.start, "s")
    m.report("augmented: step, median", 1e3 * statistics.median(clock.seconds()), "ms")
    m.report("all epochs with augmentation, at most", m.sizes.epochs * epoch, "s")
    m.report("augmented: card busy in the middle", 100 * m.keep_profile("job", clock.profiler, clock.wall), "%")


def _clocked(m: Measurement, work: Callable[[], object]) -> float:
    synchronise(m.device)
    start = time.perf_counter()
    work()
    synchronise(m.device)
    return time.perf_counter() - start
