"""Ways to and from a GPU on which the host waits for nothing that the GPU still has to do.

From and to ordinary memory a copy waits for all work before it, and work asked for by other threads waits with it; from
and to page-locked memory it takes its turn. Such memory is slow to get: PyTorch hands pieces out again once the copies
are over that they were part of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geohp.classes import NODATA_LABEL

UInt8 = NDArray[np.uint8]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def is_asynchronous(device: torch.device) -> bool:
    """Whether a device goes on computing while the host does something else, and so should never be waited for idly."""
    return device.type != "cpu"


def milestone(device: torch.device) -> Callable[[], None]:
    """What waits until a GPU has done all that it has been asked for so far; other devices are not waited for."""
    if device.type != "cuda":
        return lambda: None
    event: torch.cuda.Event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


@dataclass(frozen=True)
class LayersToHost:
    """Layers on their way to the host.

    Attributes:
        layers: (..., height, width) uint8; of a GPU's, where they arrive.
        arrived: waits for them; ``None`` where they need not be.
    """

    layers: Mapping[str, Tensor]
    arrived: Callable[[], None] | None = None

    @classmethod
    def send(cls, layers: Mapping[str, Tensor]) -> LayersToHost:
        """Begin to copy layers that are all on one device."""
        device = next(iter(layers.values())).device
        if device.type != "cuda":
            return cls(layers)
        arriving = {
            name: torch.empty(layer.shape, dtype=layer.dtype, pin_memory=True) for name, layer in layers.items()
        }
        for name, layer in layers.items():
            arriving[name].copy_(layer, non_blocking=True)
        return cls(arriving, milestone(device))

    def wait(self, valid: NDArray[np.bool_]) -> dict[str, UInt8]:
        """The layers, 255 where a pixel is not valid, once they are there.

        Args:
            valid: (height, width).
        """
        if self.arrived is not None:
            self.arrived()
            # Copies: page-locked memory is for the next block's.
            return {name: np.where(valid, layer.numpy(), np.uint8(NODATA_LABEL)) for name, layer in self.layers.items()}
        arrays = {name: layer.cpu().numpy() for name, layer in self.layers.items()}
        for array in arrays.values():
            array[..., ~valid] = NODATA_LABEL
        return arrays
