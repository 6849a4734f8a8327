"""What callers may ask of a mapping, each declared once: the same objects from the command line, Python and workers."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from numbers import Integral
from pathlib import Path
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, get_args, overload

from geohp.errors import ConfigError, ModelError, VectorError

Refinement = Literal["crf"]
OnReadError = Literal["stop", "nodata"]

QUANTITIES = ("confidence", "entropy", "probabilities")
"""Rasters to be had besides the labels: the winner's share, the entropy of all shares (1: all alike), the shares."""

LARGEST_PATCH_PX = 8192
"""Side of the largest image that a model may be trained on at once; a batch of one takes a gigabyte by then."""

MOST_SEED = 2**32 - 1
"""numpy's, and so scikit-learn's, know no larger ones."""

_MOST_CLASSES = 254
_MOST_ROUNDS = 5  # nobody can see more


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How classes are found on the scenes themselves, where no model is given.

    Attributes:
        classes: how many; ``None`` asks for nothing, and gives 6 where nothing else says what to use.
        backbone: ``rcf``, ``aerial3``, a vision transformer by timm's name, or ``NAME+aerial3`` for both.
        weights: file with the backbone's weights.
        block: of the backbone, counted from 0; -1 is the last.
        bands: by number, name or colour; "nir=4" is both.
        scaling: ``auto``, ``type``, ``percentiles:2,98``, ``percentiles-per-band:2,98`` or ``LOW,HIGH``.
        seed: of everything random.
        split_covers: let vegetation, open ground and water be as many classes as come out, not one each.
    """

    classes: int | None = None
    backbone: str | None = None
    weights: str | Path | None = None
    block: int | None = None
    bands: int | str | Sequence[int | str] | None = None
    scaling: str | None = None
    seed: int = 0
    split_covers: bool = False

    def check_fit(self) -> None:
        """Refuse numbers of classes that no map holds, and seeds that are none.

        Raises:
            ConfigError: with those that can be.
        """
        asked: dict[str, Any] = {"classes": self.classes, "seed": self.seed}
        for name, least, most in (("classes", 1, _MOST_CLASSES), ("seed", 0, MOST_SEED)):
            value = asked[name]
            if value is not None and not (isinstance(value, Integral) and least <= int(value) <= most):
                raise ConfigError(f"{{option}}: {value!r}", f"give a whole number from {least} to {most}", option=name)


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How a scene is cut into windows, and what the model sees of them.

    Attributes:
        overlap: share of a window's side that neighbours share, from 0 to below 1.
        window_px: side of a window in scene pixels.
        pixel_size_m: ground sampling distance at which the model sees the scene; that of the imagery it was trained on
            by default, 0 for the scene's own.
        tta: average over flips and rotations of each window (test-time augmentation).
        refine: ``crf`` to fit the map to the scene's own outlines.
    """

    overlap: float = 0.25
    window_px: int | None = None
    pixel_size_m: float | None = None
    tta: bool = False
    refine: Refinement | None = None

    def check_windows(self) -> None:
        """Refuse what cannot be.

        Raises:
            ConfigError: there is no such refinement.
            ModelError: the overlap is not between 0 and 1, or the window or the pixel size is not positive.
        """
        if not 0 <= self.overlap < 1:
            raise ModelError(f"overlap {self.overlap}: must be at least 0 and below 1, a share of the window")
        if self.window_px is not None and self.window_px < 1:
            raise ModelError(f"window {self.window_px}: must be a positive number of pixels")
        if self.pixel_size_m is not None and not 0 <= self.pixel_size_m < math.inf:
            raise ModelError(f"pixel size {self.pixel_size_m}: must be a number of metres, or 0 for the scene's own")
        if self.refine is not None and self.refine not in get_args(Refinement):
            raise ConfigError(f"refine {self.refine!r}: must be {' or '.join(get_args(Refinement))}, or left out")


@dataclass(frozen=True, kw_only=True)
class AreaOptions:
    """Which part of the imagery is meant.

    Attributes:
        aoi: area of interest, everything by default: a file of polygons in any CRS; west, south, east and north in
            degrees; a GeoDataFrame or GeoSeries.
        aoi_layer: the layer of a file that has several.
    """

    aoi: Any = None
    aoi_layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtentOptions(AreaOptions):
    """Which part of a scene is mapped.

    Attributes:
        crop: the map is the smallest part of the scene's pixel grid that holds the area, not all of it.
    """

    crop: bool = False


@dataclass(frozen=True, kw_only=True)
class PolygonOptions:
    """The shape of polygons.

    Attributes:
        min_area_m2: regions of less join the neighbour with which they share the longest border.
        simplify_m: tolerance of simplification in metres; shared borders stay shared.
        smooth: rounds of corner cutting after that.
        simplify_boundary: also simplify the margins of areas without data, which may then be covered a little.

    Raises:
        VectorError: a number that is none of these.
    """

    min_area_m2: float = 0
    simplify_m: float = 0
    smooth: int = 0
    simplify_boundary: bool = False

    def __post_init__(self) -> None:
        for name, value in (("min_area_m2", self.min_area_m2), ("simplify_m", self.simplify_m)):
            if not 0 <= value < math.inf:
                raise VectorError(f"{{option}}: {value} is no size", "give a number of at least 0", option=name)
        if not 0 <= self.smooth <= _MOST_ROUNDS:
            problem = f"{{option}}: {self.smooth} is no number of rounds"
            raise VectorError(problem, f"give one from 0 to {_MOST_ROUNDS}", option="smooth")


Fields = ParamSpec("Fields")
Options = TypeVar("Options")
A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")


class keywords(Generic[Fields, Options]):  # noqa: N801 - a decorator
    """Let a function whose last parameter is an options object be called with the fields of that object instead.

    ``@keywords(WindowOptions)`` makes of ``f(scene, options)`` what is called as ``f(scene, overlap=0.5)``: for the
    type checker, for ``help()`` and in messages as if every field were a parameter of the function.
    """

    def __init__(self, options: Callable[Fields, Options]) -> None:
        self._options: Callable[..., Options] = options

    @overload
    def __call__(self, function: Callable[[A, Options], R]) -> Callable[Concatenate[A, Fields], R]: ...
    @overload
    def __call__(self, function: Callable[[A, B, Options], R]) -> Callable[Concatenate[A, B, Fields], R]: ...
    def __call__(self, function: Callable[..., R]) -> Callable[..., R]:
        """What takes the fields."""
        own = inspect.signature(function)
        *subjects, _ = own.parameters.values()
        signature = own.replace(parameters=[*subjects, *inspect.signature(self._options).parameters.values()])

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            _refuse_unknown(function, signature, kwargs)
            bound = signature.bind(*args, **kwargs).arguments
            positional = [bound.pop(subject.name) for subject in subjects]
            return function(*positional, self._options(**bound))

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call


def _refuse_unknown(function: Callable[..., Any], signature: inspect.Signature, given: Iterable[str]) -> None:
    """Raise the TypeError that Python raises of a function, with the nearest name that there is."""
    for name in given:
        if name not in signature.parameters:
            within = [known for known in signature.parameters if known in name or name in known]  # min_area, n_classes
            near = difflib.get_close_matches(name, within or signature.parameters, n=1, cutoff=0.0 if within else 0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")
