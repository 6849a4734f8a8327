"""Tensors out of weight files and checkpoints, whoever wrote them, without ever running code from a file.

Torch's files are pickles. They are read by torch's restricted unpickler, which builds tensors and plain containers
alone. Training checkpoints also carry their settings as objects of configuration libraries and of Lightning; those
are not needed, so inert stand-ins take their place, and their own classes are never looked up. A file that names
anything else is refused.
"""

from __future__ import annotations

import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from geohp.backbones.weight_paths import check_weight_file
from geohp.errors import WeightsError

# What settings and training state are made of: whole libraries by the beginning of the name, ...
_SETTINGS_OF = (
    "omegaconf.",
    "typing.",
    "argparse.",
    "collections.",
    "lightning.",
    "lightning_fabric.",
    "pytorch_lightning.",
    "torchmetrics.",
)
# ... and of the standard library and numpy only what holds values, or makes up types such as Dict[str, Any].
_VALUES = frozenset(
    {f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "frozenset", "int", "list", "str", "tuple")}
    | {f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")}
    | {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")}
    | {"numpy.dtype", "numpy.ndarray", "_operator.getitem", "types.GenericAlias"}
)


def read_state(path: Path) -> dict[str, Tensor]:
    """All tensors in a weight file or checkpoint by their dotted names; never runs code from the file.

    Raises:
        WeightsError: when the file is missing, damaged, of another kind, or holds objects that could run code.
    """
    check_weight_file(path)
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_stand_ins(path)):
            return dict(_tensors(torch.load(path, map_location="cpu", weights_only=True)))
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})", "check its permissions") from error
    except Exception as error:  # each format fails in its own ways, and all mean the same to the user
        if re.search("Unsupported (global|class)|unsupported GLOBAL|allowed global|unrecognized function", str(error)):
            raise WeightsError(_could_run_code(path, "Python objects besides tensors")) from error
        raise WeightsError(f"{path}: damaged or not a weight file", "download or copy it again") from error


class _StandIn:
    """Takes the place of any object or function, swallows whatever belongs to it, and does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _DictStandIn:
    """The same for kinds of dictionaries, whose entries torch puts into dictionaries of its own choice alone."""

    def __new__(cls, *_: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _ListStandIn:
    """The same for kinds of lists."""

    def __new__(cls, *_: Any) -> list[Any]:  # type: ignore[misc]
        return []


def _stand_ins(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What to put in the place of the settings that a file names.

    Raises:
        WeightsError: when it names anything else.
    """
    if not zipfile.is_zipfile(path):  # torch's format before 1.6 tells no names beforehand
        return [(_StandIn, "argparse.Namespace")]
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    foreign = sorted(name for name in names if not (name in _VALUES or name.startswith(_SETTINGS_OF)))
    if foreign:
        raise WeightsError(_could_run_code(path, foreign[0]))
    return [(_stand_in_for(name), name) for name in names]


def _stand_in_for(name: str) -> Any:
    if name == "collections.deque":
        return _ListStandIn
    return _DictStandIn if name.lower().endswith("dict") else _StandIn


def _could_run_code(path: Path, what: str) -> str:
    return f"{path}: holds {what}, which could run code; save its state dict alone"


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dictionaries under dotted names; everything else (epochs, options) is passed over."""
    if isinstance(value, Tensor):
        if value.layout == torch.strided and not value.is_quantized and not value.is_meta:
            yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key))
