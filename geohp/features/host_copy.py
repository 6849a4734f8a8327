"""Tensors brought to the host without making a GPU wait."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class HostCopy:
    """A tensor on its way to the host, which waits for it when it is asked for; for nothing that came after it.

    Args:
        tensor: on any device; of the host's nothing is copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._arrival = tensor, cast(Any, None)
        if tensor.is_cuda:
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor = host.copy_(tensor, non_blocking=True)
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrival.record()

    @property
    def arrived(self) -> bool:
        """Whether nothing has to be waited for."""
        return self._arrival is None or bool(self._arrival.query())

    def wait(self) -> Tensor:
        """The tensor, once it is there."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._tensor
