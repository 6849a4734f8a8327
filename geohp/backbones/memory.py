"""Where a device's memory does not do for all images at once: half as many."""

from __future__ import annotations

import logging
import math

import torch

logger = logging.getLogger(__name__)


def half_as_many(at_once: int, device: torch.device, what: str) -> int:
    """How many to go on with, rounded up, and the memory that nobody uses given back.

    To be called when the :class:`torch.OutOfMemoryError` has been handled: while it is, its frames hold their tensors.

    Args:
        at_once: how many were too many, at least 2.
        device: where.
        what: they are, in the plural, for the log.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    fewer = math.ceil(at_once / 2)
    logger.warning("%s ran out of memory; going on with %d %s at once", device, fewer, what)
    return fewer
