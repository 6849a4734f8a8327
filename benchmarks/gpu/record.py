"""What a part has measured, as a file of JSON that is written anew with every figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_CODE = ("geohp", "benchmarks/gpu")


@dataclass(frozen=True)
class Figure:
    """A figure, and what it is held against.

    Attributes:
        name: what was measured.
        value: a number, or a word.
        unit: of the number.
        most, least: the bound it is to keep; ``None`` for none.
    """

    name: str
    value: float | str
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; ``None`` without one. What is no number keeps none."""
        if self.most is None and self.least is None:
            return None
        if isinstance(self.value, str):
            return False
        # NaN compares as False.
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


@dataclass(frozen=True)
class Record:
    """How a part went.

    Attributes:
        part: its name.
        card: what it ran on.
        code: hash of the code, see :func:`code_hash`.
        tiny: whether it was the dry run.
        figures, notes: what it measured, and what is to be said of it.
        seconds: it took.
        finished: it came to its end.
        error: the last line of what ended it otherwise; empty for nothing.
    """

    part: str
    card: str
    code: str
    tiny: bool
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False
    error: str = ""

    def is_current(self, card: str, code: str, *, tiny: bool) -> bool:
        """Whether it need not be measured again."""
        return self.finished and (self.card, self.code, self.tiny) == (card, code, tiny)


def write(folder: Path, record: Record) -> None:
    """Store a record, whole or not at all."""
    draft = folder / f"{record.part}.json.part"
    draft.write_text(json.dumps(asdict(record), indent=1))
    draft.replace(folder / f"{record.part}.json")


def read(folder: Path, part: str) -> Record | None:
    """The record of a part; ``None`` where there is none, or it is damaged."""
    try:
        fields: Mapping[str, Any] = json.loads((folder / f"{part}.json").read_text())
        return Record(**{**fields, "figures": [Figure(**figure) for figure in fields["figures"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def code_hash(root: Path = ROOT) -> str:
    """Of everything that figures depend on."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
