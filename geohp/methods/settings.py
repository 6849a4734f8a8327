"""What the settings of a method have in common: frozen dataclasses that a configuration checks, and code takes as is.

Nothing here needs torch, or pydantic: the latter asks these classes how they are to be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Bounds:
    """The range of a number, as an annotation of its type.

    Attributes:
        ge, gt, le, lt: at least, above, at most, below.
        auto: ``auto`` stands for ``None`` in a configuration: the number then follows from the data.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    auto: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        number = schema["schema"] if self.auto else schema  # within what may be None
        bounds = {"ge": self.ge, "gt": self.gt, "le": self.le, "lt": self.lt}
        number.update({name: bound for name, bound in bounds.items() if bound is not None})
        if not self.auto:
            return schema
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_none_for_auto, schema)


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
