"""Forward passes in batches of one size: padded, in half precision on a GPU, and smaller where memory runs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.backbones.memory import half_as_many
from geohp.errors import ModelError
from geohp.inference.engine.transfer import to_device


class Scorer(Protocol):
    """What the engine needs of a model."""

    @property
    def clusters(self) -> int:
        """Number of classes K."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (B, K + 1, h, w) of images (B, bands, H, W) in [0, 1]; see ``LandCoverModel``."""


_CPU_PIXELS = 1 << 18
"""A CPU gains nothing from more at once: beyond a window of 512 px, batches only cost memory, and often time."""


class Runner:
    """Runs a model on windows.

    Args:
        model: what to run, where it is.
        batch_size: windows a forward pass at most; on a CPU fewer, where windows are large.
        total: how many windows there will be at most; they are spread evenly over as few batches as possible.
        input_shape: rows and columns of a window as the model sees it; others are resized, bilinear, antialiased.
        channels: how many of the scores' channels there are to be.
        tta: average over the eight flips and rotations of each window.

    Attributes:
        at_once: windows a forward pass. Fewer are padded to as many: rounding inside a matrix product may depend on
            its size, and the result of a window must not depend on its neighbours. Halved when memory runs out.
    """

    def __init__(
        self,
        model: Scorer,
        batch_size: int,
        total: int,
        input_shape: tuple[int, int],
        channels: int,
        *,
        tta: bool = False,
    ) -> None:
        self.model, self.input_shape, self.channels = model, input_shape, channels
        self.views = list(symmetries()) if tta else [(_same, _same)]
        if model.device.type == "cpu":
            batch_size = min(batch_size, max(1, _CPU_PIXELS // math.prod(input_shape)))
        self._sending = _stream(model.device) if model.device.type == "cuda" else None
        self.at_once = math.ceil(total / math.ceil(total / batch_size)) if total else batch_size

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (n, channels, h, w) float32, on the model's device, of images (n, bands, rows, cols) on the CPU.

        A GPU is not waited for.
        """
        done: list[Tensor] = []
        while (start := sum(map(len, done))) < len(images):
            part = images[start : start + self.at_once]
            try:
                done.append(self._scores(self._resized(self._padded(self._sent(part))))[: len(part)])
                continue
            except torch.OutOfMemoryError as error:
                if self.at_once == 1:
                    raise ModelError(
                        f"device {self.model.device}: not enough memory for a single window",
                        "use a smaller {option}",
                        option="window_px",
                    ) from error
            self.at_once = half_as_many(self.at_once, self.model.device, "windows")
        return done[0] if len(done) == 1 else torch.cat(done)

    def _sent(self, images: Tensor) -> Tensor:
        """Images on the model's device; they go to a GPU while it still computes what it was asked for before."""
        if self._sending is None:
            return to_device(images, self.model.device)
        computing = torch.cuda.current_stream(self.model.device)
        with torch.cuda.stream(self._sending):
            images = to_device(images, self.model.device)
        computing.wait_stream(self._sending)
        images.record_stream(computing)
        return images

    def _padded(self, images: Tensor) -> Tensor:
        """As many as always."""
        if len(images) == self.at_once:
            return images
        return torch.cat([images, images.new_zeros(self.at_once - len(images), *images.shape[1:])])

    def _resized(self, images: Tensor) -> Tensor:
        """As large as the model is to see them; on its device, where a GPU does it far faster."""
        if images.shape[-2:] == self.input_shape:
            return images
        return F.interpolate(images, size=self.input_shape, mode="bilinear", antialias=True)

    @torch.inference_mode()
    def _scores(self, images: Tensor) -> Tensor:
        total: Tensor | None = None
        # Scores of half-precision features differ from exact ones in the third digit; that is asked of GPUs only.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
            for turn, turn_back in self.views:
                scores = turn_back(self.model(turn(images))[:, : self.channels].float())
                total = scores if total is None else total + scores
        assert total is not None
        return total if len(self.views) == 1 else total / len(self.views)


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


View = Callable[[Tensor], Tensor]


def _same(maps: Tensor) -> Tensor:
    return maps


def symmetries() -> Iterator[tuple[View, View]]:
    """The symmetries of the square: how to turn images, and how to turn maps of them back."""
    for turns in range(4):
        for flipped in (False, True):

            def turn(maps: Tensor, turns: int = turns, flipped: bool = flipped) -> Tensor:
                turned = torch.rot90(maps, turns, (2, 3))
                return turned.flip(3) if flipped else turned

            def turn_back(maps: Tensor, turns: int = turns, flipped: bool = flipped) -> Tensor:
                return torch.rot90(maps.flip(3) if flipped else maps, -turns, (2, 3))

            yield turn, turn_back
