"""The device that a model computes on."""

from __future__ import annotations

import torch

from geohp.errors import ModelError


def torch_device(name: str) -> torch.device:
    """The device a user means; ``auto`` is a GPU where there is one.

    Raises:
        ModelError: when the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, usable in available.items() if usable))
    if not available.get(name.split(":")[0], False):
        raise ModelError(f"device {name}: not available here", "use {option} or cpu", option="device", value="auto")
    return torch.device(name)
