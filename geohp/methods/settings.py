"""What the settings of a method have in common: frozen dataclasses that a configuration checks, and code takes as is.

Nothing here needs torch, or pydantic: the latter asks these classes how they are to be checked.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Bounds:
    """The range of a number, as an annotation of its type.

    Attributes:
        ge, gt, le, lt: at least, above, at most, below.
        finite: neither infinite nor NaN.
        auto: ``auto`` stands for ``None`` in a configuration: the number then follows from the data.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    finite: bool = False
    auto: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        number = schema["schema"] if self.auto else schema  # within what may be None
        bounds = {"ge": self.ge, "gt": self.gt, "le": self.le, "lt": self.lt}
        number.update({name: bound for name, bound in bounds.items() if bound is not None})
        if self.finite:
            number["allow_inf_nan"] = False
        if not self.auto:
            return schema
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_none_for_auto, schema)

    def __get_pydantic_json_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(source)
        if self.auto:
            schema["anyOf"] = [{"const": "auto"}, *schema["anyOf"]]
        return schema


@dataclass(frozen=True)
class Listed:
    """A tuple that a configuration writes as a list, as an annotation of its type; it has at least one entry."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "strict": False, "min_length": 1}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A section of settings: in a configuration a mapping without unknown keys."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        schema = handler(source)
        # A strict configuration would take instances alone; its strictness about the values stays.
        schema["strict"] = False
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        schema = described(cls, handler(source), handler)
        handler.resolve_ref_schema(schema)["additionalProperties"] = False  # pydantic before 2.14 leaves it out
        return schema


def described(kind: type, schema: dict[str, Any], handler: Any) -> dict[str, Any]:
    """The JSON schema of a class with the meaning of each field, from its docstring, as its description.

    Args:
        kind: the class.
        schema: that pydantic gives it.
        handler: pydantic's, which knows what a reference stands for.
    """
    meanings = attribute_docstrings(kind)
    for name, field in handler.resolve_ref_schema(schema).get("properties", {}).items():
        if name in meanings:
            field["description"] = meanings[name]
    return schema


@cache  # sources are slow to find, and bases have many classes
def attribute_docstrings(kind: type) -> dict[str, str]:
    """The strings below the attributes of a class and of its bases, by attribute; none where there is no source."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            body = ast.parse(inspect.getsource(base)).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for attribute, below in pairwise(statements):
            match attribute, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    meanings[name] = inspect.cleandoc(text)
                case ast.AnnAssign(target=ast.Name(id=name)), _:  # declared anew without a word
                    meanings.setdefault(name, "")
    return {name: text for name, text in meanings.items() if text}


@dataclass(frozen=True)
class TrainingSize:
    """How much there is to train on.

    Attributes:
        images: that are trained on.
        batch_size: images a step, on each device.
        devices: that share the images.
        epochs: passes over them.
        max_steps: after which training ends, unless its epochs are over before.
    """

    images: int
    batch_size: int
    devices: int
    epochs: int
    max_steps: int | None = None

    @property
    def steps(self) -> int:
        """Of an epoch: images that fill no batch are left out, unless there is no whole batch at all."""
        return max(1, self.images // (self.batch_size * self.devices))

    @property
    def total_steps(self) -> int:
        """Of the whole training."""
        steps = self.steps * self.epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)


@dataclass(frozen=True, kw_only=True)
class MethodSettings(Settings):
    """The settings of a method; each method has a class of its own, with the defaults of its paper.

    Attributes:
        name: of the method, in configurations.
        iterative: it learns by gradient steps, so that it matters how many epochs there are.
        mirrored: its published figures average the codes of an image with those of its mirror image.
    """

    name: str
    iterative: ClassVar[bool] = True
    mirrored: ClassVar[bool] = False

    def resolve(self, size: TrainingSize) -> tuple[Self, list[str]]:
        """Every number that follows from the data made one, and a sentence for each that is, or has no effect."""
        return self, []


def _none_for_auto(value: object) -> object:
    return None if value == "auto" else value
