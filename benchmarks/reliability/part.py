"""What is tried: parts, their cases, and how a case ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Verdict = Literal["right", "refused", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        verdict: ``right``: the result was there and held against what it has to be; ``refused``: one sentence, a code
            for a mistake, nothing written; ``failed``: anything else.
        detail: a line: the sentence, or what failed.
        measures: figures by name, the unit in the name: ``seconds``, ``peak_mb``.
    """

    verdict: Verdict
    detail: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A case that was tried: its part, its number, what it was, how it ended."""

    part: str
    number: int
    case: str
    outcome: Outcome


@dataclass(frozen=True)
class Case:
    """Something to be tried.

    Attributes:
        name: what it is, in a few words.
        run: tries it, in an empty folder of its own that is removed afterwards.
    """

    name: str
    run: Callable[[Path], Outcome]


@dataclass(frozen=True)
class Part:
    """A kind of attack.

    Attributes:
        name: a word.
        title: its row in the table.
        case: the case of a number from 0 up; the same one whenever it is asked for.
        count: how many cases make it whole.
        endless: there are cases of all higher numbers, too, each drawn anew.
        figures: what its records say beside the counts, for the table; empty for nothing.
    """

    name: str
    title: str
    case: Callable[[int], Case]
    count: int
    figures: Callable[[Sequence[Record]], str] = lambda records: ""
    endless: bool = False


Kinds = Sequence[tuple[int, Callable[[int], Case]]]
"""How many cases of each kind, and the case of a number of it."""


def case_of_kinds(kinds: Kinds, drawn: Kinds, number: int) -> Case:
    """The case of a number where so many are of the first kind, so many of the second, and so on.

    Beyond all of them the kinds that are drawn take turns, with numbers of their own from where those are.
    """
    for count, kind in kinds:
        if number < count:
            return kind(number)
        number -= count
    first, kind = drawn[number % len(drawn)]
    return kind(first + number // len(drawn))
