"""What can be known to be wrong with an evaluation before torch is imported, which takes seconds: plain data only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from geohp.errors import OutputError
from geohp.model.card import check_backbone_weights, read_card

PAGE, NUMBERS = "index.html", "evaluation.json"
"""What makes a folder the report of an evaluation."""

TABLE, SAMPLES, CONFUSION = "results.csv", "samples.png", "confusion-{}.png"
"""What else is in it."""

_OWN = re.compile("|".join(map(re.escape, (PAGE, NUMBERS, TABLE, SAMPLES))) + r"|confusion-\d+\.png|\..*")
"""Names in it that may go with it; hidden ones are of file managers."""


def check_models(files: Sequence[Path], weights: str | Path | None) -> None:
    """Refuse what is no model, or has lost its backbone's weights.

    Raises:
        ModelError, WeightsError: one sentence and its remedy.
    """
    for file in files:
        check_backbone_weights(file, read_card(file).backbone, weights)


def check_report(folder: Path, *, overwrite: bool) -> None:
    """Refuse to replace what is there, or anything that is no report."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / PAGE).is_file() or not (folder / NUMBERS).is_file():
        raise OutputError(f"{folder}: exists and is no report of an evaluation", "choose another folder")
    if foreign := sorted(path.name for path in folder.iterdir() if not _OWN.fullmatch(path.name)):
        problem = f"{folder}: holds {foreign[0]}, which is no part of a report and would go with it"
        raise OutputError(problem, "move it elsewhere or choose another folder")
    if not overwrite:
        raise OutputError(
            f"{folder}: exists already",
            "choose another folder or replace it with {option}",
            option="overwrite",
            value=True,
        )
