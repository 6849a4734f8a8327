"""A few cases of each part of hostile files and names, chosen to notice what was once broken."""

from __future__ import annotations

import pytest

from benchmarks.reliability import configurations, markup, models, secrets, vectors
from benchmarks.reliability.__main__ import attempt_named
from benchmarks.reliability.part import Part


def cases(part: Part, *words: str) -> list[object]:
    """The first case whose name holds each of some words."""
    names = [part.case(number).name for number in range(part.count)]
    numbers = [next(number for number, name in enumerate(names) if word in name) for word in words]
    return [pytest.param(part, number, id=f"{part.name}: {names[number]}"[:60]) for number in numbers]


SLICES = [
    *cases(
        configurations.PART, "billion laughs in options", "depth 10,000 of lists", "duplicate nested keys",
        "python new", "a backbone that is a list", "half a character in a name", "a path of 100,000",
        "'method.name=[hp]'",
    ),
    *cases(
        models.PART, "model damaged 4", "a card of depth 100,000", "card changed 9", "one NaN", "complex",
        "weights at '../../x'", "system, archive", "legend: billion laughs", "features 3",
    ),
    *cases(
        vectors.PART, "a multipolygon whose parts overlap as", "a TIN as", "1e308 as", "of the Moon", "mutated gpkg",
        "a name that is none", "a square as csv for change",
    ),
    *cases(markup.PART, "class of a legend: \"<script", "file: '\\x1b", "attribute: '=HYPERLINK"),
    *cases(secrets.PART, "SAS for segment, open", "basic for info, 403", "token for train, open"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "number"), SLICES)
def test_a_case_ends_right_or_in_a_sentence(apart, part: Part, number: int):
    outcome = apart(attempt_named, part.name, number).outcome
    assert outcome.verdict in ("right", "refused"), outcome.detail
