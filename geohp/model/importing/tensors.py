"""The tensors of a foreign checkpoint, handed out by name where they are there and fit, refused in words otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Size, Tensor, isfinite, nn

from geohp.errors import ModelError

_REMEDY = "give the checkpoint as it was released"


class CheckpointTensors:
    """What a checkpoint holds.

    Names are without what DataParallel puts into them (``module.``) and what Lightning puts before them
    (``state_dict.``).

    Args:
        path: the file, for messages.
        tensors: its tensors by their dotted names.

    Attributes:
        tensors: the same by their plain names.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path = path
        self.tensors = {
            re.sub(r"(^|\.)module\.", r"\1", name.removeprefix("state_dict.")): tensor
            for name, tensor in tensors.items()
        }

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def rows(self, name: str, width: int) -> int:
        """How many rows a matrix, or 1x1 convolution, over vectors of that width has.

        Raises:
            ModelError: when it is not there, or is none over such vectors.
        """
        tensor = self._get(name)
        if tensor.ndim not in (2, 4) or tensor.shape[1:].numel() != width or not len(tensor):
            raise self._misfit(name, f"N x {width}")
        return len(tensor)

    def fill(self, module: nn.Module, names: Mapping[str, str]) -> None:
        """Load a module.

        Args:
            module: filled in place.
            names: for each of its parameters the name here; 1x1 convolutions may be stored as matrices.

        Raises:
            ModelError: when one is not there, or of another shape.
        """
        state: dict[str, Tensor] = {}
        for own, name in names.items():
            expected, tensor = module.get_parameter(own).shape, self._get(name)
            matrix = expected[:2] if expected[2:] == Size((1, 1)) else expected
            if tensor.shape not in (expected, matrix):
                raise self._misfit(name, _size(expected))
            if not isfinite(tensor.float()).all():
                raise ModelError(f"{self.path}: {name} is not finite", _REMEDY)
            state[own] = tensor.reshape(expected)
        module.load_state_dict(state)

    def _get(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise ModelError(f"{self.path}: lacks {name}", _REMEDY)
        return self.tensors[name]

    def _misfit(self, name: str, expected: str) -> ModelError:
        size = _size(self.tensors[name].shape)
        return ModelError(f"{self.path}: {name} is {size}, where {expected} fits its other parts", _REMEDY)


def _size(shape: Size) -> str:
    return " x ".join(map(str, shape)) or "a number"
