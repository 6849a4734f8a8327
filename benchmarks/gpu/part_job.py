"""The whole job of Potsdam-3: features of 4,545 images once, then ten epochs; and with features anew each epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.training import cache, sampler, train
from benchmarks.measuring import synchronise
from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone

_REFERENCE_LOSS_S = 0.3
_VIEW_FLOP = 156e9
"""Of an image through ViT-B/8 at 224 px; the reference takes two views a step."""


def measure(m: Measurement) -> None:
    """Times of the parts, beside an estimate of the reference's."""
    sizes = m.sizes
    torch.manual_seed(0)
    backbone = create_backbone(sizes.backbone, weights="random")
    workers = min(14, (os.cpu_count() or 1) - 2) if m.on_card else 0
    _kept(m, backbone, workers)
    _augmented(m, backbone, workers)


def _kept(m: Measurement, backbone: Backbone, workers: int) -> None:
    """Features once, then all epochs on them."""
    sizes = m.sizes
    features = sampler(m, backbone, sizes.set_images, workers=workers)
    caching = _clocked(m, lambda: cache(features))
    m.report("features of all images, once", caching, "s")
    m.report("features kept in", str(features.place))
    training = _clocked(m, lambda: train(m, features, sizes.epochs))
    steps = sizes.epochs * (sizes.set_images // sizes.images)
    m.report("training on kept features", training, "s")
    m.report("whole job", caching + training, "s", most=300)
    views = 2 * sizes.images * _VIEW_FLOP / m.products_per_second
    reference = steps * (views + _REFERENCE_LOSS_S)
    m.report("the reference, estimated: two views a step and 0.3 s of loss", reference, "s")
    m.report("times faster than that", reference / (caching + training), "x", least=1)


def _augmented(m: Measurement, backbone: Backbone, workers: int) -> None:
    """An epoch with random augmentation: images are read and encoded anew."""
    features = sampler(m, backbone, m.sizes.set_images, augmented=True, workers=workers)
    epoch = _clocked(m, lambda: train(m, features, 1))
    m.report("an epoch with augmentation, its start included", epoch, "s")
    m.report("all epochs with augmentation, at most", m.sizes.epochs * epoch, "s")


def _clocked(m: Measurement, work: Callable[[], object]) -> float:
    synchronise(m.device)
    start = time.perf_counter()
    work()
    synchronise(m.device)
    return time.perf_counter() - start
