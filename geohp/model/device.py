"""The device that a model computes on."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.errors import ModelError

if TYPE_CHECKING:
    import torch

_NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_NVIDIA = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_AMD = Path("/dev/kfd")


def check_device(name: str) -> None:
    """Refuse a device that there cannot be here, without asking torch.

    Raises:
        ModelError: no name of a device, a GPU without its driver, or ``mps`` elsewhere than on macOS.
    """
    if _NAMES.fullmatch(name) is None:
        raise ModelError(f"device {name}: there is no such kind of device", "use auto, cpu, cuda or mps")
    if (name == "mps" and sys.platform != "darwin") or (name.startswith("cuda") and not _has_driver()):
        raise _unavailable(name)


def torch_device(name: str) -> torch.device:
    """The device a user means; ``auto`` is a GPU where there is one.

    Raises:
        ModelError: when the device asked for is not there.
    """
    import torch

    check_device(name)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, usable in available.items() if usable))
    if not available[name.split(":")[0]]:
        raise _unavailable(name)
    return torch.device(name)


def _unavailable(name: str) -> ModelError:
    return ModelError(f"device {name}: not available here", "use {option} or cpu", option="device", value="auto")


def _has_driver() -> bool:
    """Whether there is a driver of a GPU; torch alone knows whether it can use it."""
    try:
        ctypes.CDLL(_NVIDIA)
    except OSError:
        return _AMD.exists()
    return True
