"""A GPU that there is not: tensors sent to it stay where they are, and say that they are on ``cuda:0``.

Values are computed by the CPU, so that whole trainings and maps run as they would on a card; whatever a card would
refuse is refused: operations on tensors of two devices, arrays made of tensors that nobody fetched, generators of
another device, and, as Apple's GPUs do, float64. What it cannot show: kernels of a card, its memory, and what happens
within backward passes.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CARD, HOST = torch.device("cuda:0"), torch.device("cpu")

TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu"

_ANY_DEVICE = {
    "copy_", "to", "type_as", "view_as", "expand_as", "reshape_as", "__set__", "_has_compatible_shallow_copy_type",
}  # fmt: skip
"""Operations that take one tensor's values or shape to another, wherever it is."""
_NO_SCALARS = {"cat", "stack", "concat", "searchsorted", "bucketize", "index_select", "gather", "scatter_add_"}
"""Those that do not even take a number that lies on the CPU."""
_INDEXING = {"__getitem__", "__setitem__", "index_put_"}
_AS_ARRAYS = {"numpy", "__array__", "__dlpack__"}


class OnCard(Tensor):
    """A tensor on the pretended card."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        return _call(function, arguments, options or {})

    def record_stream(self, _):
        """Nothing is in use any more."""

    def __reduce_ex__(self, protocol):
        return self.cpu().__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = _put(self.detach().clone(), self).requires_grad_(self.requires_grad)
        return memo[id(self)]


class ParameterOnCard(OnCard, torch.nn.Parameter):
    """A parameter on it."""


class Card(TorchFunctionMode):
    """Sees what is sent to the card, made on it, and computed there."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        return _call(function, arguments, options or {})


class Event:
    """A mark in the card's work, which is done as soon as it is asked for."""

    def __init__(self, *_, **__):
        pass

    def record(self, *_):
        pass

    def wait(self, *_):
        pass

    def query(self):
        return True

    def synchronize(self):
        pass


class Stream(Event):
    """An order of work, which is done at once in whatever order."""

    def wait_stream(self, _):
        pass

    def wait_event(self, _):
        pass

    def record_event(self, event=None):
        return event or Event()


@contextmanager
def pretended_card():
    """A card for as long as this lasts, in all threads begun meanwhile; ``device="auto"`` takes it."""
    with pytest.MonkeyPatch.context() as patch:
        _answer_for_cuda(patch)
        _compute_half_on_the_cpu(patch)
        _enter_in_threads(patch)
        with Card():
            yield


def _answer_for_cuda(patch: pytest.MonkeyPatch) -> None:
    """What there is to be asked of a card, an old one, for which there are no fused kernels."""
    patch.setattr("geohp.model.device._has_driver", lambda: True)
    about = SimpleNamespace(name="a pretended card", total_memory=2**34, major=7, minor=0, multi_processor_count=80)
    answers = {
        "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0,
        "get_device_capability": (7, 0),
        "get_device_properties": about, "get_device_name": about.name, "mem_get_info": (2**33, 2**34),
        "set_device": None, "empty_cache": None, "synchronize": None, "set_rng_state_all": None,
        "reset_peak_memory_stats": None, "manual_seed_all": None, "manual_seed": None, "init": None,
    }  # fmt: skip
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    patch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.get_rng_state()])
    patch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    patch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    patch.setattr(torch.cuda, "Event", Event)
    patch.setattr(torch.cuda, "Stream", Stream)
    for name in ("current_stream", "default_stream"):
        patch.setattr(torch.cuda, name, Stream)
    patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    patch.setattr(torch.cuda, "device", lambda _: nullcontext())
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        patch.setattr(torch.optim.Optimizer, name, lambda _: None, raising=False)


def _compute_half_on_the_cpu(patch: pytest.MonkeyPatch) -> None:
    right, enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    class Autocast(right):
        def __init__(self, device_type, *arguments, **options):
            super().__init__("cpu", *arguments, **options)

    patch.setattr(torch, "autocast", Autocast)
    patch.setattr(torch, "is_autocast_enabled", lambda *_: enabled("cpu"))
    patch.setattr(torch, "get_autocast_dtype", lambda *_: dtype("cpu"))


def _enter_in_threads(patch: pytest.MonkeyPatch) -> None:
    """Modes are those of a thread."""
    run = threading.Thread.run

    def run_beside_the_card(thread):
        with Card():
            run(thread)

    patch.setattr(threading.Thread, "run", run_beside_the_card)


def _call(function, arguments, options):
    """What an operation does, where it does it, or the error that a card would answer with."""
    name = function.__name__
    if name == "__deepcopy__":  # its second argument is everything copied before
        return function(*arguments)
    tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
    on_card = [isinstance(tensor, OnCard) for tensor in tensors]
    attribute = getattr(getattr(function, "__self__", None), "__name__", "")
    if any(on_card) and name == "__get__" and attribute in ("device", "is_cuda", "is_cpu"):
        return {"device": CARD, "is_cuda": True, "is_cpu": False}[attribute]
    if any(on_card) and name in _AS_ARRAYS:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to host first.")
    if name == "pin_memory":
        return _pinned(arguments[0])
    if any(on_card) and not all(on_card):
        _check(name, tensors, on_card)
    if options.get("out_dtype") is not None:
        # Products of halves in float32, which CPUs have not.
        arguments = tree_map_only(Tensor, lambda tensor: tensor.to(options["out_dtype"]), arguments)
        options = {key: value for key, value in options.items() if key != "out_dtype"}
    arguments, options, asked = _without_device(name, arguments, options)
    place = asked or _place(name, tensors, on_card)
    if place == CARD and isinstance(options.get("generator"), torch.Generator):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    with torch._C.DisableTorchFunctionSubclass():
        result = function(*arguments, **options)
    if name == "__set__" and attribute == "data":
        _put(tensors[0], tensors[1])
        return result
    moved = asked is not None or name in ("cpu", "cuda")
    if moved and isinstance(result, Tensor) and any(result is tensor for tensor in tensors):
        if isinstance(result, OnCard) == (place == CARD):
            return result
        with torch._C.DisableTorchFunctionSubclass():
            result = result.clone()  # a copy elsewhere has values of its own
    for tensor in tree_leaves(result) if place == CARD else ():
        if isinstance(tensor, Tensor):
            _put(tensor)
    return result


def _check(name, tensors, on_card) -> None:
    """Tensors of two devices meet: is that something that a card does all the same?"""
    if name in _ANY_DEVICE or name in ("cpu", "cuda"):
        return
    strangers = [tensor for tensor, there in zip(tensors, on_card, strict=True) if there != on_card[0]]
    if name in _INDEXING:
        # Places may be on the CPU; what is put there may not, unless there is no list of places.
        if on_card[0] and (name == "__getitem__" or on_card[-1] or len(tensors) == 2 or tensors[-1].ndim == 0):
            return
        if name == "__setitem__" and len(tensors) == 2:
            return
    elif name not in _NO_SCALARS and all(
        tensor.ndim == 0 for tensor, there in zip(tensors, on_card, strict=True) if not there
    ):
        return
    raise RuntimeError(
        f"{TWO_DEVICES}: {name} of {[tuple(each.shape) for each in tensors]}, {len(strangers)} elsewhere"
    )


def _pinned(tensor: Tensor) -> Tensor:
    """A copy in memory that a card would read from."""
    if isinstance(tensor, OnCard):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    return tensor.clone()


def _without_device(name, arguments, options):
    """Arguments that name no card; and the device that they named, if any."""
    asked, kept = None, dict(options)
    if name == "cuda":
        return arguments[:1], {}, CARD
    kept.pop("pin_memory", None)
    if kept.get("device") is not None:
        asked = _device(kept["device"])
        kept["device"] = _really(asked)
    if name == "to" and asked is None:
        changed = []
        for argument in arguments[1:]:
            if isinstance(argument, Tensor):
                asked = CARD if isinstance(argument, OnCard) else HOST
            elif isinstance(argument, (str, torch.device, int)) and not isinstance(argument, bool):
                asked = _device(argument)
                argument = _really(asked)
            changed.append(argument)
        arguments = (arguments[0], *changed)
    return arguments, kept, asked


def _place(name, tensors, on_card):
    """Where the result of an operation lies whose arguments do not say."""
    if name == "cpu" or not any(on_card):
        return HOST
    return CARD if name not in _ANY_DEVICE or on_card[0] else HOST


def _device(named) -> torch.device:
    device = CARD if isinstance(named, int) else torch.device(named)
    return CARD if device.type == "cuda" else device


def _really(device: torch.device) -> torch.device:
    """Where what is to be on a device lies."""
    return HOST if device == CARD else device


def _put(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """A tensor made on the card, as a parameter where it is, or is to be like one."""
    if like is not None and not isinstance(like, OnCard):
        if isinstance(tensor, OnCard):
            tensor.__class__ = torch.nn.Parameter if isinstance(tensor, ParameterOnCard) else Tensor
        return tensor
    if tensor.dtype == torch.float64:
        raise TypeError("the card has no float64")
    if type(tensor) is torch.nn.Parameter or isinstance(like, ParameterOnCard):
        tensor.__class__ = ParameterOnCard
    elif not isinstance(tensor, OnCard):
        tensor.__class__ = OnCard
    return tensor
