"""Out of memory: engine, encoder and training go on with fewer at once, and give what they would have given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.problems import CLASSES, land_cover_model
from benchmarks.gpu.training import Pooled, cache, sampler, train
from geohp.backbones.base import PatchFeatures
from geohp.features.encoder import FrozenEncoder
from geohp.inference.engine.forward import Runner

_SHARE = 0.75
"""Of the memory that the tensors of all at once take; the allocator reserves more, and would give that up first."""


def measure(m: Measurement) -> None:
    """Each with less memory than it needs: the card's own limit, or on a CPU a seam that says so."""
    _engine(m)
    _encoder(m)
    _training(m)


@contextmanager
def scarce(m: Measurement, what: str, work: Callable[[], object]) -> Iterator[None]:
    """A part of the memory that some work takes."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    needed = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    m.note(f"{what}: all at once take {needed / 1e9:.2f} GB, {_SHARE:.0%} of it is allowed")
    total = torch.cuda.get_device_properties(m.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + _SHARE * needed) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def refusing(function: Callable[..., object], most: int, count: Callable[..., int]) -> Callable[..., object]:
    """The seam: a function that runs out of memory for more than so many images."""

    def call(*arguments: object, **options: object) -> object:
        if count(*arguments) > most:
            raise torch.OutOfMemoryError("as provoked")
        return function(*arguments, **options)

    return call


class Refusing:
    """A model with such a limit."""

    def __init__(self, model: Callable[[Tensor], Tensor], device: torch.device, most: int) -> None:
        self.clusters, self.device = CLASSES, device
        self._call = refusing(model, most, len)

    def __call__(self, images: Tensor) -> Tensor:
        """Its scores, for few images."""
        return self._call(images)  # type: ignore[return-value]


def _engine(m: Measurement) -> None:
    model = land_cover_model(m.sizes.small_backbone, m.sizes, m.device)
    side, count = m.sizes.window_px, 4 * m.sizes.windows
    images = torch.rand(count, 3, side, side)

    def runner(scorer: object) -> Runner:
        made = Runner(scorer, count, count, (side, side), CLASSES + 1)  # type: ignore[arg-type]
        made.at_once = count  # on a CPU, too
        return made

    wanted = runner(model)(images).cpu()
    if m.on_card:
        with scarce(m, "engine", lambda: runner(model)(images)):
            limited = runner(model)
            got = limited(images).cpu()
    else:
        limited = runner(Refusing(model, model.device, count // 2))
        got = limited(images)
    m.report("engine: windows at once, of which all were too many", limited.at_once, most=math.ceil(count / 2))
    error = float((got - wanted).norm() / wanted.norm())
    m.report("engine: difference of the scores", 100 * error, "% of norm", most=0.5)


def _encoder(m: Measurement) -> None:
    torch.manual_seed(0)
    backbone = land_cover_model(m.sizes.small_backbone, m.sizes, m.device).backbone
    images = torch.rand(4 * m.sizes.images, 3, m.sizes.image_px, m.sizes.image_px)
    with torch.no_grad():
        encode = FrozenEncoder(backbone, len(images))
        wanted = encode(images).features.cpu()
        if not m.on_card:
            got = _encoded_by_a_refusing(backbone, images)
        else:
            with scarce(m, "encoder", lambda: FrozenEncoder(backbone, len(images))(images)):
                limited = FrozenEncoder(backbone, len(images))
                got = limited(images).features.cpu()
                m.report("encoder: images at once", limited._most or len(images), most=len(images) / 2)
    error = float((got - wanted).norm() / wanted.norm())
    # Products of fewer rows may be added up in another order: a digit of bfloat16.
    m.report("encoder: difference of the features", 100 * error, "% of norm", most=1)


def _encoded_by_a_refusing(backbone: nn.Module, images: Tensor) -> Tensor:
    class Limited(FrozenEncoder):
        images_at_once = None  # as on a card

    encoder = Limited(backbone, len(images))  # type: ignore[arg-type]

    def forward(normalised: Tensor, affinities: bool = True) -> PatchFeatures:
        if len(normalised) > len(images) // 2:
            raise torch.OutOfMemoryError("as provoked")
        return backbone.__class__.forward(backbone, normalised, affinities)

    backbone.forward = forward  # type: ignore[assignment]
    return encoder(images).features


def _training(m: Measurement) -> None:
    """An epoch of the loop: it ends, and its batches have been halved."""
    sizes = m.sizes
    features = sampler(m, Pooled(sizes.image_px // sizes.side, sizes.channels), 2 * sizes.images)
    cache(features)
    if m.on_card:
        with scarce(m, "training", lambda: train(m, features, 1)):
            task = train(m, features, 1)
    else:
        from unittest import mock

        from geohp.methods.hp.method import HP

        losses = refusing(HP.losses, sizes.images // 2, lambda method, batch: len(batch))
        with mock.patch.object(HP, "losses", losses):
            task = train(m, features, 1)
    m.report("training: parts of a batch", task._parts, least=2)
    m.report("training: steps made", task.steps_done, least=2)
    m.report("training: loss", float(task.figures["contrastive"]))
