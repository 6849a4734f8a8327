"""Gives arrays of xarray their ``.geohp``, as soon as both are imported: geohp alone does not wait for xarray."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geohp.notebook.accessor import ArrayAccessor, DatasetAccessor

_NAME = "geohp"


def register_accessors() -> None:
    """Register now where xarray is there, else when somebody imports it."""
    xarray = sys.modules.get("xarray")
    if xarray is not None:
        _register(xarray)
    else:
        # Two of them, where geohp is imported anew, would ask each other without end.
        others = (finder for finder in sys.meta_path if type(finder).__qualname__ != _XarrayFinder.__qualname__)
        sys.meta_path[:] = _XarrayFinder(), *others


class _XarrayFinder(MetaPathFinder):
    """Finds xarray as others do, and has the accessors registered once somebody loads it."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "xarray":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Registering(spec.loader, self)
                return spec
        return None


class _Registering(Loader):
    """Loads a module as another loader does, and registers the accessors with it."""

    def __init__(self, loader: Loader, finder: _XarrayFinder) -> None:
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # who reads files of the package asks it for them
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register(module)
        with suppress(ValueError):
            sys.meta_path.remove(self._finder)


def _register(xarray: ModuleType) -> None:
    if not hasattr(xarray.DataArray, _NAME):
        xarray.register_dataarray_accessor(_NAME)(_array_accessor)
        xarray.register_dataset_accessor(_NAME)(_dataset_accessor)


# Whoever has no use for them does not wait for what they import.
def _array_accessor(array: Any) -> ArrayAccessor:
    from geohp.notebook.accessor import ArrayAccessor

    return ArrayAccessor(array)


def _dataset_accessor(dataset: Any) -> DatasetAccessor:
    from geohp.notebook.accessor import DatasetAccessor

    return DatasetAccessor(dataset)
