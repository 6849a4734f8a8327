"""What makes a host wait for a GPU, noted where there is none."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


def need_pretended_tensors():
    """Skip a test where torch asks a driver before it indexes a tensor that only claims to lie on a GPU (2.9 does)."""
    with FakeTensorMode():
        tensor = torch.empty(2, device="cuda")
        try:
            tensor[:1]
        except RuntimeError as error:
            pytest.skip(
                f"torch needs a driver even for tensors that only claim to lie on a GPU: {error}".split("\n")[0]
            )


def _blocks(to, values, non_blocking=False):
    """Whether a copy does; a single value travels with the call."""
    return bool(values.ndim) and values.device != to.device and not non_blocking


class Waits(TorchDispatchMode):
    """Notes what makes a host wait for a GPU: values asked for, sizes that depend on values, copies that block."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        name = str(function)
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select", "unique")):
            self.seen.append(name)
        if name.startswith("aten.index") and isinstance(arguments[1], (list, tuple)):
            places = [each for each in arguments[1] if each is not None]
            if any(each.dtype == torch.bool or each.device != arguments[0].device for each in places):
                self.seen.append(f"{name} by a mask, or from another device")
        if "_to_copy" in name and arguments[0].device != result.device:
            to_host = result.device.type == "cpu"
            if to_host or not (options or {}).get("non_blocking"):
                self.seen.append(f"{name} from {arguments[0].device} to {result.device}")
        if name.startswith("aten.copy_") and _blocks(*arguments):
            self.seen.append(f"{name} from {arguments[1].device} to {arguments[0].device}")
        return result
